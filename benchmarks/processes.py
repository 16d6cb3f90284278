"""What Linux tells of running processes: who belongs together, their memory, processor time and open files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_BLOCK = 512  # bytes, whatever the file system's own blocks are


def tree(pid: int) -> list[int]:
    """Return a process and all that it started, as far as they live."""
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def _children(pid: int) -> Iterator[int]:
    with suppress(*_GONE):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(*_GONE):
                yield from map(int, (task / "children").read_text().split())


def memory(pids: list[int]) -> int:
    """Return the bytes of memory that these processes use together; what they share is counted once."""
    return sum(map(_proportional_size, pids))


def _proportional_size(pid: int) -> int:
    with suppress(*_GONE):
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def processor_seconds(pid: int) -> float:
    """Return user and system time of a process and of all that it started, the ended ones included."""
    return sum(map(_own_and_reaped, tree(pid)))


def _own_and_reaped(pid: int) -> float:
    with suppress(*_GONE):
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
        # From the state, the third field: utime, stime, cutime and cstime are 14 to 17.
        return sum(map(int, fields[11:15])) / _TICKS
    return 0.0


def nameless_files(pids: list[int]) -> int:
    """Return the bytes on disk of files that these processes hold open although their names are gone."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(*_GONE):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                with suppress(*_GONE):
                    _note_if_nameless(descriptor, found)
    return sum(found.values())


def _note_if_nameless(descriptor: Path, found: dict[tuple[int, int], int]) -> None:
    target = os.readlink(descriptor)  # noqa: PTH115 - a text, and often no path at all
    if target.startswith("/") and target.endswith(" (deleted)"):
        status = descriptor.stat()
        found[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK


def disk_use(folder: Path) -> int:
    """Return the bytes that the files below a folder take on disk."""
    total = 0
    with suppress(*_GONE), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(*_GONE):
                if entry.is_dir(follow_symlinks=False):
                    total += disk_use(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    return total
