"""Zstandard: one frame with a checksum, as ``zstd -d`` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import zstandard

from erp_backup.core.codecs.base import CHUNK_SIZE, Codec, ExactReader, closing_source, slices
from erp_backup.core.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAGIC = b"\x28\xb5\x2f\xfd"
_PREFIX_SIZE = 5  # magic and the byte that tells how long the header is
_CHECKSUM_SIZE = 4
_BLOCK_LIMIT = 128 * 1024  # RFC 8878: no block holds more, before or after decompression
_RLE, _RESERVED = 1, 3
_BLOCKS_AT_ONCE = CHUNK_SIZE // _BLOCK_LIMIT


@dataclass(frozen=True, slots=True)
class Zstd(Codec):
    """Zstandard at a level, by ``workers`` threads beside the caller's (0: in the caller's own).

    Level 1 is the default on purpose: on dumps, level 3 takes three times its CPU for nothing.
    """

    level: int = 1
    workers: int = 0
    name: ClassVar[str] = "zstd"
    suffix: ClassVar[str] = ".zst"

    def encode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield one frame with a checksum of its content."""
        compressor = zstandard.ZstdCompressor(level=self.level, threads=self.workers, write_checksum=True)
        chunker = compressor.chunker(chunk_size=CHUNK_SIZE)
        with closing_source(slices(chunks)) as source:
            for piece in source:
                yield from chunker.compress(piece)
        yield from chunker.finish()  # type: ignore[no-untyped-call]  # so it stands in zstandard's stubs

    def decode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the content of exactly one whole frame, at most 1 MiB at once.

        A frame without a checksum is refused: three of four flipped bits in one go unnoticed.
        """
        # The library refuses windows above 128 MiB, as ``zstd -d`` does: a header cannot take all memory.
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        with closing_source(chunks) as source:
            reader = ExactReader(source, self.name)
            for part in _parts(reader):
                content = _decompressed(decompressor, part)
                if content:
                    yield content
            if not decompressor.eof or decompressor.unused_data or not reader.is_at_end():
                raise CorruptError("Something follows the zstd frame.")


def _parts(reader: ExactReader) -> Iterator[bytes]:
    """Yield the frame in parts of few blocks, up to its very end.

    The frame's structure is followed here because the library accepts cut input silently, and because a few bytes of
    input can be thousands of blocks: given part by part, they never fill the memory.
    """
    yield _header(reader)
    is_last = False
    while not is_last:
        part = bytearray()
        for _ in range(_BLOCKS_AT_ONCE):
            block, is_last = _block(reader)
            part += block
            if is_last:
                part += reader.take(_CHECKSUM_SIZE)
                break
        yield bytes(part)


def _header(reader: ExactReader) -> bytes:
    """Return the frame's header, once it is known to be one that we write."""
    header = reader.take(_PREFIX_SIZE)
    if not header.startswith(_MAGIC):
        raise CorruptError("This is not zstd data.")
    try:
        header += reader.take(zstandard.frame_header_size(header) - _PREFIX_SIZE)
        parameters = zstandard.get_frame_parameters(header)
    except zstandard.ZstdError as error:
        raise CorruptError(f"The zstd frame's header is damaged: {error}.") from error
    if not parameters.has_checksum:
        raise CorruptError("The zstd frame has no checksum.")
    return header


def _block(reader: ExactReader) -> tuple[bytes, bool]:
    """Return the next block with its header, and whether it is the frame's last."""
    header = reader.take(3)
    fields = int.from_bytes(header, "little")
    kind, size = fields >> 1 & 3, fields >> 3
    if kind == _RESERVED or size > _BLOCK_LIMIT:
        raise CorruptError("A zstd block's header is damaged.")
    return header + reader.take(1 if kind == _RLE else size), bool(fields & 1)


def _decompressed(decompressor: zstandard.ZstdDecompressionObj, part: bytes) -> bytes:
    """Return the content of a part of the frame, in our own error's words if it is damaged."""
    if decompressor.eof:
        raise CorruptError("The zstd frame ends before its last block.")
    try:
        return decompressor.decompress(part)
    except zstandard.ZstdError as error:
        raise CorruptError(f"The zstd data is damaged: {error}.") from error
