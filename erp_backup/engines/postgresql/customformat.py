"""pg_dump's custom format (``-Fc``), read to its end without any program: what it says, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from erp_backup.core.codecs.base import ExactReader, closing_source
from erp_backup.core.errors import CorruptError

MAGIC = b"PGDMP"
_CUSTOM = 1
_OLDEST, _NEWEST = (1, 12), (1, 16)  # of the format: PostgreSQL 9.0 to 18
_COMPRESSION_BYTE, _TABLE_METHOD, _RELATION_KIND = (1, 15), (1, 14), (1, 16)
_DATA, _BLOBS = 1, 3
_NO_DATA = 3
_LONGEST_TEXT = 256 * 1024 * 1024
_MOST_ENTRIES = 5_000_000
_WIDEST = 8  # bytes of a number
_PIECE = 1 << 20
_FIRST_YEAR = 1900


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomFacts:
    """What an archive says about itself. ``made_at`` has no time zone: it is the clock of whoever made it."""

    format: tuple[int, int]
    made_at: datetime | None
    database: str
    server_version: str
    dump_version: str
    has_schema: bool
    has_data: bool


def read_custom(chunks: Iterable[bytes]) -> CustomFacts:
    """Return what the archive in ``chunks`` says, read to its end. Raises CorruptError unless it is one, and whole."""
    with closing_source(chunks) as source:
        reader = _Reader(ExactReader(source, "pg_dump"))
        facts, waiting = _read_head(reader)
        blocks = 0
        while not reader.is_at_end():
            _skip_block(reader)
            blocks += 1
    if blocks != waiting:
        raise CorruptError(f"The archive is cut off: it lists the data of {waiting:,} objects and holds {blocks:,}.")
    return facts


class _Reader:
    """Reads the numbers and texts that the format is made of."""

    def __init__(self, exact: ExactReader) -> None:
        self._exact = exact
        self.number_size = 0
        self.offset_size = 0

    def take(self, count: int) -> bytes:
        return self._exact.take(count)

    def is_at_end(self) -> bool:
        return self._exact.is_at_end()

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        sign = self.byte()
        value = int.from_bytes(self.take(self.number_size), "little")
        return -value if sign else value

    def text(self) -> str | None:
        length = self.number()
        if length < 0:
            return None
        if length > _LONGEST_TEXT:
            raise CorruptError("The archive's table of contents is damaged.")
        return self.take(length).decode(errors="replace")

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.take(min(count, _PIECE)))


def _read_head(reader: _Reader) -> tuple[CustomFacts, int]:
    """Read everything before the data; return it, and how many blocks of data must follow."""
    if reader.take(len(MAGIC)) != MAGIC:
        raise CorruptError("It is no archive of pg_dump.")
    version = (reader.byte(), reader.byte())
    reader.byte()
    if not _OLDEST <= version <= _NEWEST:
        raise CorruptError(f"The archive has version {version[0]}.{version[1]} of its format, which is not known here.")
    reader.number_size, reader.offset_size = reader.byte(), reader.byte()
    if reader.byte() != _CUSTOM or not 0 < reader.number_size <= _WIDEST or not 0 < reader.offset_size <= _WIDEST:
        raise CorruptError("The archive's head is damaged, or it is not of pg_dump's custom format.")
    reader.byte() if version >= _COMPRESSION_BYTE else reader.number()
    made_at = _moment([reader.number() for _ in range(7)])
    database, server, dump = (reader.text() or "" for _ in range(3))
    kinds, waiting = _read_contents(reader, version)
    facts = CustomFacts(
        format=version,
        made_at=made_at,
        database=database,
        server_version=server.split(" ")[0],
        dump_version=dump.split(" ")[0],
        has_schema="TABLE" in kinds or "TABLE DATA" not in kinds,
        has_data="TABLE DATA" in kinds or "TABLE" not in kinds,
    )
    return facts, waiting


def _moment(parts: list[int]) -> datetime | None:
    """The format's seconds, minutes, hours, day, month from 0, years since 1900, and whether it is summer time."""
    second, minute, hour, day, month, year, _is_summer = parts
    try:
        return datetime(year + _FIRST_YEAR, month + 1, day, hour, minute, min(second, 59))  # noqa: DTZ001 - it has none
    except ValueError:
        return None


def _read_contents(reader: _Reader, version: tuple[int, int]) -> tuple[set[str], int]:
    """Return the kinds of objects in the table of contents, and how many of them have data."""
    count = reader.number()
    if not 0 <= count <= _MOST_ENTRIES:
        raise CorruptError("The archive's table of contents is damaged.")
    kinds: set[str] = set()
    waiting = 0
    for _ in range(count):
        kind, has_data = _read_entry(reader, version)
        kinds.add(kind)
        waiting += has_data
    return kinds, waiting


def _read_entry(reader: _Reader, version: tuple[int, int]) -> tuple[str, bool]:
    reader.number(), reader.number()  # its number, and whether something dumps its data
    for _ in range(3):
        reader.text()
    kind = reader.text() or ""
    reader.number()  # its section
    # Definition, how it is dropped, how it is copied, schema, tablespace.
    for _ in range(5 + (version >= _TABLE_METHOD)):
        reader.text()
    if version >= _RELATION_KIND:
        reader.number()
    for _ in range(2):
        reader.text()
    while reader.text() is not None:  # what it depends on
        pass
    state = reader.byte()
    reader.take(reader.offset_size)
    return kind, state != _NO_DATA


def _skip_block(reader: _Reader) -> None:
    kind = reader.byte()
    reader.number()  # whose data it is
    if kind == _DATA:
        _skip_pieces(reader)
    elif kind == _BLOBS:
        while reader.number() != 0:
            _skip_pieces(reader)
    else:
        raise CorruptError("A block of the archive's data is damaged.")


def _skip_pieces(reader: _Reader) -> None:
    while (size := reader.number()) != 0:
        if size < 0:
            raise CorruptError("A block of the archive's data is damaged.")
        reader.skip(size)
