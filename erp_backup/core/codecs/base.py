"""What every codec does, and the small pieces codecs are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from erp_backup.core.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHUNK_SIZE = 1 << 20
"""Bytes that are handled at once: the unit in which memory stays flat."""


class Codec(ABC):
    """A reversible transformation of a stream of bytes.

    Both directions are lazy generators with flat memory. Closing one closes the generator it reads from: who gives
    up early closes the outermost (``contextlib.closing``), and everything beneath it ends, programs included.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def encode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the encoded form of all chunks together."""

    @abstractmethod
    def decode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what was encoded; the end of iteration means that it was whole, and nothing followed it.

        Raises :class:`CorruptError` for bytes that are damaged, cut or followed by others. What was yielded before
        must not be believed until the end.
        """


def encode_with(codecs: Sequence[Codec], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks encoded by each codec in turn: the first one is the innermost."""
    for codec in codecs:
        chunks = codec.encode(chunks)
    return iter(chunks)


def decode_with(codecs: Sequence[Codec], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what :func:`encode_with` was given, for the same codecs in the same order."""
    for codec in reversed(codecs):
        chunks = codec.decode(chunks)
    return iter(chunks)


@contextmanager
def closing_source(chunks: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """Iterate over chunks and close their generator at the end, however that comes about.

    Left to the garbage collector, a traceback that somebody keeps would keep the generators in it, and the program
    they read from, alive. Files are not closed: they belong to whoever opened them.
    """
    try:
        yield iter(chunks)
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


def slices(chunks: Iterable[bytes], size: int = CHUNK_SIZE) -> Iterator[bytes]:
    """Yield the same bytes in pieces of at most ``size``, none of them empty."""
    with closing_source(chunks) as source:
        for chunk in source:
            for start in range(0, len(chunk), size):
                yield chunk if len(chunk) <= size else chunk[start : start + size]


def limited(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield chunks of exactly ``size`` bytes in all.

    Raises :class:`CorruptError` as soon as one more byte appears (a small archive may expand to terabytes), and at
    the end when fewer came.
    """
    passed = 0
    with closing_source(chunks) as source:
        for chunk in source:
            passed += len(chunk)
            if passed > size:
                raise CorruptError(f"There are more than the {size} bytes that were expected.")
            yield chunk
    if passed < size:
        raise CorruptError(f"There are {passed} bytes instead of the {size} that were expected.")


class ExactReader:
    """Takes exact numbers of bytes from chunks of any sizes. ``name`` is the codec's, for messages."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._chunk = b""
        self._position = 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes; raises :class:`CorruptError` when they do not exist."""
        parts = []
        while count:
            if self.is_at_end():
                raise CorruptError(f"The {self._name} data is cut off.")
            part = self._chunk[self._position : self._position + count]
            self._position += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def is_at_end(self) -> bool:
        """Say whether no byte is left."""
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._chunk, self._position = chunk, 0
        return False
