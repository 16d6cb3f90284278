"""Scratch databases: created beside the live one, owned by a lock, dropped by whoever comes next if their owner died."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg import sql

from erp_backup.core.errors import LockedError, ProgramError, RefusedError
from erp_backup.core.figures import Figures
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, LoadReport, ProcessDatabase, Scratch, Tools
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.postgresql import catalog, measuring, programs
from erp_backup.engines.postgresql.connecting import (
    Connection,
    connect,
    errors_in_words,
    first_line,
    parameters,
    program_environment,
    session,
    write_passfile,
)

_PATTERN = re.compile(r"erp_backup_scratch_[0-9a-f]{16}")
_OURS = "erp_backup: a scratch database"
_KEPT = "erp_backup: a scratch database, kept on purpose"
# The copy is thrown away: it need not survive a crash of the server, but its indexes are to be built quickly.
_LOAD_OPTIONS = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c statement_timeout=0 -c lock_timeout=0"


def lock_key(name: str) -> int:
    """Return the advisory lock's key (signed, 64 bits) for a name."""
    return int.from_bytes(hashlib.sha256(f"erp_backup {name}".encode()).digest()[:8], signed=True)


@contextlib.contextmanager
def advisory_lock(connection: Connection, name: str) -> Iterator[None]:
    """Hold the advisory lock ``name`` in the session's database. Raises LockedError naming the holder's session."""
    key = lock_key(name)
    (free,) = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() or (False,)
    if not free:
        raise LockedError(
            f"{_holder(connection, key)} is working on {name!r}.",
            remedy="Wait until it has ended, then run this again.",
        )
    try:
        yield
    finally:
        if not connection.closed:
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock(%s)", [key])


def _holder(connection: Connection, key: int) -> str:
    row = connection.execute(
        """SELECT a.application_name, a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
             AND ((l.classid::bigint << 32) | l.objid::bigint) = %s""",
        [key],
    ).fetchone()
    return f"{row[0]} (server process {row[1]})" if row else "Another run"


