"""The bridge of PostgreSQL: a session of the live database, and one of the copy whose rows are streamed into it.

Rows travel as COPY's text between two sessions that write every type alike. What is brought is in temporary tables of
the live session, gone with its transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
import psycopg.types.json
from django.db import connections, transaction

from erp_backup.core.errors import LockedError, RefusedError, UsageError
from erp_backup.engines.base import Database
from erp_backup.engines.bridging import Bridge, Column, Match, Reference, Table, Unique, listed, quoted
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.postgresql import catalog
from erp_backup.engines.postgresql.connecting import SESSION, Connection, errors_in_words, first_line, session

# The ERP's own names and times stay as they are: its model checks run in this session, too.
_PINNED = {name: value for name, value in SESSION.items() if name not in {"search_path", "TimeZone"}}
# Types whose "=" tells two texts apart whenever they differ; all others are compared as the text they are written as.
_EXACT = {"int2", "int4", "int8", "bool", "date", "timestamp", "timestamptz", "uuid", "bytea", "oid"}

_FIND = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relhasrules
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s::text) AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT a.attname, tn.nspname || '.' || t.typname || ':' || a.atttypmod,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place), pg_attribute a
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts
  AND a.attrelid = i.indrelid AND a.attnum = k.attnum
ORDER BY k.place
"""
_UNIQUES = """
SELECT c.relname,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, true) FROM generate_series(1, i.indnkeyatts) n ORDER BY n),
       coalesce(pg_get_expr(i.indpred, i.indrelid, true), ''),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisunique AND NOT i.indisprimary AND i.indisvalid ORDER BY c.relname
"""
_REFERENCES = f"""
SELECT k.conname, n.nspname, c.relname, fn.nspname, f.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(num, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.place),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(num, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.place),
       k.confdeltype <> 'a' OR NOT k.condeferrable
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND {catalog.OURS} ORDER BY n.nspname, c.relname, k.conname
"""
_TRIGGERS = """
SELECT t.tgname, t.tgenabled::text FROM pg_trigger t
WHERE t.tgrelid = to_regclass(%s::text) AND NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY t.tgname
"""
_AGAIN = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
# Foreign keys that are checked at once, between two of the tables that are written.
_IMMEDIATE = """
SELECT k.conname, k.conrelid::regclass::text FROM pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT k.condeferrable
  AND k.conrelid = ANY (%(tables)s::regclass[]::oid[]) AND k.confrelid = ANY (%(tables)s::regclass[]::oid[])
"""


@contextlib.contextmanager
def open_bridge(
    database: Database,
    source: Mapping[str, Any],
    lock_timeout: float,
    *,
    write: bool,
    lock: Sequence[tuple[str, str]] = (),
) -> Iterator[PostgreSQLBridge]:
    """Open both sessions; commit at the end with ``write``, else, and after any error, leave nothing."""
    options = {key: value for key, value in database.settings.get("OPTIONS", {}).items() if key != "pool"}
    settings = {**database.settings, "OPTIONS": options, "CONN_MAX_AGE": 0, "ATOMIC_REQUESTS": False}
    with (
        session(source, purpose="rows") as restored,
        temporary_alias(settings, purpose="bridge") as alias,
        _errors(database.name),
    ):
        connections[alias].ensure_connection()
        with transaction.atomic(using=alias):
            live: Connection = connections[alias].connection
            _begin(live, lock_timeout, lock)
            yield PostgreSQLBridge(alias, live=live, restored=restored)
            transaction.set_rollback(not write, using=alias)


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    """Tell apart what the rows themselves forbid, and what others did meanwhile."""
    with errors_in_words(name):
        try:
            yield
        except psycopg.IntegrityError as error:
            raise RefusedError(
                f"The database {name!r} refuses the rows: {first_line(error)}.", remedy="Nothing was changed."
            ) from error
        except psycopg.errors.SerializationFailure as error:
            raise LockedError(
                f"Rows of {name!r} were changed by others in the meantime: {first_line(error)}.",
                remedy="Nothing was changed; run it again.",
            ) from error


def _begin(live: Connection, lock_timeout: float, lock: Sequence[tuple[str, str]]) -> None:
    """Lock first: what is looked at from then on is what was committed by then."""
    live.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")
    live.execute("SET LOCAL statement_timeout = 0")
    limit = f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}".encode()
    live.execute(limit)
    for schema, name in lock:
        try:
            live.execute(f"LOCK TABLE {_named(schema, name)} IN SHARE ROW EXCLUSIVE MODE".encode())
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise UsageError(f"{first_line(error)}.", remedy="Name tables as the database does.") from error
    values = psycopg.types.json.Jsonb(_PINNED)
    live.execute(
        "SELECT set_config(name, %(values)s::jsonb ->> name, true) FROM pg_settings WHERE %(values)s::jsonb ? name",
        {"values": values},
    )
    live.execute(limit)
    # Acknowledged is durable, whatever the role or the database asks for.
    live.execute(
        "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
    )


