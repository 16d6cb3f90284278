"""What is brought: a regular file, or a file in a location; opened so that nothing else is read in its place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from erp_backup.core.errors import LocationError, MissingError, RefusedError, UsageError
from erp_backup.core.names import is_safe
from erp_backup.locations.base import Location

_CHUNK = 1 << 20
_METADATA_LIMIT = 64 * 1024
METADATA_SUFFIX = ".metadata"  # what django-dbbackup writes beside an archive


class Source(ABC):
    """One archive that somebody brings. ``name`` is shown; ``modified_at`` is None where nobody knows it."""

    name: str
    size: int
    modified_at: datetime | None = None

    @abstractmethod
    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes, from the beginning each time. Raises LocationError, MissingError."""

    @abstractmethod
    def beside(self, suffix: str) -> bytes:
        """Return a small file of the same name with ``suffix`` behind it; nothing where there is none."""


@dataclass(kw_only=True)
class FileSource(Source):
    """A file of this machine."""

    path: Path

    def __post_init__(self) -> None:
        self.name = printable(self.path.name)
        with _opened(self.path) as descriptor:
            found = os.fstat(descriptor)
        self.size = found.st_size
        self.modified_at = datetime.fromtimestamp(found.st_mtime, tz=UTC)

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes; what the name leads to is looked at each time it is opened."""
        with _opened(self.path) as descriptor:
            while chunk := os.read(descriptor, _CHUNK):
                yield chunk

    def beside(self, suffix: str) -> bytes:
        """Read it, if it is a regular file."""
        other = self.path.with_name(self.path.name + suffix)
        if not os.path.lexists(other):
            return b""
        with _opened(other) as descriptor:
            return os.read(descriptor, _METADATA_LIMIT)


@dataclass(kw_only=True)
class LocationSource(Source):
    """A file in a location that has no folder here."""

    location: Location
    name: str

    def __post_init__(self) -> None:
        self.size = self.location.size(self.name)

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes."""
        return self.location.open(self.name)

    def beside(self, suffix: str) -> bytes:
        """Read it, if it is there."""
        try:
            return b"".join(self.location.open(self.name + suffix))[:_METADATA_LIMIT]
        except MissingError:
            return b""


def source_in(location: Location, name: str) -> Source:
    """Return the source for a file of a location. Raises UsageError for a name that is none of a file."""
    if not is_safe(name):
        raise UsageError(
            f"{printable(name)} is not a name that a backup would have.",
            remedy="Rename it to letters, digits, '.', '_' and '-', then run this again.",
        )
    path = Path(location.describe(name))
    if path.is_absolute() and os.path.lexists(path):
        return FileSource(path=path)
    return LocationSource(location=location, name=name)


def printable(name: str) -> str:
    """Return a name as it can be shown and kept: whatever would move a cursor, or is no text, is written as ``?``."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)[:200] or "?"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a regular file, and nothing that only looks like one. Raises RefusedError, UsageError, LocationError."""
    shown = printable(str(path))
    try:
        # Not blocking: a named pipe would hold the run for ever. The link itself: it may lead anywhere.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise _not_opened(shown, error) from error
    except ValueError as error:  # a NUL character
        raise UsageError(f"{shown} cannot be the name of a file.") from error
    try:
        _require_regular(shown, path, os.fstat(descriptor).st_mode)
        yield descriptor
    except OSError as error:
        raise LocationError(f"{shown} cannot be read: {error.strerror}.", remedy="Look at its disk.") from error
    finally:
        os.close(descriptor)


def _not_opened(shown: str, error: OSError) -> UsageError | RefusedError:
    if error.errno == errno.ELOOP:
        return RefusedError(f"{shown} is a symbolic link.", remedy="Name the file that it leads to.")
    if error.errno in {errno.ENXIO, errno.ENODEV}:
        return RefusedError(f"{shown} is not a regular file.", remedy="Copy what it gives into a file, and name that.")
    return UsageError(f"{shown} cannot be opened: {error.strerror}.", remedy="Look at its name and its rights.")


def _require_regular(shown: str, path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode) and (path / "toc.dat").exists():
        raise RefusedError(
            f"{shown} is an archive of pg_dump's directory format, which cannot be imported.",
            remedy="Restore it with pg_restore into a new database, and back that one up; or dump with -Fc.",
        )
    what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
    raise RefusedError(f"{shown} is {what}.", remedy="Name a file that holds an archive.")
