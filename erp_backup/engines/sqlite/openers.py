"""Which processes have a file open: asked of ``/proc``, and of SQLite's own locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from erp_backup.core.errors import LockedError

_PROCESSES = Path("/proc")
# Where every connection to a database file holds a lock while it reads or writes (in WAL mode: while it is open).
_LOCKS_BEGIN, _LOCKS_LENGTH = 0x40000000, 512
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """A process that has the file open."""

    pid: int
    program: str
    times: int = 1

    def __str__(self) -> str:
        """Return how messages name it."""
        own = ", this process" if self.pid == os.getpid() else ""
        return f"{self.pid} ({self.program}{own})"


def openers_of(paths: list[Path]) -> list[Opener]:
    """Return the processes that have one of the files open, as far as this user may know.

    Also those that have a file open that was deleted under that name: what they write there is lost.
    """
    wanted = _Wanted(
        identities=frozenset(identity for path in paths if (identity := _identity(path))),
        deleted=frozenset(f"{path} (deleted)" for path in paths),
    )
    processes = sorted(int(entry.name) for entry in _PROCESSES.glob("[0-9]*"))
    times = {pid: _count(pid, wanted) for pid in processes}
    return [Opener(pid=pid, program=_program(pid), times=count) for pid, count in times.items() if count]


def in_words(openers: list[Opener]) -> str:
    """Return the first few of them, for a message."""
    named = ", ".join(str(opener) for opener in openers[:_MOST_NAMED])
    return named if len(openers) <= _MOST_NAMED else f"{named} and {len(openers) - _MOST_NAMED} more"


def require_nobody(paths: list[Path], live: Path, *, own_descriptors: int = 0) -> None:
    """Raise LockedError naming the processes that have one of the files open; we may have ``own_descriptors``."""
    found = [opener for opener in openers_of(paths) if opener.pid != os.getpid() or opener.times > own_descriptors]
    if found:
        raise LockedError(
            f"{live} is missing or no database any more, and these processes have it open: {in_words(found)}.",
            remedy="Stop them, then run this again: what they hold open cannot be replaced under them.",
        )


@contextlib.contextmanager
def locked_out(path: Path) -> Iterator[None]:
    """Keep every SQLite connection from reading or writing the file. Raises LockedError where one already does.

    No connection of this process may be open: closing the file here would drop its locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS_LENGTH, _LOCKS_BEGIN)
    except (BlockingIOError, PermissionError) as error:
        raise LockedError(
            f"A process that cannot be named from here holds locks on {path}.",
            remedy="Stop the programs that use this database, then run this again.",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The files that are looked for: those that exist, and names whose files were deleted."""

    identities: frozenset[tuple[int, int]]
    deleted: frozenset[str]

    def has(self, descriptor: Path) -> bool:
        """Whether an entry of ``/proc/PID/fd`` is one of them."""
        if _identity(descriptor) in self.identities:
            return True
        try:
            return str(descriptor.readlink()) in self.deleted
        except OSError:
            return False


def _count(pid: int, wanted: _Wanted) -> int:
    try:
        descriptors = list((_PROCESSES / str(pid) / "fd").iterdir())
    except OSError:  # another user's process, or one that has just ended
        return 0
    return sum(wanted.has(descriptor) for descriptor in descriptors)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _program(pid: int) -> str:
    try:
        return (_PROCESSES / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "ended"
