"""Scratch databases: created beside the live one, owned by a lock, dropped by the next run if their owner died."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg import sql

from erp_backup.core.errors import BackupError, DatabaseError, LockedError, RefusedError
from erp_backup.core.figures import Figures, SchemaObject
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, LoadReport, ProcessDatabase, Scratch, Tools
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.postgresql import catalog, definitions, measuring, owners, privileges, programs, quarantine
from erp_backup.engines.postgresql.connecting import (
    LIMITS,
    SESSION,
    Connection,
    errors_in_words,
    first_line,
    option_text,
    parameters,
    session,
)
from erp_backup.engines.postgresql.loading import Loader
from erp_backup.engines.postgresql.locks import advisory_lock, maintenance_session
from erp_backup.engines.postgresql.marks import comment_sql

PATTERN = re.compile(r"erp_backup_scratch_[0-9a-f]{16}")
_OURS = "erp_backup: a scratch database"
_KEPT = "erp_backup: a scratch database, kept on purpose"
_SINCE = {"idle_session_timeout": 14, "transaction_timeout": 17}  # the first version that knows it
_WRITING = {"default_transaction_read_only": "off", "row_security": "off", "synchronous_commit": "on"}
# Every database is born with it; a source that has dropped it loses nothing by an empty one.
_BORN_WITH = ("schema", "public")


@dataclass(slots=True, kw_only=True)
class PostgreSQLScratch(Scratch):
    """An empty database made for one drill. ``settings`` is the Django entry that opens it."""

    name: str
    settings: Mapping[str, Any] = field(repr=False)
    admin: Connection = field(repr=False)  # holds the lock that says its owner lives
    tools: Tools
    folder: Folder
    major: int
    is_kept: bool = False
    has_left: bool = False  # it has taken another name: it is live, or somebody's
    source_settings: tuple[str, ...] = ()  # the source's own ALTER DATABASE ... SET
    schemas: tuple[str, ...] = ()  # what the loaded dump was limited to
    people: Mapping[str, Any] = field(default_factory=dict, repr=False)  # how they open it, if not as we do
    live: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the Django entry of what it stands beside

    def load(self, path: Path, manifest: Manifest) -> LoadReport:
        """Restore with pg_restore or psql; then let the planner learn the copy."""
        if not manifest.has_schema:
            raise RefusedError(
                "A backup of rows alone cannot be restored by itself.",
                remedy="Verify it at level 'readable'; drill a full backup.",
            )
        self.schemas = manifest.schemas
        if manifest.is_foreign:
            self.people = self.settings
            self.settings = quarantine.settings_for(self.settings, self.name, manifest, self.tools.foreign)
        loader = Loader(settings=self.settings, tools=self.tools, folder=self.folder, major=self.major)
        report = loader.load(path, manifest)
        self._analyze()
        return report

    def _analyze(self) -> None:
        """Collect statistics. Those on an expression that fails for some row fail as in the source: not our finding."""
        with (
            session(self.settings, purpose="drill") as connection,
            contextlib.suppress(DatabaseError),
            errors_in_words(self.name),
        ):
            connection.execute("ANALYZE")

    def restore_privileges(self, path: Path, manifest: Manifest) -> tuple[str, ...]:
        """Hand the copy to the live one's owner, where that is one other role; then give the archive's rights back.

        psql has run what a plain archive says about both when it was loaded.
        """
        if manifest.is_foreign or manifest.format != "custom":
            return ()
        made_by = int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0)
        wanted = max(self.major, made_by)
        program, _version = programs.choose(self.tools.runner, "pg_restore", self.tools.program_dirs, wanted)
        statements = privileges.statements_of(self.tools.runner, program, path, self.folder.path / "rights")
        with session(self.settings, purpose="rights") as connection, errors_in_words(self.name):
            heir, notes = self._like_live(connection)
            refused = owners.hand_over(connection, self.name, heir) if heir else ()
            return (*refused, *notes, *privileges.give(connection, statements))

    def _like_live(self, copy: Connection) -> tuple[str, tuple[str, ...]]:
        """Whom it is handed to, and what cannot be as it is in the live database; nothing where there is none."""
        try:
            with session(self.live, purpose="rights") as live, errors_in_words(self.name):
                return owners.owners_of(live).heir, privileges.differs_for_everybody(live, copy)
        except BackupError:
            return "", ()

    def figures(self, expected: Figures) -> Figures:
        """Measure the copy as the snapshot was measured, on as many sessions."""
        return figures_of(self.settings, self.tools, self.name, expected, self.schemas)

    def integrity_errors(self) -> tuple[str, ...]:
        """Run amcheck over the B-tree indexes, where the copy has that extension; else there is nothing to tell."""
        with session(self.settings, purpose="drill") as connection, errors_in_words(self.name):
            return tuple(_amcheck(connection))

    @contextlib.contextmanager
    def orm(self) -> Iterator[str]:
        """Yield an alias that reads this copy in one read-only transaction."""
        with read_only_alias(self.settings, purpose="scratch") as alias:
            yield alias

    @contextlib.contextmanager
    def writable_orm(self) -> Iterator[str]:
        """Yield an alias that writes this copy in autocommit, whatever limits the role or the server set."""
        settings = self.writable_process_settings().settings
        with temporary_alias(settings, purpose="scratch") as alias, errors_in_words(self.name):
            yield alias

    def writable_process_settings(self) -> ProcessDatabase:
        """Return how another process writes this copy: nothing cuts a long migration off, each commit is on disk."""
        limits = {name: value for name, value in LIMITS.items() if self.major >= _SINCE.get(name, 0)}
        ours = [option_text(name, value) for name, value in {**limits, **_WRITING}.items()]
        return ProcessDatabase(settings=_with_options(self.settings, after=ours))

    def process_settings(self) -> ProcessDatabase:
        """Return how another process uses this copy."""
        return ProcessDatabase(settings=dict(self.settings))

    def how_to_look(self) -> str:
        """Return the psql command that opens this copy."""
        values = parameters(self.people or self.settings)
        flags = [("-h", "host"), ("-p", "port"), ("-U", "user"), ("-d", "dbname")]
        return shlex.join(["psql", *(part for flag, key in flags if key in values for part in (flag, values[key]))])

    def keep(self) -> None:
        """Leave the database when the context ends."""
        with errors_in_words(self.name):
            self.admin.execute(comment_sql(self.name, _KEPT))
        self.is_kept = True


def figures_of(
    settings: Mapping[str, Any], tools: Tools, name: str, expected: Figures, schemas: Sequence[str] = ()
) -> Figures:
    """Measure a restored database, each table over the columns that ``expected`` has, in that order."""
    wanted = {(table.schema, table.name): table.columns for table in expected.tables}

    def columns_of(table: catalog.Table) -> tuple[str, ...]:
        """The columns in the source's order: a copy may have those of its parents first."""
        columns = wanted.get((table.schema, table.name), ())
        return columns if set(columns) == set(table.columns) else table.columns

    with contextlib.ExitStack() as stack:
        count = max(1, tools.jobs)
        sessions = [stack.enter_context(session(settings, purpose="drill")) for _ in range(count)]
        gauge = measuring.Gauge(sessions, name)
        with gauge.busy() as main:
            tables = catalog.tables(main)
            figures = Figures(
                sequences=catalog.with_column_maxima(main, catalog.sequences(main)),
                objects=_without_empty_public(definitions.objects(main, schemas), expected),
                extensions=catalog.extensions(main),
                migrations=catalog.migrations(main, tables),
                large_objects=measuring.measure_large_objects(main),
            )
        return replace(figures, tables=tuple(gauge.tables(tables, columns_of)))


