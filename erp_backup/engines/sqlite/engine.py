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
from erp_backup.core.errors import BackupError, CorruptError, NotADatabaseError, RefusedError, UsageError
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.names import slug
from erp_backup.core.spaces import no_space_as_error
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.base import (
    DumpRequest,
    Engine,
    Problem,
    Replaced,
    Scratch,
    Snapshot,
    Switched,
    SwitchRequest,
)
from erp_backup.engines.bridging import Bridge
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.sqlite import bridging, images, live, preflight
from erp_backup.engines.sqlite.connecting import (
    errors_in_words,
    opened,
    opened_by_django,
    opened_hardened,
    read_only_settings,
    reading_settings,
    real_tables,
    writable_settings,
)
from erp_backup.engines.sqlite.copying import copy_live, delete_rows, matching, new_file, remove_file
from erp_backup.engines.sqlite.inspecting import can_read_all, require_sound, require_whole, require_whole_sql
from erp_backup.engines.sqlite.intents import Intents
from erp_backup.engines.sqlite.measuring import Measurer
from erp_backup.engines.sqlite.replaced import KeptFiles
from erp_backup.engines.sqlite.scratch import SqliteScratch, leave_as
from erp_backup.engines.sqlite.snapshot import SqliteSnapshot
from erp_backup.engines.sqlite.switching import Switching


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

    @property
    def _state_dir(self) -> Path:
        if self.tools.state_dir is None:
            raise RefusedError("There is no state folder to keep a replaced database in.", remedy="Set STATE_DIR.")
        return self.tools.state_dir

    def _kept(self) -> KeptFiles:
        return KeptFiles(self._state_dir / "replaced")

    def _switching(self) -> Switching:
        return Switching(
            live=self.path,
            alias=self.database.alias,
            settings=self.database.settings,
            intents=Intents(self._state_dir / "switches"),
            kept=self._kept(),
            clock=self.tools.clock,
            runner=self.tools.runner,
            limit=self.tools.lock_timeout,
        )

    def restore_preflight(self, manifest: Manifest, *, switch: bool) -> list[Problem]:
        """Return all that would go wrong, and what is worth knowing; a missing or damaged file is a note."""
        try:
            path, state_dir = self.path, self._state_dir
        except RefusedError as error:
            return [Problem(message=error.message, remedy=error.remedy, error=type(error))]
        look = preflight.Look(live=path, state_dir=state_dir, tools=self.tools, name=self.database.name)
        return look.problems(manifest, switch=switch)

    def has_live(self) -> bool:
        """Whether all pages of the live file can be read (``quick_check``, some 5 s for a GB) and it has a table.

        Raises LockedError, ServerUnreachableError where that cannot be told.
        """
        path, limit = self.path, self.tools.lock_timeout
        if live.condition_of(path, limit) is not live.Condition.DATABASE:
            return False
        # By Django's connection: generated columns and constraints may use Django's functions.
        settings = reading_settings(self.database.settings, path, limit)
        with errors_in_words(path), opened_by_django(settings) as connection:
            return can_read_all(connection)

    def switch(self, scratch: Scratch, request: SwitchRequest) -> Switched:
        """Put the scratch file's content in the live file's place, in one transaction of the backup API.

        Where there is no live file, or one that is no database, the image becomes a new file of that name. Raises
        LockedError, NoSpaceError, RefusedError and their kin, and then nothing has changed.
        """
        return self._switching().switch(Path(scratch.name), request)

    def switch_back(self, replaced: Replaced, request: SwitchRequest) -> Switched:
        """Put the content of a kept file back in the same way; that file goes when the switch is settled.

        Raises as :meth:`switch` does, CorruptError where what was replaced was no database.
        """
        kept = self._kept().require_ours(replaced, self.path)
        _require_image(kept)
        with Workspace(self._state_dir).folder("rollback") as folder:
            image = new_file(folder.path, "image")
            copy_live(kept, image, clock=self.tools.clock, limit=request.limit)
            return self._switching().switch(image, request, source=kept)

    def recover_switch(self) -> Switched | None:
        """Undo what a dead run left half-made; return its switch where that took place and was never settled.

        A dead process holds no lock, so there is nothing to wait for. Raises LockedError where it cannot be told yet.
        """
        return self._switching().recover()

    def settle_switch(self, switched: Switched) -> None:
        """Remove the switch's mark from the live file, and what was noted about it. Raises LockedError."""
        self._switching().settle(switched)

    def list_replaced(self) -> list[Replaced]:
        """Return the kept files of this database, newest first."""
        return self._kept().list(self.path)

    @contextlib.contextmanager
    def replaced_orm(self, replaced: Replaced) -> Iterator[str]:
        """Yield an alias on a kept file, read-only and hardened. Raises RefusedError, CorruptError."""
        kept = self._kept().require_ours(replaced, self.path)
        _require_image(kept)
        with temporary_alias(read_only_settings(self.database.settings, kept), purpose="replaced") as alias:
            yield alias

    def release(self, replaced: Replaced) -> None:
        """Delete a kept file for good. Raises RefusedError for what is not ours, or still needed."""
        kept = self._kept().require_ours(replaced, self.path)
        self._switching().require_unneeded(kept)
        self._kept().remove(kept)

    def keep_as(self, scratch: Scratch, name: str) -> str:
        """Leave the scratch file as ``name``, a path that begins in the live file's folder. Raises RefusedError."""
        path = self.path.parent / name
        images.calm(Path(scratch.name))
        images.drop_mark(Path(scratch.name), 0)
        return leave_as(Path(scratch.name), path)


def _require_image(kept: Path) -> None:
    """Raise CorruptError for what was put aside because it was no database."""
    if not kept.exists():
        raise CorruptError(f"{kept} is missing: only what stood beside the database was kept.")
    require_whole(kept)
