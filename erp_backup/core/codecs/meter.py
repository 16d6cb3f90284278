"""The meter: size and SHA-256 of the bytes that pass by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from erp_backup.core.codecs.base import closing_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Meter:
    """Measures one stream while others consume it. ``on_progress`` is told the bytes of each chunk."""

    def __init__(self, on_progress: Callable[[int], object] | None = None) -> None:
        self._on_progress = on_progress
        self._hash = hashlib.sha256()
        self._size = 0
        self._is_started = False
        self._is_whole = False

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks unchanged. A meter measures once: a second stream raises ``RuntimeError``."""
        if self._is_started:
            raise RuntimeError("This meter has measured another stream already.")
        self._is_started = True
        with closing_source(chunks) as source:
            for chunk in source:
                self._hash.update(chunk)
                self._size += len(chunk)
                if self._on_progress is not None:
                    self._on_progress(len(chunk))
                yield chunk
        self._is_whole = True

    @property
    def size(self) -> int:
        """Bytes that passed; raises ``RuntimeError`` before the stream's end: a part is not the whole."""
        self._demand_whole()
        return self._size

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes that passed, in hex; raises ``RuntimeError`` before the stream's end."""
        self._demand_whole()
        return self._hash.hexdigest()

    def _demand_whole(self) -> None:
        if not self._is_whole:
            raise RuntimeError("The stream was not read to its end.")
