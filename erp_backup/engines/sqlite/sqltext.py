"""The ``sql`` format: a database as SQL statements that the stock ``sqlite3`` program loads, value for value.

``Connection.iterdump`` and ``.dump`` are not exact: text ends at an embedded NUL, and the decimal digits of a
floating-point number are not always read back as the same number.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from erp_backup.engines.sqlite.connecting import errors_in_words, has_table, opened_hardened, pragma, quoted
from erp_backup.engines.sqlite.schema import PRAGMAS
from erp_backup.engines.sqlite.tables import Table, read_tables

_STATEMENT_SIZE = 64 * 1024  # characters; a statement for each row would load three times as slowly
_BATCH = 64  # rows, which may be large
_EXACT_DIGITS = 15
_EXACT_DECIMALS = 3
_LARGEST_STEP = 52  # 2**52 has 16 digits, which are read exactly
_MANTISSA_BITS = 53
_MANTISSA = 2.0**_MANTISSA_BITS
_CODECS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


def sql_dump(path: Path, kind: str) -> Iterator[bytes]:
    """Yield the dump of a file that nobody writes; ``kind`` is ``full``, ``schema`` or ``data``.

    Rows come before indexes, and triggers last: nothing fires while it is loaded. A single row needs memory for itself.
    Raises CorruptError and its kin.
    """
    with opened_hardened(path) as connection, errors_in_words(path):
        for statements in _parts(connection, kind):
            for statement in statements:
                yield statement.encode()


def _parts(connection: sqlite3.Connection, kind: str) -> Iterator[Iterable[str]]:
    encoding = pragma(connection, "encoding")
    definitions = _definitions(connection)
    yield _beginning(connection, kind, encoding)
    for name, definition in definitions["table"] if kind != "data" else ():
        yield _table(name, definition)
    if kind != "schema":
        writer = Writer(encoding)
        for table in read_tables(connection):
            yield _rows(connection, table, writer)
        yield _bookkeeping(connection, writer)
    if kind != "data":
        yield (_terminated(sql) for group in ("index", "view", "trigger") for _name, sql in definitions[group])
        yield (f"PRAGMA {name}={pragma(connection, name)};\n" for name in PRAGMAS)
    yield ["COMMIT;\n"]


def _definitions(connection: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    """Return name and SQL of everything that is created by SQL, by kind, in order of creation."""
    found: dict[str, list[tuple[str, str]]] = {"table": [], "index": [], "view": [], "trigger": []}
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master"
        " WHERE sql IS NOT NULL AND lower(substr(name, 1, 7)) <> 'sqlite_' ORDER BY rowid"
    )
    for kind, name, definition in rows:
        found[kind].append((name, definition))
    return found


def _beginning(connection: sqlite3.Connection, kind: str, encoding: str) -> Iterator[str]:
    yield f"-- SQLite, {kind}. Load it into a new file: sqlite3 new.db < this-file\n"
    yield "PRAGMA foreign_keys=OFF;\n"
    if kind != "data":
        yield f"PRAGMA encoding='{encoding}';\n"
        yield f"PRAGMA page_size={pragma(connection, 'page_size')};\n"
        yield f"PRAGMA auto_vacuum={pragma(connection, 'auto_vacuum')};\n"
    # Rows are restored as they were, also those that an application wrote past a constraint.
    yield "PRAGMA ignore_check_constraints=ON;\n"
    yield "BEGIN TRANSACTION;\n"


def _table(name: str, definition: str) -> Iterator[str]:
    """Create a table. A virtual one is only entered: its shadow tables follow as tables of their own."""
    if not definition[:20].upper().startswith("CREATE VIRTUAL TABLE"):
        yield _terminated(definition)
        return
    yield "PRAGMA writable_schema=ON;\n"
    yield (
        "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)"
        f"VALUES('table',{_literal_text(name)},{_literal_text(name)},0,{_literal_text(definition)});\n"
    )
    yield "PRAGMA writable_schema=OFF;\n"


def _terminated(definition: str) -> str:
    # A comment at the end would swallow the semicolon.
    is_comment = "--" in definition.rpartition("\n")[2]
    return f"{definition}\n;\n" if is_comment else f"{definition};\n"


def _rows(connection: sqlite3.Connection, table: Table, writer: Writer) -> Iterator[str]:
    """Insert a table's rows; row numbers that no column shows are kept too: a search index may refer to them."""
    names = [quoted(name) for name in table.insertable]
    if table.rowid and not table.rowid_column:
        names.insert(0, table.rowid)
    selected = ", ".join(f"t_.{name}" for name in names)
    query = f"SELECT {selected} FROM {quoted(table.name)} AS t_ NOT INDEXED"  # noqa: S608 - quoted identifiers
    return writer.inserts(connection, f"INSERT INTO {quoted(table.name)}({','.join(names)}) VALUES\n", query)


