"""The errors of this package, for those who call it from Python."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    DatabaseError,
    DifferenceError,
    InterruptedBySignal,
    KeyUnavailableError,
    LocationError,
    LockedError,
    MissingError,
    NoBackupError,
    NoSpaceError,
    NotADatabaseError,
    PartialError,
    ProgramError,
    ProgramMissingError,
    RefusedError,
    ServerUnreachableError,
    TimeLimitError,
    UsageError,
    VersionError,
)


class ConfigurationError(UsageError, ImproperlyConfigured):
    """The settings do not say something that can be done."""


__all__ = [
    "BackupError",
    "ConfigurationError",
    "CorruptError",
    "DatabaseError",
    "DifferenceError",
    "InterruptedBySignal",
    "KeyUnavailableError",
    "LocationError",
    "LockedError",
    "MissingError",
    "NoBackupError",
    "NoSpaceError",
    "NotADatabaseError",
    "PartialError",
    "ProgramError",
    "ProgramMissingError",
    "RefusedError",
    "ServerUnreachableError",
    "TimeLimitError",
    "UsageError",
    "VersionError",
]
