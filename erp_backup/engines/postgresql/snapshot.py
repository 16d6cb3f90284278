"""A PostgreSQL snapshot: locks first, then one exported view that dump, figures and model checks all look through."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

import psycopg
from django.db import connections, transaction

from erp_backup.core.errors import DatabaseError, ProgramError
from erp_backup.core.figures import Figures
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, DumpRequest, ProcessDatabase, Snapshot, Tools
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.postgresql import catalog, definitions, measuring, programs
from erp_backup.engines.postgresql.catalog import Table
from erp_backup.engines.postgresql.connecting import (
    LIMITS,
    SESSION,
    Connection,
    connect,
    errors_in_words,
    parameters,
    program_environment,
    write_passfile,
)
from erp_backup.engines.postgresql.exporting import BEGIN, Exported, export, lock_statements


@dataclass(slots=True, kw_only=True)
class PostgreSQLSnapshot(Snapshot):
    """Holds the exported view and the sessions that measure in it."""

    database: Database
    tools: Tools
    request: DumpRequest
    folder: Folder
    facts: DatabaseFacts
    exported: Exported
    sessions: list[Connection] = field(repr=False)
    gauge: measuring.Gauge = field(repr=False)
    taken_at: datetime = field(init=False)
    not_included: tuple[str, ...] = ()
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _streams: list[Iterator[bytes]] = field(default_factory=list, repr=False)
    _orm_lines: list[Connection] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.taken_at = self.exported.taken_at

    @property
    def _tables(self) -> list[Table]:
        return [table for table in self.exported.relations if not table.is_partitioned]

    @property
    def excluded(self) -> list[Table]:
        """The tables whose rows stay out of the archive."""
        return [table for table in self._tables if is_excluded(table, self.request.excluded_tables)]

    def dump(self) -> Iterator[bytes]:
        """Start pg_dump in this snapshot. Raises LockedError, ProgramError and kin."""
        path, _version = programs.choose(self.tools.runner, "pg_dump", self.tools.program_dirs, self.facts.major)
        passfile = self.folder.path / "passfile"
        values = parameters(self.database.settings)
        write_passfile(values, passfile)
        environment, connection = program_environment(values, base_environment(), passfile)
        command = Command(
            argv=(str(path), *self._dump_arguments(connection)),
            env=environment,
            package=f"postgresql-client-{self.facts.major}",
        )
        stream = _explained(self.tools.runner.stream(command, idle_limit=self.tools.idle_limit, stop=self._stop))
        self._streams.append(stream)
        # pg_dump has all of its locks when its first byte comes.
        return self._after(next(stream, b""), stream)

    def _after(self, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        yield first
        yield from rest
        # A stream that was closed ends like one that is whole, and nobody may take it for that.
        if self._stop.is_set():
            raise DatabaseError(f"The dump of {self.database.name!r} was stopped.")

    def _dump_arguments(self, connection: str) -> tuple[str, ...]:
        return programs.dump_arguments(
            kind=self.request.kind,
            format_name=self.request.format,
            encoding=self.facts.encoding,
            snapshot=self.exported.identifier,
            lock_timeout=self.tools.lock_timeout,
            excluded=[programs.exact(table.schema, table.name) for table in self.excluded],
            schemas=[programs.exact(schema) for schema in self.request.schemas],
            connection=connection,
        )

    def figures(self) -> Figures:
        """Measure everything that the archive will hold in this snapshot, on all sessions."""
        empty = {table.oid for table in (self._tables if self.request.kind == "schema" else self.excluded)}
        measured = [table for table in self._tables if table.oid not in empty]
        whole = not self.request.schemas
        with self.gauge.busy() as session:
            objects = tuple(definitions.objects(session, self.request.schemas))
            sequences = catalog.with_column_maxima(session, self.exported.sequences)
            applied = catalog.migrations(session, measured)
            extensions = catalog.extensions(session) if whole else {}
            has_large = whole and self.request.kind != "schema"
            large = measuring.measure_large_objects(session) if has_large else None
        tables = self.gauge.tables(measured, lambda table: table.columns)
        tables += [measuring.without_rows(table) for table in self._tables if table.oid in empty]
        return Figures(
            tables=tuple(tables),
            sequences=sequences,
            objects=objects,
            extensions=extensions,
            migrations=applied,
            large_objects=large,
        )

    @contextlib.contextmanager
    def orm(self) -> Iterator[str]:
        """Yield an alias that is bound to this snapshot: read-only, its locks already held."""
        options = {
            **self.database.settings.get("OPTIONS", {}),
            "isolation_level": psycopg.IsolationLevel.REPEATABLE_READ,
        }
        options.pop("pool", None)
        settings = {**self.database.settings, "OPTIONS": options}
        with temporary_alias(settings, purpose="snapshot") as alias, errors_in_words(self.database.name):
            connections[alias].ensure_connection()
            self._orm_lines.append(connections[alias].connection)
            with transaction.atomic(using=alias):
                for statement in self.binding_sql():
                    connections[alias].connection.execute(statement)
                yield alias

    def process_settings(self) -> ProcessDatabase:
        """Return how another process joins this snapshot."""
        return ProcessDatabase(settings={**self.database.settings}, initial_sql=(BEGIN, *self.binding_sql()))

    def binding_sql(self) -> tuple[str, ...]:
        """Return the statements that make a transaction see this snapshot and read on, whatever others do.

        All locks are taken at once: later they would queue behind somebody's waiting DDL.
        """
        names = ", ".join(f"'{name}'" for name in LIMITS)
        return (
            f"SET TRANSACTION SNAPSHOT '{self.exported.identifier}'",
            "SET TRANSACTION READ ONLY",
            "SET LOCAL statement_timeout = 0",
            f"SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({names})",
            f"SET LOCAL row_security = {SESSION['row_security']}",
            f"SET LOCAL lock_timeout = {round(self.tools.lock_timeout * 1000)}",
            *lock_statements(self.exported.relations),
        )

    def cancel(self) -> None:
        """Stop pg_dump and the figures, whichever threads wait for them; cut the lines of a server that is stuck."""
        self._stop.set()
        if not self.gauge.stop():
            for line in self._orm_lines:
                measuring.cut(line)

    def end(self) -> None:
        """End a pg_dump whose output nobody reads any more."""
        self._stop.set()
        for stream in self._streams:
            with contextlib.suppress(ValueError):  # somebody is just reading it, and will be told to stop
                stream.close()  # type: ignore[attr-defined]  # they are generators


def is_excluded(table: Table, patterns: Sequence[str]) -> bool:
    """Whether ``patterns`` (``name`` or ``schema.name``, with ``*`` and ``?``) exclude the rows of ``table``.

    A partitioned table's name excludes all its partitions.
    """
    owned = [(table.schema, table.name), *table.ancestors]
    names = {name for _schema, name in owned} | {f"{schema}.{name}" for schema, name in owned}
    # A bracket is a bracket; fnmatch would take it for the beginning of a range.
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for name in names for pattern in patterns)


def _explained(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except ProgramError as error:
        reason = programs.explain(error)
        if reason is error:
            raise
        raise reason from error


@contextlib.contextmanager
def open_snapshot(
    database: Database, tools: Tools, request: DumpRequest, folder: Folder, facts: DatabaseFacts
) -> Iterator[PostgreSQLSnapshot]:
    """Lock every table, export a snapshot, join the measuring sessions to it. Raises LockedError without the locks."""
    with contextlib.ExitStack() as stack:
        exporter = connect(database.settings, purpose="snapshot")
        stack.callback(exporter.close)
        sessions: list[Connection] = []
        snapshot = PostgreSQLSnapshot(
            database=database,
            tools=tools,
            request=request,
            folder=folder,
            facts=facts,
            exported=export(exporter, database.name, request.schemas, tools.lock_timeout),
            sessions=sessions,
            gauge=measuring.Gauge(sessions, database.name),
        )
        snapshot.not_included = describe_left_out(exporter, snapshot)
        stack.callback(snapshot.end)
        for _ in range(max(1, tools.jobs)):
            sessions.append(connect(database.settings, purpose="figures"))
            stack.callback(sessions[-1].close)
            with errors_in_words(database.name):
                for statement in (BEGIN, *snapshot.binding_sql()):
                    sessions[-1].execute(statement)
        yield snapshot


_LEFT_OUT = """
SELECT n.nspname, 'rows of foreign table ' || c.oid::regclass::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'
UNION ALL
SELECT '', 'subscription ' || quote_ident(s.subname) FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()
ORDER BY 1, 2
"""


def describe_left_out(exporter: Connection, snapshot: PostgreSQLSnapshot) -> tuple[str, ...]:
    """Return, in words, what the archive will deliberately lack."""
    request = snapshot.request
    with errors_in_words(snapshot.database.name):
        others = [
            text
            for schema, text in exporter.execute(_LEFT_OUT).fetchall()
            if not request.schemas or schema in request.schemas
        ]
    kinds = {"schema": ["all rows"], "data": ["the schema: tables, indexes, constraints and all other definitions"]}
    only = [f"everything outside the schemas {', '.join(request.schemas)}"] if request.schemas else []
    rows = [f"rows of {table.label}" for table in snapshot.excluded]
    return (*only, *kinds.get(request.kind, ()), *rows, *others, "roles, tablespaces and other databases of the server")
