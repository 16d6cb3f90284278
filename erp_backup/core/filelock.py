"""A lock that dies with its holder and says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from erp_backup.core import files
from erp_backup.core.errors import LockedError
from erp_backup.core.spaces import no_space_as_error


@contextlib.contextmanager
def hold(path: Path, *, holder: str) -> Iterator[None]:
    """Hold the lock file at ``path``, with ``holder`` written in it.

    Raises LockedError naming who has it, NoSpaceError when there is no room for the name.
    """
    with no_space_as_error(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, path)
        with no_space_as_error(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, holder.encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = os.pread(descriptor, 500, 0).decode(errors="replace") or "an unknown process"
        raise LockedError(
            f"{other} holds {path.name}.", remedy="Wait until it has ended, then run this again."
        ) from error


@contextlib.contextmanager
def wait_for(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path`` as soon as it is free: for steps too short to tell of. Raises NoSpaceError."""
    with no_space_as_error(path):
        files.make_private_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock file at ``path`` (also when there is no such file)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
