"""The PostgreSQL engine, servers 13 to 18."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, cast

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    ProgramError,
    ProgramMissingError,
    ServerUnreachableError,
    UsageError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import (
    DumpRequest,
    Engine,
    InPlace,
    Place,
    Problem,
    Replaced,
    Scratch,
    Snapshot,
    Switched,
    SwitchRequest,
)
from erp_backup.engines.bridging import Bridge
from erp_backup.engines.postgresql import (
    bridging,
    customformat,
    inplace,
    keeping,
    places,
    plainsql,
    programs,
    recovering,
    restoring,
    scratch,
    snapshot,
    standing,
    switching,
)
from erp_backup.engines.postgresql import replaced as replaced_databases
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, session
from erp_backup.engines.postgresql.locks import advisory_lock, maintenance_session
from erp_backup.engines.postgresql.preflight import problems_with
from erp_backup.engines.postgresql.scratch import PostgreSQLScratch

_SUPPORTED = range(13, 19)
_CHUNK = 1 << 20
_FACTS = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_database_size(d.oid), to_jsonb(d),
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}')
FROM pg_database d WHERE d.datname = current_database()
"""
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "libc"}


class PostgreSQL(Engine):
    """Dumps with pg_dump in an exported snapshot, restores with pg_restore into scratch databases."""

    vendor = "postgresql"
    methods: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"fingerprint": "hashtextextended-sum/1", "definition": "postgresql/1"}
    )
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
        """Look at programs, versions, rights, schemas and excludes."""
        problems = list(self._unknown_format(request))
        try:
            with session(self.database.settings, purpose="preflight") as connection:
                problems += self._versions(self._facts(connection), request)
                with errors_in_words(self.database.name):
                    problems += problems_with(connection, request)
        except ServerUnreachableError as error:
            problems.append(Problem(message=error.message, remedy=error.remedy, error=type(error)))
        return problems

    def _unknown_format(self, request: DumpRequest) -> Iterator[Problem]:
        if request.format and request.format not in self.formats:
            yield Problem(
                message=f"The format {request.format!r} is not for this database.",
                remedy=f"Use one of: {', '.join(self.formats)}.",
                error=UsageError,
            )

    def _versions(self, facts: DatabaseFacts, request: DumpRequest) -> Iterator[Problem]:
        if facts.major not in _SUPPORTED:
            yield Problem(
                message=f"PostgreSQL {facts.version} is not among the versions this was tested with (13-18).",
                severity=Severity.NOTE,
            )
        for name in ("pg_dump", "psql" if request.format == "plain" else "pg_restore"):
            try:
                programs.choose(self.tools.runner, name, self.tools.program_dirs, facts.major)
            except BackupError as error:
                yield Problem(message=error.message, remedy=error.remedy, error=type(error))

    @contextlib.contextmanager
    def lock(self, holder: str, state_dir: Path) -> Iterator[None]:  # noqa: ARG002 - the server keeps this lock
        """Hold an advisory lock in the maintenance database, which a database that is renamed does not take along."""
        with (
            maintenance_session(self.database, self.tools, holder) as connection,
            advisory_lock(connection, self.database.name),
        ):
            yield

    def snapshot(self, request: DumpRequest, folder: Folder) -> AbstractContextManager[Snapshot]:
        """Lock all tables, then export the snapshot that everything else joins. Raises UsageError, LockedError."""
        for problem in self._unknown_format(request):
            raise problem.as_error()
        request = replace(request, format=request.format or self.formats[0])
        return snapshot.open_snapshot(self.database, self.tools, request, folder, self.facts())

    def scratch(self, facts: DatabaseFacts, folder: Folder) -> AbstractContextManager[Scratch]:
        """Create an empty database beside the live one."""
        return scratch.open_scratch(self.database, self.tools, facts, folder)

    def bridge(
        self, scratch: Scratch, *, write: bool = True, lock: Sequence[tuple[str, str]] = ()
    ) -> AbstractContextManager[Bridge]:
        """Open a session of the live database and one of the copy."""
        settings = scratch.process_settings().settings
        return bridging.open_bridge(self.database, settings, self.tools.lock_timeout, write=write, lock=lock)

    def remove_orphans(self) -> list[str]:
        """Drop scratch databases whose process is gone."""
        return scratch.drop_orphans(self.database, self.tools)

    def restore_preflight(self, manifest: Manifest, *, switch: bool) -> list[Problem]:
        """Look at the server, the programs, the archive's needs and, for a switch, at what stands in its way."""
        return restoring.problems_with(self.database, self.tools, manifest, switch=switch)

    def has_live(self) -> bool:
        """Whether the live database is there and lets us in. Raises ServerUnreachableError where that is unclear."""
        return standing.is_readable(self.database, self.tools)

    def switch(self, scratch: Scratch, request: SwitchRequest) -> Switched:
        """Rename both databases in one transaction. Raises LockedError and kin, and then nothing has changed."""
        copy = cast("PostgreSQLScratch", scratch)
        newcomer = switching.Newcomer(name=copy.name, settings=copy.source_settings)
        switched = switching.switch(self.database, self.tools, newcomer, request)
        copy.has_left = True
        return switched

    def in_place(self) -> InPlace:
        """Return how the live database is restored by servers that forbid the switch."""
        return inplace.PostgreSQLInPlace(self.database, self.tools)

    def switch_back(self, replaced: Replaced, request: SwitchRequest) -> Switched:
        """Rename the replaced database back, and what is live now aside, in one transaction."""
        return switching.switch_back(self.database, self.tools, replaced, request)

    def recover_switch(self) -> Switched | None:
        """Wait for a dead run's session; then read in the live database's comment what took place."""
        return recovering.recover(self.database, self.tools)

    def settle_switch(self, switched: Switched) -> None:
        """Give the live database its own comment back."""
        recovering.settle(self.database, self.tools, switched)

    def list_replaced(self) -> list[Replaced]:
        """Return the databases whose comment says that they were put aside for this one, newest first."""
        return replaced_databases.list_replaced(self.database, self.tools)

    def replaced_orm(self, replaced: Replaced) -> AbstractContextManager[str]:
        """Yield an alias that reads a replaced database, in one read-only transaction."""
        return replaced_databases.replaced_orm(self.database, self.tools, replaced)

    def release(self, replaced: Replaced) -> None:
        """Drop a replaced database. Raises RefusedError for any other, LockedError when it is in use."""
        replaced_databases.release(self.database, self.tools, replaced)

    def elsewhere(self, place: str) -> Place:
        """Return the engine for the server of a URL, given or in an environment variable (``env:NAME``)."""
        if not places.is_elsewhere(place):
            return super().elsewhere(place)
        other = places.database_at(self.database, place)
        engine = type(self)(other, replace(self.tools, pooler=""))
        return Place(engine=engine, name=other.name, shown=places.shown(other))

    def keep_as(self, scratch: Scratch, name: str) -> str:
        """Rename the scratch database to ``name`` and leave it there."""
        return keeping.keep_as(self.database, cast("PostgreSQLScratch", scratch), name)

    def list_archive(self, path: Path, format_name: str) -> None:
        """Let pg_restore read the table of contents; a plain archive must begin as pg_dump begins. Needs no server."""
        if format_name == "plain":
            with path.open("rb") as file:
                if b"PostgreSQL database dump" not in file.read(4096):
                    raise CorruptError("The archive does not begin as a dump of PostgreSQL.")
            return
        program, _version = programs.newest(self.tools.runner, "pg_restore", self.tools.program_dirs)
        command = Command(argv=(str(program), "--list", str(path)), env=base_environment())
        try:
            listed = self.tools.runner.run(command, total_limit=600)
        except ProgramError as error:
            raise CorruptError(f"pg_restore cannot read the archive: {programs.last_line(error.stderr)}.") from error
        if b"TOC Entries" not in listed.stdout:
            raise CorruptError("pg_restore finds no table of contents in the archive.")

    def inspect_foreign(self, path: Path, manifest: Manifest) -> None:
        """Read an archive of pg_dump's own format to its end ourselves, SQL as psql would."""
        if manifest.format == "plain":
            for _ in plainsql.safe_sql(path):
                pass
            return
        with path.open("rb") as file:
            customformat.read_custom(iter(lambda: file.read(_CHUNK), b""))


def _locale(entry: Mapping[str, Any]) -> dict[str, str]:
    """The columns of pg_database that differ between versions (providers came with 15, other names with 17)."""
    return {
        "locale_provider": _PROVIDERS.get(str(entry.get("datlocprovider", "c")), "libc"),
        "locale": str(entry.get("datlocale") or entry.get("daticulocale") or ""),
        "collation_version": str(entry.get("datcollversion") or ""),
    }


ENGINE = PostgreSQL
