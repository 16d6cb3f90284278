"""A PostgreSQL snapshot: locks first, then one exported view that dump, figures and model checks all look through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg import sql

from erp_backup.core.errors import LockedError, ProgramError
from erp_backup.core.figures import Figures, TableFigure
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, DumpRequest, ProcessDatabase, Snapshot, Tools
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.postgresql import catalog, measuring, programs
from erp_backup.engines.postgresql.catalog import Table
from erp_backup.engines.postgresql.connecting import (
    SESSION,
    Connection,
    connect,
    errors_in_words,
    parameters,
    program_environment,
    write_passfile,
)

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_UNCHANGED_TRIES = 5  # a table made or dropped between list and lock makes us begin anew


@dataclass(slots=True, kw_only=True)
class PostgreSQLSnapshot(Snapshot):
    """Holds the exporting transaction and the sessions that measure in it."""

    database: Database
    tools: Tools
    request: DumpRequest
    folder: Folder
    facts: DatabaseFacts
    taken_at: datetime
    identifier: str
    tables: list[Table]
    sessions: list[Connection] = field(repr=False)
    not_included: tuple[str, ...] = ()

    @property
    def _excluded(self) -> list[Table]:
        return [table for table in self.tables if is_excluded(table, self.request.excluded_tables)]

    @property
    def _measured(self) -> list[Table]:
        excluded = {table.oid for table in self._excluded}
        return [table for table in self.tables if table.oid not in excluded]

    def dump(self) -> Iterator[bytes]:
        """Start pg_dump in this snapshot; it has its locks when this returns. Raises LockedError, ProgramError and kin."""
        path, _version = programs.choose(self.tools.runner, "pg_dump", self.tools.program_dirs, self.facts.major)
        passfile = self.folder.path / "passfile"
        values = parameters(self.database.settings)
        write_passfile(values, passfile)
        environment, connection = program_environment(values, base_environment(), passfile)
        arguments = programs.dump_arguments(
            kind=self.request.kind,
            format_name=self.request.format,
            snapshot=self.identifier,
            lock_timeout=self.tools.lock_timeout,
            excluded=[programs.exact(table.schema, table.name) for table in self._excluded],
            schemas=[programs.exact(schema) for schema in self.request.schemas],
            connection=connection,
        )
        command = Command(
            argv=(str(path), *arguments), env=environment, package=f"postgresql-client-{self.facts.major}"
        )
        chunks = _explained(self.tools.runner.stream(command, idle_limit=self.tools.idle_limit))
        first = next(chunks, b"")
        return _after(first, chunks)

    def figures(self) -> Figures:
        """Measure everything in this snapshot, on all sessions."""
        main, name = self.sessions[0], self.database.name
        with errors_in_words(name):
            schemas = self.request.schemas
            excluded = frozenset(table.label for table in self._excluded)
            objects = tuple(catalog.objects(main, schemas))
            found_sequences = tuple(catalog.sequences(main, schemas, excluded))
            applied = catalog.migrations(main, self._measured)
            installed = {} if schemas else catalog.extensions(main)
            large = None if schemas else measuring.measure_large_objects(main)
        tables = measuring.measure_tables(self.sessions, self._measured, lambda table: table.columns, name)
        # The archive holds excluded tables without rows, and so will every copy restored from it.
        tables += [
            TableFigure(schema=table.schema, name=table.name, columns=table.columns, rows=0, fingerprint="0")
            for table in self._excluded
        ]
        return Figures(
            tables=tuple(tables),
            sequences=found_sequences,
            objects=objects,
            extensions=installed,
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
            with transaction.atomic(using=alias):
                for statement in self._binding_sql():
                    connections[alias].connection.execute(statement)
                yield alias

    def process_settings(self) -> ProcessDatabase:
        """Return how another process joins this snapshot."""
        settings: dict[str, Any] = {**self.database.settings}
        return ProcessDatabase(settings=settings, initial_sql=(_BEGIN, *self._binding_sql()))

    def _binding_sql(self) -> tuple[str, ...]:
        """The statements that make a transaction see this snapshot and never wait for a lock behind somebody's DDL."""
        return (
            f"SET TRANSACTION SNAPSHOT '{self.identifier}'",
            "SET TRANSACTION READ ONLY",
            f"SET LOCAL lock_timeout = {int(self.tools.lock_timeout * 1000)}",
            "SET LOCAL idle_in_transaction_session_timeout = 0",
            f"SET LOCAL row_security = {SESSION['row_security']}",
            *_lock_statements(self.tables),
        )

    def cancel(self) -> None:
        """Stop figures that are being measured by other threads."""
        for session in self.sessions:
            with contextlib.suppress(psycopg.Error):
                session.cancel_safe(timeout=5)


