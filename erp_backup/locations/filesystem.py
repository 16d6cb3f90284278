"""Folders: local disks and mounted shares, through Django's file-system storage."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage

from erp_backup.conf import LocationConfig
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

    def _partial(self, name: str) -> Path:
        return self._folder / f".{require_safe(name)}{_PARTIAL}"

    def save(self, name: str, chunks: Iterable[bytes]) -> int:
        """Store a whole file; see the contract in the base class."""
        final, partial = self._path(name), self._partial(name)
        with self._errors(f"{name} cannot be written"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if final.exists():
                raise self._taken(name)
            try:
                size = self._write(partial, chunks)
                self._publish(partial, final, name)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        return size

    def _write(self, partial: Path, chunks: Iterable[bytes]) -> int:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        size = 0
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, 0o600)
            for chunk in chunks:
                _write_all(descriptor, chunk)
                size += len(chunk)
            os.fsync(file.fileno())
            # A file system that lies about what it took (a full network share does) is found out here.
            if os.fstat(descriptor).st_size != size:
                raise LocationError(f"{self.alias}: {partial.name} has not the {size:,} bytes that were written.")
        return size

    def _publish(self, partial: Path, final: Path, name: str) -> None:
        """Give the finished file its name: a hard link fails where the name is taken, a rename would overwrite."""
        try:
            os.link(partial, final)
        except FileExistsError as error:
            raise self._taken(name) from error
        except OSError:
            # File systems without hard links (FAT, some shares): names are unique and were looked for above.
            partial.rename(final)
        else:
            partial.unlink()
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

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
            if not self._folder.is_dir():
                return []
            with os.scandir(self._folder) as entries:
                return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())

    def exists(self, name: str) -> bool:
        """Whether a whole file of that name is there."""
        return self._path(name).is_file()

    def delete(self, name: str) -> None:
        """Remove a file and make that durable."""
        with self._errors(f"{name} cannot be deleted"):
            self._path(name).unlink(missing_ok=True)
            if self._folder.is_dir():
                self._sync_folder()

    def remove_unfinished(self, name: str) -> None:
        """Remove the partial file of a dead attempt."""
        with self._errors(f"{name} cannot be deleted"):
            self._partial(name).unlink(missing_ok=True)

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
            f"The location {self.alias!r} ({self._folder}) failed: {what}: {error.strerror}.",
            remedy="Look at the folder, its rights and its disk, then run this again.",
        )


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


LOCATION = FileSystemLocation
