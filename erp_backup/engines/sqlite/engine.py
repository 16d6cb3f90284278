"""The SQLite engine: snapshots are copies of the file, scratch databases are files, no program is needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import ClassVar

from erp_backup.core import filelock
from erp_backup.core.errors import BackupError, NotADatabaseError, UsageError
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.core.names import slug
from erp_backup.core.spaces import no_space_as_error
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest, Engine, Problem, Scratch, Snapshot
from erp_backup.engines.bridging import Bridge
from erp_backup.engines.sqlite import bridging, live
from erp_backup.engines.sqlite.connecting import (
    errors_in_words,
    opened,
    opened_by_django,
    opened_hardened,
    real_tables,
    writable_settings,
)
from erp_backup.engines.sqlite.copying import copy_live, delete_rows, matching, new_file, remove_file
from erp_backup.engines.sqlite.inspecting import require_sound, require_whole_sql
from erp_backup.engines.sqlite.measuring import Measurer
from erp_backup.engines.sqlite.scratch import SqliteScratch
from erp_backup.engines.sqlite.snapshot import SqliteSnapshot


class SQLite(Engine):
    """A database in a file, as Django's ``sqlite3`` backend opens it."""

    vendor = "sqlite"
    methods: ClassVar[Mapping[str, str]] = MappingProxyType({"fingerprint": "xxh3-128-sum/1", "definition": "sqlite/1"})
    formats: ClassVar[tuple[str, ...]] = ("sqlite3", "sql")
    suffixes: ClassVar[Mapping[str, str]] = {"sqlite3": "sqlite3", "sql": "sql"}

    @property
    def path(self) -> Path:
        """The live database's file, links followed. Raises RefusedError for a database in memory."""
        return live.path_of(self.database.name)

    def facts(self) -> DatabaseFacts:
        """Return what the database is. Raises ServerUnreachableError, NotADatabaseError, LockedError."""
        path = self.path
        live.require_readable(path, self.tools.lock_timeout)
        with errors_in_words(path), opened(path, "mode=ro", timeout=self.tools.lock_timeout) as connection:
            return live.facts_of(self.database.alias, path, connection)

    def tool_versions(self) -> dict[str, str]:
        """Return the library's version: no program takes part."""
        return {"sqlite": sqlite3.sqlite_version}

    def preflight(self, request: DumpRequest) -> list[Problem]:
        """Return what would go wrong. Whether there is space for the copy is seen when the snapshot is opened."""
        try:
            self._completed(request)
            tables = live.tables_of(self.path, self.tools.lock_timeout)
        except BackupError as error:
            return [Problem(message=error.message, remedy=error.remedy, error=type(error))]
        if not tables:
            remedy = "Correct NAME in DATABASES, or run migrate first."
            return [Problem(message=f"The database {self.path} has no table.", remedy=remedy, error=NotADatabaseError)]
        return [
            Problem(message=f"No table is called {pattern!r}: nothing is left out for it.", severity=Severity.NOTE)
            for pattern in request.excluded_tables
            if not matching(tables, (pattern,))
        ]

    def _completed(self, request: DumpRequest) -> DumpRequest:
        """Return the request with its format. Raises UsageError for what SQLite cannot do."""
        format_name = request.format or self.formats[0]
        if format_name not in self.formats:
            raise UsageError(f"SQLite has no format {format_name!r}.", remedy=f"Use {' or '.join(self.formats)}.")
        if request.kind not in self.kinds:
            raise UsageError(f"There is no kind of backup {request.kind!r}.", remedy=f"Use {', '.join(self.kinds)}.")
        if request.kind != "full" and format_name != "sql":
            raise UsageError(
                f"A database file holds schema and data: it cannot be of kind {request.kind!r}.",
                remedy="Use the format sql for it.",
            )
        if request.schemas:
            raise UsageError("SQLite has no schemas to choose from.", remedy="Leave the schemas out.")
        return DumpRequest(kind=request.kind, format=format_name, excluded_tables=request.excluded_tables)

    @contextlib.contextmanager
    def lock(self, holder: str, state_dir: Path) -> Iterator[None]:
        """Hold a lock for this database file, whatever name reaches it. Raises LockedError naming the holder."""
        folder = state_dir / "locks"
        with no_space_as_error(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        with filelock.hold(folder / f"{name}.lock", holder=holder):
            yield

    @contextlib.contextmanager
    def snapshot(self, request: DumpRequest, folder: Folder) -> Iterator[Snapshot]:
        """Copy the live file into ``folder`` and yield the copy as the snapshot; the copy is removed at the end.

        Raises UsageError, LockedError, NoSpaceError, ServerUnreachableError, NotADatabaseError.
        """
        completed = self._completed(request)
        path, stop = self.path, Event()
        live.require_file(path)
        copy = new_file(folder.path, "snapshot")
        try:
            taken_at = copy_live(path, copy, clock=self.tools.clock, limit=self.tools.lock_timeout)
            excluded = self._exclude(copy, completed)
            with opened_hardened(copy) as connection, errors_in_words(path):
                facts = live.facts_of(self.database.alias, path, connection)
            yield SqliteSnapshot(
                path=copy,
                request=completed,
                measurer=self._measurer(stop),
                settings=self.database.settings,
                facts=facts,
                taken_at=taken_at,
                not_included=tuple(f"table {table} (data)" for table in excluded),
            )
        finally:
            stop.set()
            remove_file(copy)

    def _exclude(self, copy: Path, request: DumpRequest) -> list[str]:
        """Delete the rows of excluded tables from the copy, so that figures and archive agree; return these tables."""
        if not request.excluded_tables:
            return []
        with opened_hardened(copy) as connection, errors_in_words(copy):
            tables = matching(real_tables(connection), request.excluded_tables)
        if tables:
            # By Django's connection: VACUUM builds indexes again, which may use Django's functions.
            with opened_by_django(writable_settings(self.database.settings, copy)) as connection:
                delete_rows(copy, connection, tables, vacuum=request.format == "sqlite3")
        return tables

    def _measurer(self, stop: Event) -> Measurer:
        return Measurer(runner=self.tools.runner, jobs=self.tools.jobs, stop=stop)

    @contextlib.contextmanager
    def scratch(self, facts: DatabaseFacts, folder: Folder) -> Iterator[Scratch]:
        """Yield an empty file in ``folder``, removed at the end unless it is kept. Raises NoSpaceError."""
        path = new_file(folder.path, f"scratch-{slug(Path(facts.name).stem)}")
        stop = Event()
        try:
            yield SqliteScratch(
                name=str(path),
                major=sqlite3.sqlite_version_info[0],
                folder=folder,
                measurer=self._measurer(stop),
                settings=self.database.settings,
            )
        finally:
            stop.set()
            if not folder.is_kept:
                remove_file(path)

    def bridge(
        self,
        scratch: Scratch,
        *,
        write: bool = True,
        lock: Sequence[tuple[str, str]] = (),  # noqa: ARG002 - who writes holds the whole file
    ) -> AbstractContextManager[Bridge]:
        """Open the live file with the scratch file attached to it, read-only."""
        live.require_readable(self.path, self.tools.lock_timeout)
        return bridging.open_bridge(self.database, self.path, Path(scratch.name), write=write)

    def remove_orphans(self) -> list[str]:
        """Return nothing: scratch files are in job folders, and the workspace removes those of dead jobs."""
        return []

    def list_archive(self, path: Path, format_name: str) -> None:
        """Let SQLite look at every page (``sqlite3``), or read the statements to their end (``sql``).

        Raises CorruptError.
        """
        if format_name == "sql":
            require_whole_sql(path)
        else:
            require_sound(path)
