"""What every location does: it keeps whole files under names of ours, and never half of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from erp_backup.conf import LocationConfig


class Location(ABC):
    """A place that keeps archives and manifests. Made for one configured location."""

    # Does reading a stored file twice cost next to nothing (no network between)?
    reads_cheaply: ClassVar[bool] = False

    def __init__(self, config: LocationConfig, storage: Any) -> None:  # noqa: ARG002 - what subclasses keep files in
        self.config = config
        self.alias = config.alias

    @classmethod
    @abstractmethod
    def accepts(cls, storage: Any) -> bool:
        """Whether this kind of location keeps files in such a Django storage."""

    @abstractmethod
    def save(self, name: str, chunks: Iterable[bytes]) -> int:
        """Store the whole of ``chunks`` durably under ``name`` and return its size in bytes.

        All or nothing: an error of ``chunks`` (which is raised as it is), of the disk or of this process leaves nothing
        under ``name``. What stood there before is never touched: a name that is taken raises LocationError, one that
        is no plain file name UsageError. Raises NoSpaceError on a full disk.
        """

    @abstractmethod
    def open(self, name: str) -> Iterator[bytes]:
        """Yield the stored bytes. Raises MissingError when there is no such file, LocationError."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the stored size in bytes. Raises MissingError, LocationError."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files, sorted; what is still being written is not among them.

        A place where nothing was ever stored has none. Raises LocationError.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error. Raises LocationError."""

    @abstractmethod
    def remove_unfinished(self, name: str) -> None:
        """Remove what a dead attempt left of writing ``name``. Raises LocationError."""

    @abstractmethod
    def describe(self, name: str) -> str:
        """Return where ``name`` is, as a person at this machine would look for it."""

    def exists(self, name: str) -> bool:
        """Whether a whole file of that name is there. Raises LocationError."""
        return name in self.names()
