"""The PostgreSQL engine, servers 13 to 18."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from erp_backup.core.errors import BackupError, CorruptError, ProgramError, ProgramMissingError, ServerUnreachableError
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest, Engine, Problem, Scratch, Snapshot
from erp_backup.engines.postgresql import catalog, programs, scratch, snapshot
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, session

_SUPPORTED = range(13, 19)
_FACTS = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_database_size(d.oid), to_jsonb(d),
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}')
FROM pg_database d WHERE d.datname = current_database()
"""
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "libc"}
_UNREADABLE = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1
"""
_HIDDEN = """
SELECT c.oid::regclass::text FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid) ORDER BY 1
"""


class PostgreSQL(Engine):
    """Dumps with pg_dump in an exported snapshot, restores with pg_restore into scratch databases."""

    vendor = "postgresql"
    formats = ("custom", "plain")
    suffixes: ClassVar[Mapping[str, str]] = MappingProxyType({"custom": "dump", "plain": "sql"})
    lists_from_head = True

    def facts(self) -> DatabaseFacts:
        """Ask the server what the database is."""
        with session(self.database.settings, purpose="facts") as connection:
            return self._facts(connection)

    def _facts(self, connection: Connection) -> DatabaseFacts:
        with errors_in_words(self.database.name):
            row = connection.execute(_FACTS).fetchone()
        if row is None:
            raise ServerUnreachableError(f"The server does not list the database {self.database.name!r}.")
        version, major, encoding, collation, ctype, size, entry, settings = row
        return DatabaseFacts(
            alias=self.database.alias,
            engine="postgresql",
            name=self.database.name,
            version=version,
            major=major,
            encoding=encoding,
            collation=collation,
            ctype=ctype,
            size=size,
            settings=tuple(settings),
            **_locale(entry),
        )

    def tool_versions(self) -> dict[str, str]:
        """Return the versions of pg_dump and pg_restore that fit the server."""
        major = self.facts().major
        return {
            name: programs.choose(self.tools.runner, name, self.tools.program_dirs, major)[1]
            for name in ("pg_dump", "pg_restore")
        }

    def missing_programs(self) -> list[Problem]:
        """Look for pg_dump and pg_restore of any version: which one is wanted, only the server can say."""
        return [
            Problem(
                message=f"{name} is not installed.",
                remedy="Install it: apt-get install postgresql-client",
                error=ProgramMissingError,
            )
            for name in ("pg_dump", "pg_restore")
            if not programs.candidates(name, self.tools.program_dirs, 0)
        ]

    def preflight(self, request: DumpRequest) -> list[Problem]:
        """Look at programs, versions, rights and excludes. What cannot be reached at all is raised."""
        problems: list[Problem] = []
        with session(self.database.settings, purpose="preflight") as connection:
            facts = self._facts(connection)
            problems += self._versions(facts)
            with errors_in_words(self.database.name):
                problems += _rights(connection)
                problems += _excludes(catalog.tables(connection), request)
        return problems

    def _versions(self, facts: DatabaseFacts) -> Iterator[Problem]:
        if facts.major not in _SUPPORTED:
            yield Problem(
                message=f"PostgreSQL {facts.version} is not among the versions this was tested with (13-18).",
                severity=Severity.NOTE,
            )
        for name in ("pg_dump", "pg_restore"):
            try:
                programs.choose(self.tools.runner, name, self.tools.program_dirs, facts.major)
            except BackupError as error:
                yield Problem(message=error.message, remedy=error.remedy, error=type(error))

    @contextlib.contextmanager
    def lock(self, holder: str, state_dir: Path) -> Iterator[None]:  # noqa: ARG002 - the server keeps this lock
        """Hold an advisory lock in the maintenance database, which a renamed or replaced database does not take along."""
        with (
            session(self.database.settings, database=self._maintenance(), purpose=holder) as connection,
            scratch.advisory_lock(connection, self.database.name),
        ):
            yield

    def _maintenance(self) -> str | None:
        """The maintenance database, or this one where the user may not connect to it."""
        try:
            with session(self.database.settings, database=self.tools.maintenance_database):
                return self.tools.maintenance_database
        except ServerUnreachableError:
            return None

    def snapshot(self, request: DumpRequest, folder: Folder) -> AbstractContextManager[Snapshot]:
        """Lock all tables, then export the snapshot that everything else joins."""
        return snapshot.open_snapshot(self.database, self.tools, request, folder, self.facts())

    @contextlib.contextmanager
    def scratch(self, facts: DatabaseFacts, folder: Folder) -> Iterator[Scratch]:
        """Create an empty database beside the live one."""
        major = self._server_major()
        with scratch.open_scratch(self.database, self.tools, facts, folder, major) as made:
            yield made

    def _server_major(self) -> int:
        """The server's major version, which must be known even where the live database is gone."""
        with session(self.database.settings, database=self.tools.maintenance_database) as connection:
            return connection.info.server_version // 10000

    def remove_orphans(self) -> list[str]:
        """Drop scratch databases whose process is gone."""
        return scratch.drop_orphans(self.database, self.tools)

    def list_archive(self, path: Path, format_name: str) -> None:
        """Let pg_restore read the table of contents; a plain archive must begin as pg_dump begins."""
        if format_name == "plain":
            with path.open("rb") as file:
                if b"PostgreSQL database dump" not in file.read(4096):
                    raise CorruptError("The archive does not begin as a dump of PostgreSQL.")
            return
        program, _version = programs.choose(
            self.tools.runner, "pg_restore", self.tools.program_dirs, self._server_major()
        )
        command = Command(argv=(str(program), "--list", str(path)), env=base_environment())
        try:
            listed = self.tools.runner.run(command, total_limit=600)
        except ProgramError as error:
            raise CorruptError(f"pg_restore cannot read the archive: {programs.last_line(error.stderr)}.") from error
        if b"TOC Entries" not in listed.stdout:
            raise CorruptError("pg_restore finds no table of contents in the archive.")


def _locale(entry: Mapping[str, Any]) -> dict[str, str]:
    """The columns of pg_database that differ between versions (providers came with 15, other names with 17)."""
    return {
        "locale_provider": _PROVIDERS.get(str(entry.get("datlocprovider", "c")), "libc"),
        "locale": str(entry.get("datlocale") or entry.get("daticulocale") or ""),
        "collation_version": str(entry.get("datcollversion") or ""),
    }


def _rights(connection: Connection) -> Iterator[Problem]:
    unreadable = [name for (name,) in connection.execute(_UNREADABLE).fetchall()]
    if unreadable:
        yield Problem(
            message=f"The database user may not read {', '.join(unreadable[:5])}{' ...' if len(unreadable) > 5 else ''}.",  # noqa: PLR2004 - a sentence, not a list
            remedy="Grant it SELECT (or the role pg_read_all_data, PostgreSQL 14 and newer).",
        )
    hidden = [name for (name,) in connection.execute(_HIDDEN).fetchall()]
    if hidden:
        yield Problem(
            message=f"Row-level security hides rows of {', '.join(hidden[:5])} from the database user.",
            remedy="Let the backup user own these tables or give it BYPASSRLS.",
        )


def _excludes(tables: list[catalog.Table], request: DumpRequest) -> Iterator[Problem]:
    for pattern in request.excluded_tables:
        if not any(snapshot.is_excluded(table, [pattern]) for table in tables):
            yield Problem(message=f"No table is called {pattern!r}: nothing is excluded by it.", severity=Severity.NOTE)


ENGINE = PostgreSQL
