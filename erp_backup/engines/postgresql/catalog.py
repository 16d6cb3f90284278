"""What PostgreSQL's catalogs are asked: tables, sequences, extensions, migrations.

All of it runs with ``search_path = pg_catalog``, so that every name that comes back is qualified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from erp_backup.core.figures import SequenceFigure
from erp_backup.engines.postgresql.connecting import Connection

# Everything but the server's own schemas; pg_temp and pg_toast are among those.
OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def no_member(catalog: str, oid: str) -> str:
    """Return the condition that no extension made the object: the extension makes it again."""
    return (
        "NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.deptype = 'e' "
        f"AND e.classid = 'pg_catalog.{catalog}'::regclass AND e.objid = {oid})"
    )


# An extension's own tables are made by the extension, but it can ask for rows of some to be dumped (extconfig).
_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relpages,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
       coalesce((SELECT array_agg(ARRAY[pn.nspname, p.relname]::text[]) FROM pg_partition_ancestors(c.oid) i(oid)
                 JOIN pg_class p ON p.oid = i.oid JOIN pg_namespace pn ON pn.oid = p.relnamespace
                 WHERE p.oid <> c.oid), '{{}}'),
       x.condition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT e.extcondition[array_position(e.extconfig, c.oid)] AS condition
    FROM pg_extension e WHERE c.oid = ANY (e.extconfig) LIMIT 1) x ON true
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OURS}
  AND (x.condition IS NOT NULL OR {no_member("pg_class", "c.oid")})
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, a leaf partition, or (without rows of its own) a partitioned table.

    ``ancestors`` are the (schema, name) of the partitioned tables it belongs to. ``condition`` is the WHERE clause of
    an extension that wants only these of its rows dumped, or nothing.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]
    pages: int = 0
    is_partitioned: bool = False
    ancestors: tuple[tuple[str, str], ...] = ()
    condition: str = ""

    @property
    def label(self) -> str:
        """``schema.name`` as people read it."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The name, quoted."""
        return sql.Identifier(self.schema, self.name)

    @property
    def identity(self) -> tuple[int, str, tuple[str, ...]]:
        """What makes it the same table under the same name with the same columns."""
        return self.oid, self.label, self.columns


def relations(connection: Connection, schemas: Sequence[str] = ()) -> list[Table]:
    """Return tables and partitioned tables, in ``schemas`` or in all: what a dump locks."""
    found = [_table(row) for row in connection.execute(_TABLES).fetchall()]
    return [table for table in found if not schemas or table.schema in schemas]


def tables(connection: Connection, schemas: Sequence[str] = ()) -> list[Table]:
    """Return the tables whose rows a dump holds, in ``schemas`` or in all."""
    return [table for table in relations(connection, schemas) if not table.is_partitioned]


def _table(row: tuple[Any, ...]) -> Table:
    oid, schema, name, is_partitioned, pages, columns, ancestors, condition = row
    return Table(
        oid=oid,
        schema=schema,
        name=name,
        columns=tuple(columns),
        pages=pages,
        is_partitioned=is_partitioned,
        ancestors=tuple((parent_schema, parent) for parent_schema, parent in ancestors),
        condition=condition or "",
    )


_SEQUENCES = f"""
SELECT n.nspname, c.relname, s.seqincrement, tn.nspname, t.relname, a.attname, a.atttypid::regtype::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN LATERAL (
    SELECT d.refobjid, d.refobjsubid FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 LIMIT 1) o ON true
LEFT JOIN pg_class t ON t.oid = o.refobjid
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {OURS} AND {no_member("pg_class", "c.oid")}
ORDER BY n.nspname, c.relname
"""
_COUNTED_TYPES = {"smallint", "integer", "bigint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceState:
    """Where a sequence stands, and the column (schema, table, column) of whole numbers that it feeds, if any."""

    figure: SequenceFigure
    feeds: tuple[str, str, str] | None


def sequences(connection: Connection, schemas: Sequence[str] = ()) -> list[SequenceState]:
    """Return every sequence as it stands now, whatever snapshot the session looks through.

    Sequences are outside of transactions and go on while a dump is taken. Whoever compares a dump with them has to ask
    before it begins: then the dump is never behind.
    """
    rows = connection.execute(_SEQUENCES).fetchall()
    return [_sequence(connection, row) for row in rows if not schemas or row[0] in schemas]


def _sequence(connection: Connection, row: tuple[Any, ...]) -> SequenceState:
    schema, name, increment, table_schema, table, column, kind = row
    query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
    last_value, is_called = _one(connection, query)
    figure = SequenceFigure(
        schema=schema,
        name=name,
        last_value=last_value,
        is_called=is_called,
        increment=increment,
        table=table or "",
        column=column or "",
    )
    return SequenceState(figure=figure, feeds=(table_schema, table, column) if kind in _COUNTED_TYPES else None)


def with_column_maxima(connection: Connection, states: Iterable[SequenceState]) -> tuple[SequenceFigure, ...]:
    """Return the sequences with the greatest (of a descending one: the smallest) value of the column each feeds."""
    return tuple(_with_column_max(connection, state) for state in states)


def _with_column_max(connection: Connection, state: SequenceState) -> SequenceFigure:
    if state.feeds is None:
        return state.figure
    schema, table, column = state.feeds
    query = sql.SQL("SELECT {}({}) FROM {}").format(
        sql.SQL("max" if state.figure.increment > 0 else "min"), sql.Identifier(column), sql.Identifier(schema, table)
    )
    return replace(state.figure, column_max=_one(connection, query)[0])


def _one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - one row by construction; mypy must know
    return row


def extensions(connection: Connection) -> dict[str, str]:
    """Return the installed extensions and their versions."""
    return dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY extname").fetchall())


def migrations(connection: Connection, known: Iterable[Table]) -> tuple[str, ...]:
    """Return the applied migrations as ``app.name``, in the order they were applied in; none without Django's table."""
    recorder = (table for table in known if table.name == "django_migrations")
    table = next((table for table in recorder if {"id", "app", "name"} <= set(table.columns)), None)
    if table is None:
        return ()
    query = sql.SQL("SELECT app || '.' || name FROM {} ORDER BY id").format(table.identifier)
    return tuple(name for (name,) in connection.execute(query).fetchall())
