"""Full disks, told apart from every other failure of a file."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from erp_backup.core.errors import NoSpaceError
from erp_backup.core.units import format_size

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def no_space_as_error(place: Path | str) -> Iterator[None]:
    """Turn the operating system's "no space" into NoSpaceError naming ``place``; other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoSpaceError(
            f"No space left at {place}: {error.strerror}.", remedy="Free space there, then run this again."
        ) from error


def require_space(place: Path, needed: int) -> None:
    """Raise NoSpaceError unless the file system of ``place`` has ``needed`` bytes free."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NoSpaceError(
            f"{format_size(needed)} are needed at {place}, {format_size(free)} are free.",
            remedy="Free space there, then run this again.",
        )