@dataclass(slots=True, kw_only=True)
class PostgreSQLScratch(Scratch):
    """An empty database made for one drill."""

    name: str
    settings: Mapping[str, Any] = field(repr=False)  # the Django entry that opens this database
    admin: Connection = field(repr=False)  # holds the lock that says its owner lives
    tools: Tools
    folder: Folder
    major: int
    is_kept: bool = False

    def load(self, path: Path, manifest: Manifest) -> LoadReport:
        """Restore with pg_restore, or psql for a plain archive that we signed; then let the planner learn the copy."""
        if manifest.kind == "data":
            raise RefusedError(
                "A backup of rows alone cannot be restored by itself.",
                remedy="Verify it at level 'readable'; drill a full backup.",
            )
        program, arguments = self._load_command(path, manifest)
        report = self._run(program, arguments)
        with session(self.settings, purpose="drill") as connection, errors_in_words(self.name):
            connection.execute("ANALYZE")
        return report

    def _load_command(self, path: Path, manifest: Manifest) -> tuple[Path, tuple[str, ...]]:
        made_by = int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0)
        wanted = max(self.major, made_by)
        name = "pg_restore" if manifest.format == "custom" else "psql"
        program, _version = programs.choose(self.tools.runner, name, self.tools.program_dirs, wanted)
        _environment, connection = self._environment()
        if name == "psql":
            return program, programs.psql_arguments(connection=connection, path=path)
        return program, programs.restore_arguments(jobs=self.tools.jobs, connection=connection, path=path)

    def _environment(self) -> tuple[dict[str, str], str]:
        values = parameters(self.settings)
        passfile = self.folder.path / "passfile"
        write_passfile(values, passfile)
        environment, connection = program_environment(values, base_environment(), passfile)
        environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {_LOAD_OPTIONS}".strip()
        return environment, connection

    def _run(self, program: Path, arguments: tuple[str, ...]) -> LoadReport:
        environment, _connection = self._environment()
        command = Command(argv=(str(program), *arguments), env=environment, package=f"postgresql-client-{self.major}")
        completed = self.tools.runner.run(command, check=False)
        report = programs.report_of(completed.stderr)
        if completed.status in {0, 1, 3} and (report.errors or report.notes or completed.status == 0):
            self._raise_if_environment(program, completed.status, completed.stderr)
            return report
        error = ProgramError(
            f"{program.name} failed with status {completed.status}: {programs.last_line(completed.stderr)}.",
            program=program.name,
            status=completed.status,
            stderr=completed.stderr,
        )
        reason = programs.explain(error)
        raise reason from (None if reason is error else error)

    @staticmethod
    def _raise_if_environment(program: Path, status: int, said: str) -> None:
        """A full disk or a lost server says nothing about the archive: that is "could not verify", not "failed"."""
        error = ProgramError(f"{program.name} failed.", program=program.name, status=status, stderr=said)
        reason = programs.explain(error)
        if status != 0 and reason is not error:
            raise reason

    def figures(self, expected: Figures) -> Figures:
        """Measure the copy as the snapshot was measured, on as many sessions."""
        wanted = {(table.schema, table.name): table.columns for table in expected.tables}

        def columns_of(table: catalog.Table) -> tuple[str, ...]:
            columns = wanted.get((table.schema, table.name), ())
            return columns if set(columns) == set(table.columns) else table.columns

        with contextlib.ExitStack() as stack:
            sessions = [
                stack.enter_context(session(self.settings, purpose="drill")) for _ in range(max(1, self.tools.jobs))
            ]
            main = sessions[0]
            with errors_in_words(self.name):
                tables = catalog.tables(main)
                objects, found_sequences = catalog.objects(main), catalog.sequences(main)
                large, installed = measuring.measure_large_objects(main), catalog.extensions(main)
                applied = catalog.migrations(main, tables)
            measured = measuring.measure_tables(sessions, tables, columns_of, self.name)
        return Figures(
            tables=tuple(measured),
            sequences=tuple(found_sequences),
            objects=tuple(objects),
            extensions=installed,
            migrations=applied,
            large_objects=large,
        )

    def integrity_errors(self) -> tuple[str, ...]:
        """Run amcheck over the B-tree indexes where the extension is at hand in the copy; otherwise there is nothing to say."""
        with session(self.settings, purpose="drill") as connection, errors_in_words(self.name):
            if "amcheck" not in catalog.extensions(connection):
                return ()
            return tuple(_amcheck(connection))

    @contextlib.contextmanager
    def orm(self) -> Iterator[str]:
        """Yield an alias that reads this copy in one read-only transaction."""
        with temporary_alias(self.settings, purpose="scratch") as alias, errors_in_words(self.name):
            connections[alias].ensure_connection()
            with transaction.atomic(using=alias):
                raw = connections[alias].connection
                raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                raw.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield alias

    def process_settings(self) -> ProcessDatabase:
        """Return how another process uses this copy."""
        return ProcessDatabase(settings=dict(self.settings))

    def how_to_look(self) -> str:
        """Return the psql command that opens this copy."""
        values = parameters(self.settings)
        flags = [("-h", "host"), ("-p", "port"), ("-U", "user"), ("-d", "dbname")]
        return shlex.join(["psql", *(part for flag, key in flags if key in values for part in (flag, values[key]))])

    def keep(self) -> None:
        """Leave the database when the context ends."""
        with errors_in_words(self.name):
            self.admin.execute(_comment(self.name, _KEPT))
        self.is_kept = True


def _amcheck(connection: Connection) -> Iterator[str]:
    rows = connection.execute(
        """SELECT c.oid::regclass::text, c.oid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           JOIN pg_am m ON m.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE m.amname = 'btree' AND i.indisvalid AND c.relkind = 'i' AND n.nspname !~ '^pg_'"""
    ).fetchall()
    (schema,) = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'amcheck'"
    ).fetchone() or ("public",)
    query = sql.SQL("SELECT {}(%s::oid::regclass)").format(sql.Identifier(schema, "bt_index_check"))
    for name, oid in rows:
        try:
            connection.execute(query, [oid])
        except psycopg.errors.DataError as error:
            yield f"index {name}: {first_line(error)}"


