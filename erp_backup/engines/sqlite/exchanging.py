"""The image's content into the live file, as one transaction of the backup API, the old content kept exactly.

The first step takes the lock that keeps every writer out (WAL mode: the write lock, readers go on; other modes:
EXCLUSIVE) and copies a few pages into its own cache. From then until the end nobody commits, and the live file is still
what it was: now its content is copied and brought to the disk, and only then is the second step made. So what is kept
is the very last state before the switch, with every write ever acknowledged. An error on the way rolls all back.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from erp_backup.core.clock import Clock
from erp_backup.core.errors import CorruptError, LockedError, NoSpaceError, ProgramError
from erp_backup.core.process import Command, ProcessRunner, base_environment
from erp_backup.core.programs import says_no_space
from erp_backup.core.units import format_duration
from erp_backup.engines.sqlite import rawcopy
from erp_backup.engines.sqlite.connecting import READ_ONLY, errors_in_words, in_words, opened, pragma
from erp_backup.engines.sqlite.images import make_durable

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PAUSE = 0.005  # seconds between two attempts to get the lock
# Seconds that SQLite itself waits for readers to leave, while it lets no new ones in: without it, in rollback modes,
# readers that take turns would keep us out for ever. Signals wait as long.
_PATIENCE = 0.5
# Of a step: half of SQLite's smallest cache, so what the first step copies stays there and reaches no file.
_MOST_BYTES = 1 << 20
_CACHE = 32_000  # KiB: each time it is full, rollback modes wait for the disk
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_WAL_VERSION = 2
_HEADER_VERSION = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the live file is made; an image must have the same page size."""

    page_size: int
    is_wal: bool


def layout_of(live: Path, runner: ProcessRunner, limit: float) -> Layout:
    """Return how a live file that opens is made. Raises LockedError, ServerUnreachableError."""
    with errors_in_words(live), opened(live, "mode=rw", timeout=limit) as connection:
        page_size = pragma(connection, "page_size")
        try:
            mode = pragma(connection, "journal_mode")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
        else:
            return Layout(page_size=page_size, is_wal=mode == "wal")
    # SQLite answers only when it can read the schema, the file's head says it too.
    return Layout(page_size=page_size, is_wal=_head(live, runner)[_HEADER_VERSION] == _WAL_VERSION)


def exchange(image: Path, live: Path, *, keep: Callable[[], None], clock: Clock, limit: float) -> None:
    """Make the prepared ``image`` the content of ``live``; ``keep`` is called once, while nobody can write.

    Raises LockedError when others' locks did not go within ``limit`` seconds, NoSpaceError and their kin; the live
    database is then as it was. What ``keep`` raises is passed on.
    """
    attempt = _Attempt(live, keep, clock, limit)
    while True:
        try:
            _attempt(image, live, attempt)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            # A commit or a recovery by another process at the very moment: Connection.backup gives that up.
            if code & 0xFF not in _BUSY or attempt.has_kept:
                raise in_words(error, live) from error
            attempt(sqlite3.SQLITE_BUSY, 0, 0)
        else:
            return


class _Attempt:
    """Told after each step; keeps the old content after the first, and gives up when the time is over."""

    def __init__(self, live: Path, keep: Callable[[], None], clock: Clock, limit: float) -> None:
        self.has_kept = False
        self.patience = min(_PATIENCE, limit)
        self._live = live
        self._keep = keep
        self._clock = clock
        self._limit = limit
        self._deadline = clock.monotonic() + limit

    def __call__(self, status: int, _remaining: int, _total: int) -> None:
        if status == sqlite3.SQLITE_OK and not self.has_kept:
            self._keep()
            self.has_kept = True
        elif status & 0xFF in _BUSY and self._clock.monotonic() > self._deadline:
            waited = format_duration(timedelta(seconds=self._limit))
            raise LockedError(
                f"The database {self._live} has been in use by other processes for {waited}; nothing was changed.",
                remedy="Wait until they have ended their transactions, or stop them, then run this again.",
            )


def _attempt(image: Path, live: Path, attempt: _Attempt) -> None:
    with opened(image, READ_ONLY) as source, opened(live, "mode=rw", timeout=attempt.patience) as target:
        _set_up(target)
        # The mark alone takes two pages: the first step never is the last one as well.
        pages = max(1, min(_MOST_BYTES // pragma(source, "page_size"), pragma(source, "page_count") // 2))
        try:
            source.backup(target, pages=pages, progress=attempt, sleep=_PAUSE)
        finally:
            # So that the disk does not hold it twice, or what a failure has left in -wal, for longer than it must.
            with suppress(sqlite3.Error):
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _set_up(target: sqlite3.Connection) -> None:
    try:
        make_durable(target)
        target.execute(f"PRAGMA cache_size=-{_CACHE}")
    except sqlite3.DatabaseError as error:
        # The schema cannot be read: the library's own settings are durable as well (FULL), only slower.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
            raise


def copy_content(live: Path, copy: Path) -> None:
    """Copy a live database in WAL mode into the empty file ``copy``, through SQLite: part of it is in ``-wal``.

    Raises NoSpaceError and its kin.
    """
    try:
        with opened(live, "mode=ro", timeout=_PATIENCE) as source, opened(copy, "mode=rw") as target:
            target.execute("PRAGMA journal_mode=OFF")
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target, pages=-1, progress=_refuse_to_wait)
    except sqlite3.Error as error:
        is_full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        raise in_words(error, copy if is_full else live) from error


def _refuse_to_wait(status: int, _remaining: int, _total: int) -> None:
    if status & 0xFF in _BUSY:
        raise LockedError("A database that is being replaced could not be read.", remedy="Run this again.")


def copy_bytes(live: Path, copy: Path, runner: ProcessRunner) -> None:
    """Copy the bytes of a live file that is locked by this process, in another one, durably.

    Raises NoSpaceError and its kin.
    """
    try:
        runner.run(_rawcopy(live, copy))
    except ProgramError as error:
        if says_no_space(error.stderr):
            raise NoSpaceError(
                f"No space left for a copy of {live} at {copy.parent}.",
                remedy="Free space there, then run this again.",
            ) from error
        raise


def _head(live: Path, runner: ProcessRunner) -> bytes:
    head = runner.run(_rawcopy(live)).stdout
    if len(head) <= _HEADER_VERSION:
        raise CorruptError(f"{live} has only {len(head)} bytes.")
    return head


def _rawcopy(*paths: Path) -> Command:
    program = (sys.executable, "-I", "-S", rawcopy.__file__)
    return Command(argv=(*program, *map(str, paths)), env=base_environment())
