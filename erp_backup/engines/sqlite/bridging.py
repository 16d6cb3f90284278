"""The bridge of SQLite: the live file, with the restored one attached to it, read-only, as ``backup``."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import django.db
from django.db import connections, transaction

from erp_backup.core.errors import RefusedError
from erp_backup.engines.base import Database
from erp_backup.engines.bridging import Bridge, Column, Match, Reference, Table, Unique, listed, quoted
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.sqlite.connecting import READ_ONLY, errors_in_words, real_tables, uri
from erp_backup.engines.sqlite.indexsql import parts_of
from erp_backup.engines.sqlite.sqltext import Writer

_GENERATED = {2, 3}
_BATCH = 500
_BROKEN = (
    'SELECT "table" AS t, rowid AS r, parent AS p, fkid AS f, count(*) AS n '
    "FROM pragma_foreign_key_check({}, 'main') GROUP BY 1, 2, 3, 4"
)


@contextlib.contextmanager
def open_bridge(database: Database, live: Path, restored: Path, *, write: bool) -> Iterator[SqliteBridge]:
    """Open the live file as the ERP does; commit at the end with ``write``, else, and after any error, leave nothing.

    Who only reads keeps nobody from writing in WAL mode; with a rollback journal, a commit waits for the reader.
    """
    mode = "IMMEDIATE" if write else "DEFERRED"
    options = {**database.settings.get("OPTIONS", {}), "transaction_mode": mode}
    settings = {**database.settings, "OPTIONS": options, "CONN_MAX_AGE": 0, "ATOMIC_REQUESTS": False}
    with temporary_alias(settings, purpose="bridge") as alias, _errors(live):
        connections[alias].ensure_connection()
        connection: sqlite3.Connection = connections[alias].connection
        _prepare(connection, restored)
        with transaction.atomic(using=alias):
            yield SqliteBridge(alias, connection=connection)
            transaction.set_rollback(not write, using=alias)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Tell apart what the rows themselves forbid; Django's errors are SQLite's."""
    with errors_in_words(path):
        try:
            yield
        except (sqlite3.IntegrityError, django.db.IntegrityError) as error:
            raise RefusedError(
                f"The database {path} refuses the rows: {error}.", remedy="Nothing was changed."
            ) from error
        except django.db.Error as error:
            if isinstance(error.__cause__, sqlite3.Error):
                raise error.__cause__ from None
            raise


def _prepare(connection: sqlite3.Connection, restored: Path) -> None:
    """Set what cannot be set inside a transaction; foreign keys are checked by us, at the end."""
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("ATTACH DATABASE ? AS backup", [uri(restored, READ_ONLY)])
    connection.execute("PRAGMA trusted_schema=OFF")
    try:
        for name in real_tables(connection):
            connection.execute(f"EXPLAIN INSERT INTO main.{quoted(name)} DEFAULT VALUES").close()
    except sqlite3.DatabaseError as error:
        if "unsafe use of" not in str(error):
            raise
        # The ERP's own schema uses functions of Django's. What we read of the copy are tables, never views.
        connection.execute("PRAGMA trusted_schema=ON")


