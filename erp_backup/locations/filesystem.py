"""Folders: local disks and mounted shares, through Django's file-system storage."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage

from erp_backup.conf import LocationConfig
from erp_backup.core import files
from erp_backup.core.errors import LocationError, MissingError
from erp_backup.core.names import require_safe
from erp_backup.core.spaces import no_space_as_error
from erp_backup.locations.base import Location

_CHUNK = 1024 * 1024
_PARTIAL = ".partial"


class FileSystemLocation(Location):
    """Writes beside, syncs, then links: a name appears with all its bytes or not at all.

    The storage's ``save`` is not used: it leaves a partial file under the final name when the stream fails, and
    stores under another name when the one asked for is taken. Files have mode 0600, folders 0700, whatever the umask.
    """

    reads_cheaply = True

    def __init__(self, config: LocationConfig, storage: FileSystemStorage) -> None:
        super().__init__(config, storage)
        self._folder = Path(storage.path(config.prefix)) if config.prefix else Path(storage.location)

    @classmethod
    def accepts(cls, storage: Any) -> bool:
        """Every storage that has a folder."""
        return isinstance(storage, FileSystemStorage)

    def _path(self, name: str) -> Path:
        return self._folder / require_safe(name)

    def save(self, name: str, chunks: Iterable[bytes]) -> int:
        """Store a whole file; see the contract in the base class."""
        # A name of its own for every attempt: two that want the same final name do not write into one file.
        final, partial = self._path(name), self._folder / f".{name}.{secrets.token_hex(4)}{_PARTIAL}"
        what = f"{name} cannot be written"
        with self._errors(what):
            files.make_private_folder(self._folder)
            if os.path.lexists(final):
                raise self._taken(name)
        try:
            size = self._write(partial, chunks, what)
            with self._errors(what):
                self._publish(partial, final, name)
        except BaseException:
            with contextlib.suppress(OSError):  # the error that is on its way says more
                partial.unlink(missing_ok=True)
            raise
        return size

    def _write(self, partial: Path, chunks: Iterable[bytes], what: str) -> int:
        """Errors of ``chunks`` are not this location's."""
        with self._errors(what):
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        size = 0
        try:
            for chunk in chunks:
                with self._errors(what):
                    _write_all(descriptor, chunk)
                size += len(chunk)
            with self._errors(what):
                self._finish(descriptor, size)
        finally:
            os.close(descriptor)
        return size

    def _finish(self, descriptor: int, size: int) -> None:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
        found = os.fstat(descriptor).st_size
        # A file system that lies about what it took (a full network share does) is found out here.
        if found != size:
            raise LocationError(
                f"{self._folder} took {size:,} bytes and holds {found:,} of them.", remedy="Look at its disk."
            )

    def _publish(self, partial: Path, final: Path, name: str) -> None:
        try:
            files.give_name(partial, final)
        except FileExistsError as error:
            raise self._taken(name) from error

    def open(self, name: str) -> Iterator[bytes]:
        """Yield the stored bytes in chunks of one megabyte."""
        with self._errors(f"{name} cannot be read", name), self._path(name).open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def size(self, name: str) -> int:
        """Return the stored size in bytes."""
        with self._errors(f"{name} cannot be read", name):
            return self._path(name).stat().st_size

    def names(self) -> list[str]:
        """Return the names of all finished files."""
        with self._errors("it cannot be listed"):
            if not self._folder.exists():
                return []
            with os.scandir(self._folder) as entries:
                return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())

    def exists(self, name: str) -> bool:
        """Whether a whole file of that name is there."""
        with self._errors(f"{name} cannot be looked for"):
            try:
                return stat.S_ISREG(self._path(name).stat().st_mode)
            except FileNotFoundError:
                return False

    def delete(self, name: str) -> None:
        """Remove a file and make that durable."""
        with self._errors(f"{name} cannot be deleted"):
            self._path(name).unlink(missing_ok=True)
            if self._folder.is_dir():
                files.sync_folder(self._folder)

    def remove_unfinished(self, name: str) -> None:
        """Remove the partial files of dead attempts."""
        partial = re.compile(rf"\.{re.escape(require_safe(name))}\.[0-9a-f]{{8}}{re.escape(_PARTIAL)}")
        with self._errors(f"unfinished files of {name} cannot be removed"):
            for found in self._folder.iterdir() if self._folder.exists() else ():
                if partial.fullmatch(found.name):
                    found.unlink(missing_ok=True)

    def describe(self, name: str) -> str:
        """Return the file's path."""
        return str(self._path(name))

    def _taken(self, name: str) -> LocationError:
        return LocationError(
            f"{self.alias}: there is already a file {name} in {self._folder}.",
            remedy="It was not touched. Use another name.",
        )

    @contextlib.contextmanager
    def _errors(self, what: str, name: str = "") -> Iterator[None]:
        try:
            with no_space_as_error(self._folder):
                yield
        except FileNotFoundError as error:
            if name:
                raise MissingError(
                    f"{name} is not in the location {self.alias!r} ({self._folder}).",
                    remedy="Restore it from another location, or use another backup.",
                ) from error
            raise self._failed(what, error) from error
        except OSError as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: OSError) -> LocationError:
        return LocationError(
            f"The location {self.alias!r} ({self._folder}) failed: {what}: {error.strerror or error}.",
            remedy="Look at the folder, its rights and its disk, then run this again.",
        )


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


LOCATION = FileSystemLocation