def _bookkeeping(connection: sqlite3.Connection, writer: Writer) -> Iterator[str]:
    """Bring back what SQLite keeps for itself: the numbers it gave out, and the statistics that it plans by."""
    if has_table(connection, "sqlite_sequence"):
        yield "DELETE FROM sqlite_sequence;\n"
        query = "SELECT name, seq FROM sqlite_sequence"
        yield from writer.inserts(connection, "INSERT INTO sqlite_sequence(name,seq) VALUES\n", query)
    if has_table(connection, "sqlite_stat1"):
        yield "ANALYZE sqlite_master;\nDELETE FROM sqlite_stat1;\n"
        query = "SELECT tbl, idx, stat FROM sqlite_stat1"
        yield from writer.inserts(connection, "INSERT INTO sqlite_stat1(tbl,idx,stat) VALUES\n", query)


class Writer:
    """Writes rows as SQL. ``encoding`` is the database's own, in which bytes are cast to text."""

    def __init__(self, encoding: str) -> None:
        self._codec = _CODECS[encoding]
        self._literals: dict[type, Callable[[Any], str]] = {
            int: str,
            float: _literal_real,
            bytes: lambda value: f"X'{value.hex()}'",
            bytearray: self._text,
            type(None): lambda _value: "NULL",
        }

    def inserts(self, connection: sqlite3.Connection, head: str, query: str) -> Iterator[str]:
        """Yield INSERT statements for the rows that ``query`` gives, many rows in each."""
        pending: list[str] = []
        size = 0
        for row in _fetched(connection, query):
            pending.append(self._row(row))
            size += len(pending[-1])
            if size >= _STATEMENT_SIZE:
                yield head + ",\n".join(pending) + ";\n"
                pending, size = [], 0
        if pending:
            yield head + ",\n".join(pending) + ";\n"

    def _row(self, row: tuple[Any, ...]) -> str:
        literals = self._literals
        return f"({','.join([literals[type(value)](value) for value in row])})"

    def _text(self, value: bytearray) -> str:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return f"CAST(X'{value.hex()}' AS TEXT)"
        if "\0" not in text:
            return _literal_text(text)
        return f"CAST(X'{text.encode(self._codec).hex()}' AS TEXT)"


def _fetched(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows with text as ``bytearray``: told apart from blobs, and never refused for what its bytes are."""
    with closing(connection.cursor()) as cursor:
        connection.text_factory = bytearray
        try:
            cursor.execute(query)
            while batch := cursor.fetchmany(_BATCH):
                yield from batch
        finally:
            connection.text_factory = str


def _literal_text(text: str) -> str:
    """Return text without NUL as a literal on one line: the stock program drops a carriage return at a line's end."""
    literal = "'" + text.replace("'", "''") + "'"
    if text.isprintable():
        return literal
    for character, code in (("\n", 10), ("\r", 13)):
        if character in text:
            mark = _unused(text, character)
            literal = f"replace({literal.replace(character, mark)},'{mark}',char({code}))"
    return literal


def _unused(text: str, character: str) -> str:
    """Return a mark for a character that does not occur in the text."""
    name = {"\n": "n", "\r": "r"}[character]
    number = 0
    while (mark := f"\\{name}{number or ''}") in text:
        number += 1
    return mark


def _literal_real(value: float) -> str:
    """Return a literal that every SQLite reads as exactly this number.

    SQLite's reading of decimal digits is a bit off now and then, otherwise in each version. Few digits with few
    decimals are safe; everything else is written with powers of two.
    """
    shortest = repr(value)
    digits, _, decimals = shortest.partition(".")
    if 0 < len(decimals) <= _EXACT_DECIMALS and len(digits) + len(decimals) <= _EXACT_DIGITS and "e" not in decimals:
        return shortest
    return _fraction(value) if math.isfinite(value) else shortest.replace("inf", "9e999")


def _fraction(value: float) -> str:
    mantissa, exponent = math.frexp(value)
    return f"{int(mantissa * _MANTISSA)}.0{_scale(exponent - _MANTISSA_BITS)}"


@cache
def _scale(exponent: int) -> str:
    """Return the multiplications or divisions that amount to ``* 2**exponent``."""
    operator = "*" if exponent > 0 else "/"
    whole, rest = divmod(abs(exponent), _LARGEST_STEP)
    return f"{operator}{1 << _LARGEST_STEP}.0" * whole + f"{operator}{1 << rest}.0" * bool(rest)