class SqliteBridge(Bridge):
    """Both files on one connection."""

    def __init__(self, alias: str, *, connection: sqlite3.Connection) -> None:
        super().__init__(alias)
        self._connection = connection
        self._triggers: list[str] = []
        self._broken = ""

    def execute(self, statement: str) -> int:
        """Run a statement."""
        return self._connection.execute(statement).rowcount

    def query(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows, some hundred at a time."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement)
            while batch := cursor.fetchmany(_BATCH):
                yield from batch

    def temporary(self, select: str, index: Sequence[str] = ()) -> str:
        """Make a table in the connection's own temporary database."""
        name = self.new_name()
        self.execute(f"CREATE TEMP TABLE {name} AS {select}")
        if index:
            self.index(f"temp.{name}", index)
        return f"temp.{name}"

    def index(self, relation: str, columns: Sequence[str]) -> None:
        """Index a temporary table."""
        self.execute(f"CREATE INDEX temp.{self.new_name()} ON {relation.removeprefix('temp.')} ({listed(columns)})")

    def live_table(self, name: str, schema: str = "") -> Table | None:
        """Find a table; SQLite has no schemas."""
        return _table(self._connection, "main", name) if schema in {"", "main"} else None

    def restored_table(self, table: Table) -> Table | None:
        """Find the table of that name."""
        return _table(self._connection, "backup", table.name)

    def references(self) -> tuple[Reference, ...]:
        """Read the foreign keys that tables declare; one to an unnamed column means the primary key."""
        found: list[Reference | None] = []
        for name in real_tables(self._connection):
            rows = self._connection.execute(
                'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq', [name]
            ).fetchall()
            numbers = dict.fromkeys(row[0] for row in rows)
            found += [self._reference(name, [row for row in rows if row[0] == number]) for number in numbers]
        return tuple(reference for reference in found if reference is not None)

    def _reference(self, name: str, rows: list[tuple[Any, ...]]) -> Reference | None:
        target = self.live_table(rows[0][1])
        if target is None:
            return None
        columns = tuple(row[2] for row in rows)
        return Reference(
            name=f"{name}.{'_'.join(columns)}",
            source=("main", name),
            columns=columns,
            target=("main", target.name),
            target_columns=tuple(row[3] for row in rows) if rows[0][3] else target.key,
        )

    def stage(self, table: Table, columns: Sequence[str], match: Match | None = None) -> str:
        """Copy rows of the attached file."""
        where = ""
        if match is not None:
            where = f" WHERE {_in(match.columns)} IN (SELECT {listed(match.others)} FROM {match.relation})"  # noqa: S608
        return self.temporary(f"SELECT {listed(columns)} FROM {table.sql} AS b{where}")  # noqa: S608 - quoted identifiers

    def pick(self, table: Table, columns: Sequence[str], alias: str, select: str, params: Sequence[Any]) -> str:
        """Copy the query's values as they are stored."""
        relation = self.temporary(f"SELECT {listed(columns)} FROM main.{quoted(table.name)} LIMIT 0")  # noqa: S608
        marks = ", ".join("?" for _ in columns)
        # By its own converters Django would make dates of what is stored; what is computed it leaves alone.
        stored = ", ".join(f"+q.{quoted(column)}" for column in columns)
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SELECT {stored} FROM ({select}) AS q", tuple(params))  # noqa: S608 - Django's own SQL
            while batch := cursor.fetchmany(_BATCH):
                self._connection.executemany(f"INSERT INTO {relation} VALUES ({marks})", batch)  # noqa: S608
        return self.temporary(f"SELECT DISTINCT {listed(columns)} FROM {relation}", columns)  # noqa: S608

    def differs(self, column: Column, left: str, right: str) -> str:  # noqa: ARG002 - SQLite's values have the types
        """Compare byte by byte: a number is never equal to a text, nor 1 to 1.0."""
        return f"({left} IS NOT {right} COLLATE BINARY OR typeof({left}) <> typeof({right}))"

    def begin_writing(self, tables: Sequence[Table]) -> None:
        """Take the triggers away until the end, and note which foreign keys are broken already."""
        self._broken = self.temporary(self._broken_in(tables))
        for table in tables:
            rows = self._connection.execute(
                "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)",
                [table.name],
            ).fetchall()
            for name, definition in rows:
                self._triggers.append(definition)
                self.execute(f"DROP TRIGGER main.{quoted(name)}")

    @staticmethod
    def _broken_in(tables: Sequence[Table]) -> str:
        """Return the query of all rows of these tables that refer to nothing."""
        names = ["'" + table.name.replace("'", "''") + "'" for table in tables]
        return " UNION ALL ".join(_BROKEN.format(name) for name in names)

    def insert(self, table: Table, columns: Sequence[str], select: str) -> int:
        """Insert; SQLite takes any row number."""
        return self.execute(f"INSERT INTO main.{quoted(table.name)} ({listed(columns)}) {select}")

    def end_writing(self, tables: Sequence[Table]) -> None:
        """Refuse foreign keys that are broken now and were not before; put the triggers back, to the letter."""
        before = f"SELECT * FROM {self._broken}"  # noqa: S608 - our own name
        relation = self.temporary(f"{self._broken_in(tables)} EXCEPT {before}")
        found = list(self.query(f"SELECT t, p, count(*) FROM {relation} GROUP BY t, p"))  # noqa: S608 - our own name
        if found:
            said = ", ".join(f"{count} of {table} to {parent}" for table, parent, count in found)
            raise RefusedError(f"Rows would refer to rows that do not exist: {said}.", remedy="Nothing was changed.")
        for definition in self._triggers:
            self.execute(definition)
        self._triggers = []

    def insert_statements(self, table: Table, columns: Sequence[str], relation: str) -> Iterator[str]:
        """Write literals that every SQLite reads as the same values."""
        head = f"INSERT INTO {quoted(table.name)} ({listed(columns)}) VALUES\n"
        (encoding,) = self._connection.execute("PRAGMA main.encoding").fetchone()
        query = f"SELECT {listed(columns)} FROM {relation} ORDER BY 1"  # noqa: S608 - quoted identifiers
        return Writer(encoding).inserts(self._connection, head, query)

    def csv_chunks(self, columns: Sequence[str], relation: str) -> Iterator[bytes]:
        """Write every value in quotes; bytes as a backslash, ``x`` and hexadecimal digits."""
        yield _csv_line(columns)
        for row in self.query(f"SELECT {listed(columns)} FROM {relation} ORDER BY 1"):  # noqa: S608 - quoted identifiers
            yield _csv_line(row)


def _csv_line(row: Sequence[Any]) -> bytes:
    cells = (f"\\x{value.hex()}" if isinstance(value, bytes) else value for value in row)
    return (",".join("" if cell is None else _csv_cell(str(cell)) for cell in cells) + "\n").encode()


def _csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _in(columns: Sequence[str]) -> str:
    """Return the left side of IN; a single column must not be in parentheses to use its index."""
    return f"b.{quoted(columns[0])}" if len(columns) == 1 else f"({listed(columns, 'b')})"


def _table(connection: sqlite3.Connection, schema: str, name: str) -> Table | None:
    row = connection.execute(
        f"SELECT name FROM {schema}.sqlite_master"  # noqa: S608 - one of two words of ours
        " WHERE type = 'table' AND rootpage > 0 AND lower(name) = lower(?)",
        [name],
    ).fetchone()
    if row is None:
        return None
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?, ?) ORDER BY cid',
        [name, schema],
    ).fetchall()
    row_number = [column for column, kind, _n, _d, pk, _h in rows if pk and kind.upper() == "INTEGER"]
    return Table(
        schema=schema,
        name=row[0],
        columns=tuple(
            Column(
                name=column,
                type=kind.lower(),
                is_required=bool(notnull) and default is None and column not in row_number,
                is_generated=hidden in _GENERATED,
            )
            for column, kind, notnull, default, _pk, hidden in rows
        ),
        key=tuple(column for column, *_rest, pk, _hidden in sorted(rows, key=lambda found: found[4]) if pk),
        uniques=tuple(_uniques(connection, schema, row[0])) if schema == "main" else (),
    )


def _uniques(connection: sqlite3.Connection, schema: str, table: str) -> Iterator[Unique]:
    rows = connection.execute(
        "SELECT name, partial FROM pragma_index_list(?, ?) WHERE \"unique\" AND origin <> 'pk' ORDER BY name",
        [table, schema],
    ).fetchall()
    for name, is_partial in rows:
        parts = connection.execute(
            "SELECT cid, name, coll FROM pragma_index_xinfo(?, ?) WHERE key ORDER BY seqno", [name, schema]
        ).fetchall()
        collations = tuple(collation for _cid, _name, collation in parts)
        expressions = tuple(quoted(column or "") for _cid, column, _collation in parts)
        predicate = ""
        if is_partial or any(cid < 0 for cid, *_rest in parts):
            (definition,) = connection.execute(
                "SELECT sql FROM main.sqlite_master WHERE type = 'index' AND name = ?", [name]
            ).fetchone()
            expressions, predicate = parts_of(definition)
        yield Unique(name=name, expressions=expressions, collations=collations, predicate=predicate)
