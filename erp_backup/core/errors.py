"""Every failure this package can name: one class each, with its exit code and its remedy.

The exit codes are documented API (docs/reference/exit-codes.md). ``core`` knows no Django; configuration
errors that must also be Django's ``ImproperlyConfigured`` stand in :mod:`erp_backup.exceptions`.
"""

from __future__ import annotations

from typing import ClassVar


class BackupError(Exception):
    """Base of every error of this package. Do not raise directly.

    ``message`` says what happened and to what; ``remedy`` says what to do next. Neither holds a secret.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the sentence people read: what happened, then what to do next."""
        return f"{self.message} {self.remedy}".strip()


class UsageError(BackupError):
    """The command was asked for something that does not exist or does not fit together."""

    exit_code = 2


class PartialError(BackupError):
    """The backup exists, but something beside it could not be done (a copy, the history)."""

    exit_code = 3


class NoBackupError(BackupError):
    """There is no backup that answers the request, or only one that is too old."""

    exit_code = 4


class CorruptError(BackupError):
    """Stored bytes are not what was stored: damaged, cut, swapped, replayed or edited."""

    exit_code = 5


class MissingError(CorruptError):
    """An archive or manifest that must exist is gone."""


class DifferenceError(BackupError):
    """The backup was restored and its figures differ from those of the snapshot."""

    exit_code = 6


class LockedError(BackupError):
    """Another run, or another session of the database, holds what this one needs."""

    exit_code = 7


class KeyUnavailableError(BackupError):
    """A key is missing, unreadable, unknown, or not the one the bytes were made with."""

    exit_code = 8


class RefusedError(BackupError):
    """The request would endanger something and was not carried out."""

    exit_code = 9


class ProgramError(BackupError):
    """A database program failed.

    ``program`` is its name, ``status`` its exit status (negative: killed by that signal), ``stderr`` the end of
    what it said.
    """

    exit_code = 20

    def __init__(
        self, message: str, *, program: str, status: int | None = None, stderr: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.program = program
        self.status = status
        self.stderr = stderr


class TimeLimitError(ProgramError):
    """A program was stopped because it was silent, or ran, for longer than its limit."""


class DatabaseError(BackupError):
    """The database refused or failed a statement of ours."""

    exit_code = 20


class NotADatabaseError(DatabaseError):
    """The file is not a database of the kind it should be."""


class MigrationError(BackupError):
    """Migrating the restored copy failed; the live database is untouched.

    ``stderr`` is the end of what ``migrate`` said.
    """

    exit_code = 20

    def __init__(self, message: str, *, stderr: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.stderr = stderr


class ProgramMissingError(BackupError):
    """A program that is needed is not installed."""

    exit_code = 21


class VersionError(BackupError):
    """Versions do not fit: a client older than its server, a format newer than this code."""

    exit_code = 22


class ServerUnreachableError(BackupError):
    """The database server (or file) cannot be reached or opened with these settings."""

    exit_code = 23


class LocationError(BackupError):
    """A location refused, failed or lost something."""

    exit_code = 30


class NoSpaceError(BackupError):
    """A disk is full, here or at the server."""

    exit_code = 31


class InterruptedBySignal(BackupError):  # noqa: N818 - reads as what happened, like KeyboardInterrupt
    """A signal asked the run to end; ``exit_code`` is 128 + the signal's number."""

    def __init__(self, signal_number: int, signal_name: str) -> None:
        super().__init__(f"Stopped by {signal_name}.", remedy="Nothing was left behind; run it again.")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # type: ignore[misc]  # the one error whose code is not its class's