def is_excluded(table: Table, patterns: Sequence[str]) -> bool:
    """Whether ``patterns`` (``name`` or ``schema.name``, with ``*`` and ``?``) exclude the rows of ``table``.

    A partitioned table's name excludes all its partitions.
    """
    names = {table.name, table.label, *((table.root, f"{table.schema}.{table.root}") if table.root else ())}
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _lock_statements(tables: Sequence[Table]) -> tuple[str, ...]:
    if not tables:
        return ()
    names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in tables)
    return (sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names).as_string(),)


def _explained(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except ProgramError as error:
        reason = programs.explain(error)
        if reason is error:
            raise
        raise reason from error


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


@contextlib.contextmanager
def open_snapshot(
    database: Database, tools: Tools, request: DumpRequest, folder: Folder, facts: DatabaseFacts
) -> Iterator[PostgreSQLSnapshot]:
    """Lock every table, export a snapshot, join the measuring sessions to it. Raises LockedError when a lock is not to be had."""
    with contextlib.ExitStack() as stack:
        exporter = connect(database.settings, purpose="snapshot")
        stack.callback(exporter.close)
        with errors_in_words(database.name):
            tables, identifier = _export(exporter, request, tools)
        snapshot = PostgreSQLSnapshot(
            database=database,
            tools=tools,
            request=request,
            folder=folder,
            facts=facts,
            taken_at=_snapshot_time(exporter, database.name),
            identifier=identifier,
            tables=tables,
            sessions=[],
        )
        snapshot.not_included = describe_left_out(exporter, snapshot)
        for _ in range(max(1, tools.jobs)):
            session = connect(database.settings, purpose="figures")
            stack.callback(session.close)
            snapshot.sessions.append(session)
            with errors_in_words(database.name):
                session.execute(_BEGIN)
                for statement in snapshot._binding_sql():  # noqa: SLF001 - the class is this module's
                    session.execute(statement)
        yield snapshot


def _export(exporter: Connection, request: DumpRequest, tools: Tools) -> tuple[list[Table], str]:
    """Locks come before the snapshot: a TRUNCATE in between would empty dump and figures alike, and both would agree."""
    for _ in range(_UNCHANGED_TRIES):
        listed = catalog.tables(exporter, request.schemas)
        exporter.execute(_BEGIN)
        exporter.execute(f"SET LOCAL lock_timeout = {int(tools.lock_timeout * 1000)}")
        try:
            for statement in _lock_statements(listed):
                exporter.execute(statement)
        except psycopg.errors.UndefinedTable:
            exporter.execute("ROLLBACK")
            continue
        row = exporter.execute("SELECT pg_export_snapshot()").fetchone()
        seen = catalog.tables(exporter, request.schemas)
        if row is not None and _identity(seen) == _identity(listed):
            return seen, row[0]
        exporter.execute("ROLLBACK")
    raise LockedError(
        "Tables are being made and dropped all the time: no stable set could be locked.",
        remedy="Run it again when the migration or job that makes them has ended.",
    )


def _identity(tables: Sequence[Table]) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(table.oid, table.label, table.columns) for table in tables]


def _snapshot_time(exporter: Connection, name: str) -> datetime:
    """The server's time at the start of the exporting transaction: what "now" means to every model check."""
    with errors_in_words(name):
        row = exporter.execute("SELECT transaction_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - one row by construction; mypy must know
    at: datetime = row[0]
    return at


_LEFT_OUT = """
SELECT CASE c.relkind WHEN 'f' THEN 'rows of foreign table ' ELSE 'temporary ' END || c.oid::regclass::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f' AND n.nspname !~ '^pg_' ORDER BY 1
"""


def describe_left_out(exporter: Connection, snapshot: PostgreSQLSnapshot) -> tuple[str, ...]:
    """Return, in words, what the archive will deliberately lack."""
    with errors_in_words(snapshot.database.name):
        foreign = [text for (text,) in exporter.execute(_LEFT_OUT).fetchall()]
    excluded = [
        f"rows of {table.label}" for table in snapshot.tables if is_excluded(table, snapshot.request.excluded_tables)
    ]
    only = [f"everything outside the schemas {', '.join(snapshot.request.schemas)}"] if snapshot.request.schemas else []
    return (*only, *excluded, *foreign, "roles, tablespaces and other databases of the server")
