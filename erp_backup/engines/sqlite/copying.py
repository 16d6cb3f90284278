"""The snapshot: the live file's content, copied in one step of the backup API into a private file.

The backup API goes through SQLite's own locks and journals, so what waits in ``-wal`` is in the copy, in every journal
mode. One step (``pages=-1``) holds one read lock from the first page to the last: in WAL mode writers go on, in the
other modes they wait. In several steps it would begin anew after each commit, and never end under a busy writer.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from erp_backup.core.clock import Clock
from erp_backup.core.errors import LockedError
from erp_backup.core.spaces import no_space_as_error, require_space
from erp_backup.core.units import format_duration
from erp_backup.engines.sqlite.connecting import errors_in_words, in_words, opened, quoted
from erp_backup.engines.sqlite.live import require_readable, size_of

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PAUSE = 0.005  # seconds between two attempts to get the lock


def new_file(folder: Path, purpose: str) -> Path:
    """Create an empty file that only we can read. Raises NoSpaceError."""
    path = folder / f"{purpose}-{secrets.token_hex(4)}.sqlite3"
    with no_space_as_error(folder):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return path


def remove_file(path: Path) -> None:
    """Remove a file of ours and what SQLite may have left beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def copy_live(live: Path, copy: Path, *, clock: Clock, limit: float) -> datetime:
    """Copy the live database into the empty file at ``copy`` and return when its content was current.

    That moment is read just before the lock is asked for the last time: whatever was committed until then is in the
    copy, and so a backup never claims to be newer than it is.

    Raises LockedError when the live database stayed locked for ``limit`` seconds, NoSpaceError, NotADatabaseError,
    ServerUnreachableError.
    """
    require_space(copy.parent, size_of(live))
    require_readable(live, limit)
    attempt = _Attempt(live, clock, limit)
    try:
        _copy(live, copy, attempt)
    except sqlite3.Error as error:
        is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise in_words(error, copy if is_full else live) from error
    return attempt.began_at


class _Attempt:
    """Told after each try to get the lock; notes when the last one began, and gives up when the time is over."""

    def __init__(self, live: Path, clock: Clock, limit: float) -> None:
        self.began_at = clock.now()
        self._live = live
        self._clock = clock
        self._limit = limit
        self._deadline = clock.monotonic() + limit

    def __call__(self, status: int, _remaining: int, _total: int) -> None:
        if status & 0xFF not in _BUSY:
            return
        if self._clock.monotonic() > self._deadline:
            waited = format_duration(timedelta(seconds=self._limit))
            raise LockedError(
                f"The database {self._live} has been locked by another process for {waited}.",
                remedy="Wait until that process has ended its transaction, then run this again.",
            )
        self.began_at = self._clock.now()


def _copy(live: Path, copy: Path, attempt: _Attempt) -> None:
    with opened(live, "mode=ro") as source, opened(copy, "mode=rw") as target:
        # If we die the copy is thrown away: it needs no journal and no fsync.
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        source.backup(target, pages=-1, progress=attempt, sleep=_PAUSE)


def matching(tables: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Return the tables that a pattern names (``*`` and ``?`` as in file names; SQLite's names know no case)."""
    return [name for name in tables if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)]


def delete_rows(copy: Path, connection: sqlite3.Connection, tables: list[str], *, vacuum: bool) -> None:
    """Delete all rows of ``tables`` from the copy; triggers do not fire. With ``vacuum`` nothing is left in its bytes.

    Raises NoSpaceError.
    """
    with errors_in_words(copy):
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("BEGIN")
        for table in tables:
            _delete_all(connection, table)
        connection.execute("COMMIT")
        if vacuum:
            connection.execute("VACUUM")


def _delete_all(connection: sqlite3.Connection, table: str) -> None:
    # Python's sqlite3 cannot switch triggers off: they are dropped and made again, by their own words.
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)"
    triggers = connection.execute(query, [table]).fetchall()
    for name, _definition in triggers:
        connection.execute(f"DROP TRIGGER {quoted(name)}")
    connection.execute(f"DELETE FROM {quoted(table)}")  # noqa: S608 - a quoted identifier
    for _name, definition in triggers:
        connection.execute(definition)
