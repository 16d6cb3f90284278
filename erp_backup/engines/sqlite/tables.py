"""What the tables of a SQLite file look like to us: names, columns, the row number's name."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from erp_backup.engines.sqlite.connecting import quoted, real_tables

_ROW_NUMBERS = ("rowid", "_rowid_", "oid")
_VIRTUAL_GENERATED, _STORED_GENERATED = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as ``PRAGMA table_xinfo`` tells; ``hidden`` is 2 for virtual generated ones, 3 for stored ones."""

    name: str
    type: str
    notnull: int
    default: str | None
    key: int
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that holds rows. ``rowid`` is a name of its row number, empty where it has none that can be used."""

    name: str
    columns: tuple[Column, ...]
    rowid: str

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns that hold something.

        Virtual generated ones are computed whenever they are read; what they are computed from, and how, is measured.
        """
        return tuple(column.name for column in self.columns if column.hidden != _VIRTUAL_GENERATED)

    @property
    def insertable(self) -> tuple[str, ...]:
        """The columns that can be given values."""
        generated = {_VIRTUAL_GENERATED, _STORED_GENERATED}
        return tuple(column.name for column in self.columns if column.hidden not in generated)

    @property
    def rowid_column(self) -> str:
        """The column that is the row number under another name (INTEGER PRIMARY KEY), or nothing."""
        keys = [column for column in self.columns if column.key]
        is_alias = len(keys) == 1 and keys[0].type.upper() == "INTEGER" and self.rowid
        return keys[0].name if is_alias else ""


def read_tables(connection: sqlite3.Connection) -> list[Table]:
    """Return all tables that hold rows, in order of creation."""
    return [_read_table(connection, name) for name in real_tables(connection)]


def _read_table(connection: sqlite3.Connection, name: str) -> Table:
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid', [name]
    )
    columns = tuple(
        Column(name=column, type=kind, notnull=notnull, default=default, key=key, hidden=hidden)
        for column, kind, notnull, default, key, hidden in rows
    )
    return Table(name=name, columns=columns, rowid=_row_number(connection, name, columns))


def _row_number(connection: sqlite3.Connection, table: str, columns: tuple[Column, ...]) -> str:
    taken = {column.name.lower() for column in columns}
    for name in _ROW_NUMBERS:
        # Qualified and unquoted: "rowid" in quotes would be taken for a piece of text where there is none.
        if name not in taken:
            try:
                connection.execute(f"SELECT t_.{name} FROM {quoted(table)} AS t_ LIMIT 0").close()  # noqa: S608 - quoted
            except sqlite3.OperationalError:
                return ""  # a table WITHOUT ROWID
            return name
    return ""