@contextlib.contextmanager
def read_only_alias(settings: Mapping[str, Any], *, purpose: str) -> Iterator[str]:
    """Yield an alias that reads the database of ``settings`` in one read-only transaction."""
    with temporary_alias(settings, purpose=purpose) as alias, errors_in_words(settings["NAME"]):
        connections[alias].ensure_connection()
        with transaction.atomic(using=alias):
            raw = connections[alias].connection
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            raw.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            raw.execute("SET LOCAL statement_timeout = 0")
            raw.execute(f"SET LOCAL row_security = {SESSION['row_security']}")
            yield alias


def _with_options(
    settings: Mapping[str, Any], *, before: Sequence[str] = (), after: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the Django entry with these options of sessions before, or after, those it has: the last one counts."""
    given = settings.get("OPTIONS", {})
    text = " ".join([*before, given.get("options", os.environ.get("PGOPTIONS", "")), *after]).strip()
    return {**settings, "OPTIONS": {**given, "options": text} if text else given}


def _as_in_source(facts: DatabaseFacts) -> list[str]:
    """Where the source looks names up: those that the ERP does not qualify must find the same tables in the copy."""
    pairs = [setting.split("=", 1) for setting in facts.settings]
    return [option_text(name, value) for name, value in pairs if name == "search_path"]


def _without_empty_public(objects: list[SchemaObject], expected: Figures) -> tuple[SchemaObject, ...]:
    """Leave out the schema that the copy was born with, unless the source has it or something stands in it."""
    if any((item.kind, item.name) == _BORN_WITH for item in expected.objects):
        return tuple(objects)
    return tuple(item for item in objects if (item.kind, item.name) != _BORN_WITH)


def _amcheck(connection: Connection) -> Iterator[str]:
    checker = connection.execute(
        """SELECT p.oid::regproc::text FROM pg_proc p
           JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
           JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
           WHERE e.extname = 'amcheck' AND p.proname = 'bt_index_check' AND has_function_privilege(p.oid, 'EXECUTE')
           LIMIT 1"""
    ).fetchone()
    if checker is None:
        return
    rows = connection.execute(
        """SELECT c.oid::regclass::text, c.oid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           JOIN pg_am m ON m.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE m.amname = 'btree' AND i.indisvalid AND c.relkind = 'i' AND n.nspname !~ '^pg_'"""
    ).fetchall()
    for name, oid in rows:
        try:
            connection.execute(f"SELECT {checker[0]}(%s::oid::regclass)", [oid])
        except psycopg.InternalError as error:  # what a damaged index or table is called
            yield f"index {name}: {first_line(error)}"


@contextlib.contextmanager
def open_scratch(database: Database, tools: Tools, facts: DatabaseFacts, folder: Folder) -> Iterator[PostgreSQLScratch]:
    """Create an empty database like the one of ``facts`` and drop it at the end. Raises RefusedError and kin."""
    name = f"erp_backup_scratch_{secrets.token_hex(8)}"
    with maintenance_session(database, tools, "drill") as admin, advisory_lock(admin, name):
        scratch = PostgreSQLScratch(
            name=name,
            settings=_with_options(settings_of(database.settings, name), before=_as_in_source(facts)),
            admin=admin,
            tools=tools,
            folder=folder,
            major=admin.info.server_version // 10000,
            source_settings=facts.settings,
            live=database.settings,
        )
        try:
            with errors_in_words(name):
                _create(admin, name, facts, database.name)
            yield scratch
        finally:
            if not (scratch.is_kept or scratch.has_left):
                _drop(database, tools, admin, name)


def settings_of(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the Django entry of another database ``name`` of the same server."""
    options = {key: value for key, value in settings.get("OPTIONS", {}).items() if key not in {"pool", "dbname"}}
    return {**settings, "NAME": name, "OPTIONS": options, "CONN_MAX_AGE": 0}


def _create(admin: Connection, name: str, facts: DatabaseFacts, live: str) -> None:
    """Create it where the live one is: that disk was chosen for such databases."""
    row = admin.execute(
        """SELECT t.spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
           WHERE d.datname = %s AND has_tablespace_privilege(t.oid, 'CREATE')""",
        [live],
    ).fetchone()
    admin.execute(creation_sql(name, facts, admin.info.server_version // 10000, tablespace=row[0] if row else ""))
    admin.execute(comment_sql(name, _OURS))
    admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    # With an assumed role the owner is not who connects.
    admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO SESSION_USER").format(sql.Identifier(name)))


def creation_sql(name: str, facts: DatabaseFacts, major: int, *, tablespace: str = "") -> sql.Composed:
    """Return what creates an empty database with the encoding and locale of ``facts``, on a server of ``major``."""
    clauses: list[tuple[str, str]] = [
        ("ENCODING", facts.encoding),
        ("LC_COLLATE", facts.collation),
        ("LC_CTYPE", facts.ctype),
    ]
    if major >= 15:  # noqa: PLR2004 - the first version with providers
        clauses += [("LOCALE_PROVIDER", facts.locale_provider)]
    if facts.locale_provider == "icu":
        clauses += [("ICU_LOCALE", facts.locale)]
    if facts.locale_provider == "builtin":
        clauses += [("BUILTIN_LOCALE", facts.locale)]
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    parts += [sql.SQL(f"{word} {{}}").format(sql.Literal(value)) for word, value in clauses if value]
    if tablespace:
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(tablespace)))
    return sql.SQL(" ").join(parts)


def _drop_sql(name: str) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))