class PostgreSQLBridge(Bridge):
    """``live`` is the session that everything happens in, ``restored`` one of the copy that is read."""

    def __init__(self, alias: str, *, live: Connection, restored: Connection) -> None:
        super().__init__(alias)
        self._live = live
        self._restored = restored
        self._triggers: list[tuple[str, str, str]] = []  # table, name, how it is switched on again
        self._immediate: list[tuple[str, str]] = []  # name, table

    def execute(self, statement: str) -> int:
        """Run a statement of ours in the live session."""
        return self._live.execute(statement.encode()).rowcount

    def query(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows through a cursor of the server's."""
        with psycopg.ServerCursor(self._live, self.new_name()) as cursor:
            cursor.itersize = 2000
            cursor.execute(statement.encode())
            yield from cursor

    def temporary(self, select: str, index: Sequence[str] = ()) -> str:
        """Make a table of a query's rows, gone with the transaction."""
        name = self.new_name()
        self.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS {select}")
        relation = f"pg_temp.{name}"
        self._finish(relation, index)
        return relation

    def _finish(self, relation: str, index: Sequence[str]) -> None:
        if index:
            self.index(relation, index)
        self.execute(f"ANALYZE {relation}")

    def index(self, relation: str, columns: Sequence[str]) -> None:
        """Index a temporary table, and tell the planner how large it is."""
        self.execute(f"CREATE INDEX ON {relation} ({listed(columns)})")

    def live_table(self, name: str, schema: str = "") -> Table | None:
        """Find a table along the search path of the ERP's sessions, or in a schema."""
        return _table(self._live, _named(schema, name))

    def restored_table(self, table: Table) -> Table | None:
        """Find it by its full name."""
        return _table(self._restored, table.sql)

    def references(self) -> tuple[Reference, ...]:
        """Read the live database's foreign keys."""
        return tuple(
            Reference(
                name=name,
                source=(schema, table),
                columns=tuple(columns),
                target=(target_schema, target),
                target_columns=tuple(target_columns),
                acts_on_delete=acts,
            )
            for name, schema, table, target_schema, target, columns, target_columns, acts in self._live.execute(
                _REFERENCES
            ).fetchall()
        )

    def stage(self, table: Table, columns: Sequence[str], match: Match | None = None) -> str:
        """Stream rows from the copy's session into a temporary table of the live one."""
        rows = f"{'' if table.is_partitioned else 'ONLY '}{table.sql} AS b"
        where = ""
        if match is not None:
            keys = self._send(table, match)
            where = f" WHERE ({listed(match.columns, 'b')}) IN (SELECT {listed(match.columns)} FROM {keys})"
        relation = self._empty(table, columns)
        select = f"COPY (SELECT {listed(columns, 'b')} FROM {rows}{where}) TO STDOUT"
        _pipe(self._restored, select.encode(), self._live, relation)
        self._finish(relation, ())
        return relation

    def _send(self, table: Table, match: Match) -> str:
        """Send keys the other way, so that the copy's session gives only their rows."""
        name = f"pg_temp.{self.new_name()}"
        columns = listed(match.columns)
        self._restored.execute(
            f"CREATE TEMP TABLE {name.removeprefix('pg_temp.')} AS "
            f"SELECT {columns} FROM {table.sql} WITH NO DATA".encode()
        )
        select = f"COPY (SELECT DISTINCT {listed(match.others)} FROM {match.relation}) TO STDOUT"
        _pipe(self._live, select.encode(), self._restored, name)
        self._restored.execute(f"ANALYZE {name}".encode())
        return name

    def _empty(self, table: Table, columns: Sequence[str]) -> str:
        """Make a table of the same types and collations as the live one's columns."""
        name = self.new_name()
        self.execute(
            f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {listed(columns)} FROM {table.sql} WITH NO DATA"
        )
        return f"pg_temp.{name}"

    def pick(self, table: Table, columns: Sequence[str], alias: str, select: str, params: Sequence[Any]) -> str:
        """Stream the query's rows; its parameters are adapted by the driver, never pasted."""
        relation = self._empty(table, columns)
        source: Connection = connections[alias].connection
        _pipe(source, f"COPY ({select}) TO STDOUT".encode(), self._live, relation, tuple(params))
        return self.temporary(f"SELECT DISTINCT {listed(columns)} FROM {relation}", columns)

    def differs(self, column: Column, left: str, right: str) -> str:
        """Compare as text where a type's own equality is blind to something, or where it has none (json)."""
        kind = column.type.removeprefix("pg_catalog.").partition(":")[0]
        if column.type.startswith("pg_catalog.") and kind in _EXACT:
            return f"{left} IS DISTINCT FROM {right}"
        return f'{left}::text COLLATE "C" IS DISTINCT FROM {right}::text COLLATE "C"'

    def begin_writing(self, tables: Sequence[Table]) -> None:
        """Switch triggers off one by one (of whom we own), and make foreign keys wait that would not."""
        for table in tables:
            if table.has_rules:
                raise RefusedError(f"The table {table.label} has rewrite rules: an INSERT might do anything.")
            for name, state in self._live.execute(_TRIGGERS, [table.sql]).fetchall():
                self._triggers.append((table.sql, quoted(name), _AGAIN[state]))
                self.execute(f"ALTER TABLE {table.sql} DISABLE TRIGGER {quoted(name)}")
        names = {"tables": [table.sql for table in tables]}
        for name, table_name in self._live.execute(_IMMEDIATE, names).fetchall():
            self._immediate.append((quoted(name), table_name))
            self.execute(f"ALTER TABLE {table_name} ALTER CONSTRAINT {quoted(name)} DEFERRABLE INITIALLY DEFERRED")
        self.execute("SET CONSTRAINTS ALL DEFERRED")

    def insert(self, table: Table, columns: Sequence[str], select: str) -> int:
        """Insert with the values of identity columns, too."""
        return self.execute(f"INSERT INTO {table.sql} ({listed(columns)}) OVERRIDING SYSTEM VALUE {select}")

    def end_writing(self, tables: Sequence[Table]) -> None:
        """Check everything that waits, then put constraints, triggers and sequences right."""
        self.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for name, table_name in self._immediate:
            self.execute(f"ALTER TABLE {table_name} ALTER CONSTRAINT {name} NOT DEFERRABLE")
        for table_name, name, again in self._triggers:
            self.execute(f"ALTER TABLE {table_name} {again} TRIGGER {name}")
        self._immediate, self._triggers = [], []
        self._move_sequences({(table.schema, table.name) for table in tables})

    def _move_sequences(self, tables: set[tuple[str, str]]) -> None:
        """Never backwards: only those whose next value a row has already."""
        states = [
            state for state in catalog.sequences(self._live) if state.feeds is not None and state.feeds[:2] in tables
        ]
        for figure in catalog.with_column_maxima(self._live, states):
            if figure.is_behind:
                self._live.execute(
                    "SELECT setval(%s::regclass, %s, true)",
                    [f"{quoted(figure.schema)}.{quoted(figure.name)}", figure.column_max],
                )

    def insert_statements(self, table: Table, columns: Sequence[str], relation: str) -> Iterator[str]:
        """Let the server quote each value as text, which every type reads."""
        head = f"INSERT INTO {table.sql} ({listed(columns)}) OVERRIDING SYSTEM VALUE VALUES ("
        values = " || ', ' || ".join(f"quote_nullable(r.{quoted(column)}::text)" for column in columns)
        order = f" ORDER BY {listed(table.key, 'r')}" if table.key else ""
        for (text,) in self.query(f"SELECT {values} FROM {relation} AS r{order}"):
            yield f"{head}{text});\n"

    def csv_chunks(self, columns: Sequence[str], relation: str) -> Iterator[bytes]:
        """Let the server write it."""
        names = listed(columns)
        statement = f"COPY (SELECT {names} FROM {relation} ORDER BY 1) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)"
        with self._live.cursor() as cursor, cursor.copy(statement.encode()) as rows:
            yield from map(bytes, rows)


def _named(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def _table(connection: Connection, name: str) -> Table | None:
    row = connection.execute(_FIND, [name]).fetchone()
    if row is None:
        return None
    oid, schema, table, is_partitioned, has_rules = row
    return Table(
        schema=schema,
        name=table,
        columns=tuple(
            Column(name=column, type=kind, is_required=required, is_generated=generated)
            for column, kind, required, generated in connection.execute(_COLUMNS, [oid]).fetchall()
        ),
        key=tuple(column for (column,) in connection.execute(_KEY, [oid]).fetchall()),
        uniques=tuple(
            Unique(name=index, expressions=tuple(parts), predicate=predicate, has_equal_nulls=equal_nulls)
            for index, parts, predicate, equal_nulls in connection.execute(_UNIQUES, [oid]).fetchall()
        ),
        is_partitioned=is_partitioned,
        has_rules=has_rules,
    )


def _pipe(
    source: Connection, select: bytes, sink: Connection, relation: str, params: tuple[Any, ...] | None = None
) -> None:
    """Stream COPY's text from one session into a relation of another."""
    with (
        source.cursor() as reading,
        sink.cursor() as writing,
        reading.copy(select, params or None) as rows,
        writing.copy(f"COPY {relation} FROM STDIN".encode()) as target,
    ):
        for chunk in rows:
            target.write(chunk)