def _comment(name: str, text: str) -> sql.Composed:
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text))


@contextlib.contextmanager
def open_scratch(
    database: Database, tools: Tools, facts: DatabaseFacts, folder: Folder, major: int
) -> Iterator[PostgreSQLScratch]:
    """Create an empty scratch database like the one of ``facts`` and drop it at the end. Raises RefusedError and kin."""
    name = f"erp_backup_scratch_{secrets.token_hex(8)}"
    with (
        session(database.settings, database=tools.maintenance_database, purpose="drill") as admin,
        advisory_lock(admin, name),
    ):
        scratch = PostgreSQLScratch(
            name=name,
            settings=_scratch_settings(database.settings, name),
            admin=admin,
            tools=tools,
            folder=folder,
            major=major,
        )
        try:
            with errors_in_words(name):
                _create(admin, name, facts, major)
            yield scratch
        finally:
            if not scratch.is_kept:
                _drop(database, tools, admin, name)


def _scratch_settings(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    options = {key: value for key, value in settings.get("OPTIONS", {}).items() if key not in {"pool", "dbname"}}
    return {**settings, "NAME": name, "OPTIONS": options, "CONN_MAX_AGE": 0}


def _create(admin: Connection, name: str, facts: DatabaseFacts, major: int) -> None:
    admin.execute(creation_sql(name, facts, major))
    admin.execute(_comment(name, _OURS))
    admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def creation_sql(name: str, facts: DatabaseFacts, major: int) -> sql.Composed:
    """Return the statement that creates an empty database with the encoding and locale of ``facts``, on a server of ``major``."""
    clauses: list[tuple[str, str]] = [
        ("ENCODING", facts.encoding),
        ("LC_COLLATE", facts.collation),
        ("LC_CTYPE", facts.ctype),
    ]
    if major >= 15 and facts.locale_provider == "icu":  # noqa: PLR2004 - the first version with providers
        clauses += [("LOCALE_PROVIDER", "icu"), ("ICU_LOCALE", facts.locale)]
    if major >= 17 and facts.locale_provider == "builtin":  # noqa: PLR2004 - the first version with this one
        clauses += [("LOCALE_PROVIDER", "builtin"), ("BUILTIN_LOCALE", facts.locale)]
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    parts += [sql.SQL(f"{word} {{}}").format(sql.Literal(value)) for word, value in clauses if value]  # type: ignore[arg-type]  # our own words
    return sql.SQL(" ").join(parts)


def _drop(database: Database, tools: Tools, admin: Connection, name: str) -> None:
    """Drop through the owner's session, or through a new one when that was lost."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    try:
        admin.execute(statement)
    except psycopg.OperationalError:
        # The server may be gone for good: then the next run finds the orphan.
        with (
            contextlib.suppress(Exception),
            session(database.settings, database=tools.maintenance_database, purpose="drill") as fresh,
        ):
            fresh.execute(statement)


def drop_orphans(database: Database, tools: Tools) -> list[str]:
    """Drop scratch databases whose owner's lock is free and that nobody kept; return their names."""
    admin = connect(database.settings, database=tools.maintenance_database, purpose="clean-up")
    try:
        with errors_in_words(tools.maintenance_database):
            rows = admin.execute(
                """SELECT d.datname FROM pg_database d
                   WHERE d.datname LIKE 'erp\\_backup\\_scratch\\_%%' AND pg_has_role(d.datdba, 'MEMBER')
                     AND shobj_description(d.oid, 'pg_database') IS DISTINCT FROM %s""",
                [_KEPT],
            ).fetchall()
            return [name for (name,) in rows if _PATTERN.fullmatch(name) and _drop_orphan(admin, name)]
    finally:
        admin.close()


def _drop_orphan(admin: Connection, name: str) -> bool:
    try:
        with advisory_lock(admin, name):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except LockedError:
        return False
    return True