def _drop(database: Database, tools: Tools, admin: Connection, name: str) -> None:
    """Drop through the owner's session, or through a new one when that was lost."""
    try:
        admin.execute(_drop_sql(name))
        quarantine.drop_role(admin, name)
    except psycopg.Error:
        # The server may be gone for good, and whatever brought us here is the error to read: the next run finds it.
        with contextlib.suppress(BackupError, psycopg.Error), maintenance_session(database, tools, "drill") as fresh:
            fresh.execute(_drop_sql(name))
            quarantine.drop_role(fresh, name)


def drop_orphans(database: Database, tools: Tools) -> list[str]:
    """Drop scratch databases whose owner's lock is free and that nobody kept; return their names.

    One that cannot be dropped (somebody looks into it whom we may not disconnect) waits for another run.
    """
    with maintenance_session(database, tools, "clean-up") as admin, errors_in_words(database.name):
        # One that was made a moment before its owner was killed has no comment yet.
        rows = admin.execute(
            """SELECT d.datname FROM pg_database d
               WHERE d.datname LIKE 'erp\\_backup\\_scratch\\_%%' AND pg_has_role(d.datdba, 'MEMBER')
                 AND coalesce(shobj_description(d.oid, 'pg_database'), %(ours)s) = %(ours)s""",
            {"ours": _OURS},
        ).fetchall()
        dropped = [name for (name,) in rows if PATTERN.fullmatch(name) and _drop_orphan(admin, name)]
        quarantine.drop_orphaned_roles(admin)
        return dropped


def _drop_orphan(admin: Connection, name: str) -> bool:
    try:
        with advisory_lock(admin, name):
            admin.execute(_drop_sql(name))
    except (LockedError, psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
        return False
    return True
