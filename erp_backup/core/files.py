"""Files and folders that are private, whole, and still there after the power has failed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from erp_backup.core.interrupts import signals_held

# What a file system without hard links answers (FAT, some shares), or one whose inode has no room for another.
_WITHOUT_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents with mode 0700, whatever the umask. Raises OSError.

    What exists keeps its mode. Something else than a folder in its place raises FileExistsError or NotADirectoryError.
    """
    missing = list(takewhile(lambda place: not place.is_dir(), [folder, *folder.parents]))
    for place in reversed(missing):
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            if not place.is_dir():
                raise
        else:
            place.chmod(0o700)
            sync_folder(place.parent)


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file of that mode that was not there, durably. Raises FileExistsError and every other OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def create_whole(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that appears with all its bytes or not at all, and never replaces another.

    One process at a time. Raises FileExistsError when the name is taken, and every other OSError.
    """
    with _written_beside(path, content) as partial:
        give_name(partial, path)


def replace_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file of that mode in place of what stands at ``path``: afterwards there is the old one or the new one.

    One process at a time. Raises OSError.
    """
    with _written_beside(path, content, mode=mode) as partial:
        partial.replace(path)
        sync_folder(path.parent)


def partial_of(path: Path) -> Path:
    """Return where a file is written before it has its name: what a dead process may have left there."""
    return path.with_name(f".{path.name}.new")


@contextlib.contextmanager
def _written_beside(path: Path, content: bytes, *, mode: int = 0o600) -> Iterator[Path]:
    """A finished file under another name, always the same one: what a dead process left is written anew."""
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    try:
        write_new(partial, content, mode=mode)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def give_name(partial: Path, final: Path) -> None:
    """Let a finished file appear under its name, durably, and never over another file.

    When it fails, or a signal ends it, nothing of ours stands under the name. Raises FileExistsError when the name is
    taken, and every other OSError.
    """
    is_published = False
    try:
        with signals_held():
            _link_or_rename(partial, final)
            is_published = True
            sync_folder(final.parent)
    except BaseException:
        if is_published:
            final.unlink(missing_ok=True)
        raise


def _link_or_rename(partial: Path, final: Path) -> None:
    """A hard link fails where the name is taken, a rename would overwrite: it is for file systems without links."""
    try:
        os.link(partial, final)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from error
        partial.rename(final)
    else:
        partial.unlink()
