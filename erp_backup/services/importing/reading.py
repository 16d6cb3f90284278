"""Reading what was brought, to its end and without running anything: what it says, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from erp_backup.core.codecs.base import closing_source
from erp_backup.core.errors import CorruptError, RefusedError
from erp_backup.core.units import format_size
from erp_backup.engines.postgresql.customformat import read_custom
from erp_backup.services.importing import recognising
from erp_backup.services.importing.recognising import Kind

_TAIL_SIZE = 4096
_OVERLAP = 64
_CUT = "Whatever made it did not finish, or the file was cut; use another one."
_PLAIN_END = b"-- PostgreSQL database dump complete"
_SQLITE_END = re.compile(rb"(?:COMMIT|END)(?:\s+TRANSACTION)?\s*;\s*\Z", re.IGNORECASE)
_SERVER = re.compile(rb"^-- Dumped from database version (\S+)", re.MULTILINE)
_PROGRAM = re.compile(rb"^-- Dumped by pg_dump version (\S+)", re.MULTILINE)
_HEADER_SIZE = 100
_LARGEST_PAGE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What an archive says about itself."""

    kind: Kind
    part: str = "full"  # full, schema, data
    database: str = ""
    server_version: str = ""
    dump_version: str = ""
    made_at: datetime | None = None  # without a time zone
    notes: tuple[str, ...] = field(default=())


def read_content(kind: Kind, chunks: Iterable[bytes]) -> Content:
    """Return what the decoded content in ``chunks`` says, read to its end. Raises CorruptError unless it is whole."""
    if kind is recognising.CUSTOM:
        return _custom(kind, chunks)
    if kind is recognising.SQLITE_FILE:
        return _sqlite_file(kind, chunks)
    if kind is recognising.PLAIN:
        return _plain(kind, chunks)
    return _sqlite_text(kind, chunks)


def capped(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the chunks. Raises RefusedError as soon as they are more than ``limit`` bytes: small files can be huge."""
    passed = 0
    with closing_source(chunks) as source:
        for chunk in source:
            passed += len(chunk)
            if passed > limit:
                raise RefusedError(
                    f"It unpacks to more than {format_size(limit)}, which is far more than such archives do.",
                    remedy="If you know that it is right, say how large it may become with --max-size.",
                )
            yield chunk


def _custom(kind: Kind, chunks: Iterable[bytes]) -> Content:
    facts = read_custom(chunks)
    return Content(
        kind=kind,
        part=_part(has_schema=facts.has_schema, has_data=facts.has_data),
        database=facts.database,
        server_version=facts.server_version,
        dump_version=facts.dump_version,
        made_at=facts.made_at,
    )


def _part(*, has_schema: bool, has_data: bool) -> str:
    if has_schema == has_data:
        return "full"
    return "schema" if has_schema else "data"


def _plain(kind: Kind, chunks: Iterable[bytes]) -> Content:
    """pg_dump says in comments what follows, and at the end that it has ended."""
    text = _Text(chunks, (b"; Type: TABLE;", b"\n-- Data for Name: "))
    if _PLAIN_END not in text.tail:
        raise CorruptError("The SQL is cut off: pg_dump's last line is missing.", remedy=_CUT)
    server, program = _SERVER.search(text.head), _PROGRAM.search(text.head)
    return Content(
        kind=kind,
        part=_part(has_schema=text.seen[0], has_data=text.seen[1]),
        server_version=server[1].decode(errors="replace") if server else "",
        dump_version=program[1].decode(errors="replace") if program else "",
    )


def _sqlite_text(kind: Kind, chunks: Iterable[bytes]) -> Content:
    text = _Text(chunks, ())
    whole = _SQLITE_END.search(text.tail) if kind is recognising.SQLITE_DUMP else text.tail.rstrip().endswith(b";")
    if not whole:
        raise CorruptError(
            "The SQL is cut off, or was given up by sqlite3: its last statement is missing.", remedy=_CUT
        )
    return Content(kind=kind)


class _Text:
    """A text read once: its first and last bytes, and which of some markers occur in it."""

    def __init__(self, chunks: Iterable[bytes], markers: tuple[bytes, ...]) -> None:
        self.head = b""
        self.tail = b""
        self.seen = [False] * len(markers)
        with closing_source(chunks) as source:
            for chunk in source:
                window = self.tail[-_OVERLAP:] + chunk
                self.seen = [seen or marker in window for seen, marker in zip(self.seen, markers, strict=True)]
                self.head = self.head if len(self.head) >= _TAIL_SIZE else (self.head + chunk)[:_TAIL_SIZE]
                self.tail = (self.tail + chunk)[-_TAIL_SIZE:]


def _sqlite_file(kind: Kind, chunks: Iterable[bytes]) -> Content:
    header, size = b"", 0
    with closing_source(chunks) as source:
        for chunk in source:
            header = header if len(header) >= _HEADER_SIZE else (header + chunk)[:_HEADER_SIZE]
            size += len(chunk)
    if len(header) < _HEADER_SIZE:
        raise CorruptError("It is cut off within its header.", remedy=_CUT)
    page = int.from_bytes(header[16:18])
    page = _LARGEST_PAGE if page == 1 else page
    pages = int.from_bytes(header[28:32])
    is_known = header[24:28] == header[92:96] and pages > 0
    if is_known and size != page * pages:
        raise CorruptError(f"It has {size:,} bytes, its header says {page * pages:,}.", remedy=_CUT)
    return Content(kind=kind, server_version=_sqlite_version(header))


def _sqlite_version(header: bytes) -> str:
    """The library that wrote last, as its number says: 3040001 is 3.40.1."""
    number = int.from_bytes(header[96:100])
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else ""
