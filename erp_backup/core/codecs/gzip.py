"""gzip: one member without name or time, as ``gzip -d`` reads it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from erp_backup.core.codecs.base import CHUNK_SIZE, Codec, closing_source, slices
from erp_backup.core.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GZIP_WINDOW = 31  # zlib's way to say: largest window, gzip's header and trailer


@dataclass(frozen=True, slots=True)
class Gzip(Codec):
    """gzip at a level, for those whose tools know nothing newer."""

    level: int = 6
    name: ClassVar[str] = "gzip"
    suffix: ClassVar[str] = ".gz"

    def encode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield one member; the same content always gives the same bytes."""
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, _GZIP_WINDOW)
        with closing_source(slices(chunks)) as source:
            for piece in source:
                compressed = compressor.compress(piece)
                if compressed:
                    yield compressed
        yield compressor.flush()

    def decode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the content of exactly one whole member, at most 1 MiB at once."""
        decompressor = zlib.decompressobj(_GZIP_WINDOW)
        with closing_source(slices(chunks)) as source:
            for piece in source:
                if decompressor.eof:
                    raise CorruptError("Something follows the gzip data.")
                yield from _decompressed(decompressor, piece)
        if not decompressor.eof:
            raise CorruptError("The gzip data is cut off.")


def _decompressed(decompressor: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    """Yield the content of a piece in steps, in our own error's words if it is damaged."""
    while piece and not decompressor.eof:
        try:
            content = decompressor.decompress(piece, CHUNK_SIZE)
        except zlib.error as error:
            raise CorruptError(f"The gzip data is damaged: {error}.") from error
        if content:
            yield content
        # Content that zlib still holds back comes with the next input: the trailer is always behind it.
        piece = decompressor.unconsumed_tail
    if decompressor.unused_data:
        raise CorruptError("Something follows the gzip data.")
