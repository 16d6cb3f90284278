"""Maintenance mode: a file, so that it needs no database and outlives whoever has set it.

Entered by a person it stays until a person leaves it. Entered by a run it belongs to that run: when its process is gone
it is stale, which is said, and the next run ends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from erp_backup.conf import Config, MaintenanceConfig
from erp_backup.core import filelock, files, jsondata
from erp_backup.core.errors import CorruptError, UsageError
from erp_backup.core.identity import ProcessIdentity, this_process
from erp_backup.core.spaces import no_space_as_error
from erp_backup.services.environment import Environment

_MOST_BYTES = 100_000  # the file is read by every web process; anything longer is not ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """That the ERP is closed: why, since when, until about when, and by whom.

    ``owner`` is the run that it belongs to, empty where a person has set it; then there is no ``process`` either.
    """

    reason: str = ""
    since: datetime | None = None  # None: the file cannot be read by this user, or holds nothing that we have written
    until: datetime | None = None
    by: str = ""
    owner: str = ""
    process: ProcessIdentity | None = None

    @property
    def is_stale(self) -> bool:
        """Whether it belongs to a run whose process has ended without ending it."""
        return self.process is not None and self.process.is_gone

    def retry_after(self, now: datetime, default: int) -> int:
        """Return in how many seconds clients should come again."""
        left = (self.until - now).total_seconds() if self.until is not None else 0
        return round(left) if left >= 1 else default


def enter(environment: Environment, *, reason: str, until: datetime | None = None, owner: str = "") -> Maintenance:
    """Close the ERP, durably, and return the maintenance mode that now holds.

    With ``owner`` it belongs to this process; one that a person has set stays as it is. Raises UsageError where the
    file cannot be written, NoSpaceError.
    """
    entered = Maintenance(
        reason=reason,
        since=environment.clock.now(),
        until=until,
        by=environment.actor,
        owner=owner,
        process=this_process() if owner else None,
    )
    with _changing(environment.config):
        before = state(environment.config)
        if owner and before is not None and not before.owner:
            return before
        config = environment.config.maintenance
        # Nothing in it is a secret: its reason is what the page shows to everyone.
        files.replace_whole(config.file, _bytes_of(entered), mode=0o644 if config.is_shared else 0o600)
    return entered


def leave(environment: Environment, *, owner: str | None = None) -> Maintenance | None:
    """Open the ERP; return the maintenance mode that was ended, None where there was none.

    With ``owner`` only that run's own is ended: what a person has set meanwhile stays. Raises UsageError.
    """
    with _changing(environment.config):
        before = state(environment.config)
        if before is None or (owner is not None and before.owner != owner):
            return None
        _remove(environment.config.maintenance.file)
    return before


def leave_stale(environment: Environment) -> Maintenance | None:
    """End the maintenance mode of a run that died, and return it; any other stays. Raises UsageError."""
    with _changing(environment.config):
        before = state(environment.config)
        if before is None or not before.is_stale:
            return None
        _remove(environment.config.maintenance.file)
    environment.reporter.note(f"Ended the maintenance mode of {before.owner}, a run that died.")
    return before


@contextlib.contextmanager
def closed(environment: Environment, *, reason: str, owner: str) -> Iterator[Maintenance]:
    """Keep the ERP closed for a run; it is opened at the end, also after an error, unless a person has closed it."""
    entered = enter(environment, reason=reason, owner=owner)
    try:
        yield entered
    finally:
        leave(environment, owner=owner)


def state(config: Config) -> Maintenance | None:
    """Return the maintenance mode that holds, None where the ERP is open."""
    return read(config.maintenance)


def read(config: MaintenanceConfig) -> Maintenance | None:
    """Return what the file says; one that cannot be read says that the ERP is closed, and no more."""
    try:
        with config.file.open("rb") as file:
            return jsondata.from_data(Maintenance, jsondata.parse(file.read(_MOST_BYTES)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, CorruptError):
        # A folder that may not be searched hides whether there is a file.
        return Maintenance() if _is_there(config.file) else None


def _is_there(file: Path) -> bool:
    try:
        file.lstat()
    except OSError:
        return False
    return True


def _bytes_of(maintenance: Maintenance) -> bytes:
    data = {key: value for key, value in jsondata.to_data(maintenance).items() if value is not None}
    return jsondata.canonical(data)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    files.sync_folder(file.parent)


@contextlib.contextmanager
def _changing(config: Config) -> Iterator[None]:
    """One change at a time; what the system refuses, in words."""
    file = config.maintenance.file
    try:
        with filelock.wait_for(config.state_dir / "locks" / "maintenance.lock"), no_space_as_error(file):
            yield
    except OSError as error:
        raise UsageError(
            f"The maintenance mode's file {file} cannot be changed: {error.strerror}.",
            remedy="Name a file in a folder that exists and is this user's own in ERP_BACKUP['MAINTENANCE']['FILE'].",
        ) from error


def described(maintenance: Maintenance | None) -> str:
    """Return a line for people."""
    if maintenance is None:
        return "Maintenance mode is off: the ERP is open."
    since = f" since {maintenance.since:%Y-%m-%d %H:%M:%S} UTC" if maintenance.since else ""
    by = f" by {maintenance.by}" if maintenance.by else ""
    reason = f": {maintenance.reason}" if maintenance.reason else "."
    return f"Maintenance mode is on{since}{by}{reason}"


def warning_about(maintenance: Maintenance | None) -> str:
    """Return what people should know about a stale one, else nothing."""
    if maintenance is None or not maintenance.is_stale:
        return ""
    return (
        f"It belongs to {maintenance.owner}, a run that died. Run the restore's command again, which completes or "
        "undoes what that run did, or end it: manage.py maintenance off."
    )
