"""Scratch databases: files in a job's private folder, gone with it."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erp_backup.core.errors import RefusedError, UsageError
from erp_backup.core.figures import Figures
from erp_backup.core.files import give_name, partial_of, sync_folder
from erp_backup.core.manifest import Manifest
from erp_backup.core.spaces import no_space_as_error, require_space
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import LoadReport, ProcessDatabase, Scratch
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.sqlite.connecting import (
    HARDENING,
    READ_ONLY,
    durable_settings,
    errors_in_words,
    hardened_settings,
    opened,
    opened_by_django,
    opened_hardened,
    read_only_settings,
    trusting_settings,
    writable_settings,
)
from erp_backup.engines.sqlite.images import calm, sync_file
from erp_backup.engines.sqlite.inspecting import integrity_complaints, require_whole
from erp_backup.engines.sqlite.live import beside
from erp_backup.engines.sqlite.loading import load_foreign_sql, load_sql
from erp_backup.engines.sqlite.measuring import Measurer


@dataclass(kw_only=True)
class SqliteScratch(Scratch):
    """A scratch file in ``folder``; ``name`` is its path. ``settings`` is the live database's ``DATABASES`` entry."""

    name: str
    major: int
    folder: Folder
    measurer: Measurer
    settings: Mapping[str, Any] = field(repr=False)
    is_foreign: bool = False  # what was loaded was not made here: nothing in its schema is trusted

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.name)

    def load(self, path: Path, manifest: Manifest) -> LoadReport:
        """Take the file for this database (``sqlite3``), or run its statements (``sql``); no program sees it.

        Raises CorruptError for a file that is no whole database, RefusedError for an archive of rows alone,
        NoSpaceError.
        """
        if not manifest.has_schema:
            raise RefusedError(
                f"{manifest.archive.name} holds data only: there is no schema to restore it into.",
                remedy="Restore a full backup, or load this one by hand into a database that has the schema.",
            )
        self.is_foreign = manifest.is_foreign
        if manifest.format == "sqlite3":
            return self._take(path)
        if manifest.format == "sql":
            return self._run(path, manifest)
        raise UsageError(f"A dump of format {manifest.format!r} cannot be restored into an SQLite database.")

    def _take(self, path: Path) -> LoadReport:
        require_whole(path)
        with no_space_as_error(self.folder.path):
            shutil.move(path, self.path)
        self.path.chmod(0o600)
        return LoadReport()

    def _run(self, path: Path, manifest: Manifest) -> LoadReport:
        require_space(self.folder.path, manifest.database.size)
        if self.is_foreign:
            with errors_in_words(self.path), opened(self.path, "mode=rw") as connection:
                return load_foreign_sql(path, connection, self.path)
        with opened_by_django(writable_settings(self.settings, self.path)) as connection, errors_in_words(self.path):
            # In memory: new pages need no journal, so there is nothing to keep but what one statement changes.
            connection.execute("PRAGMA journal_mode=MEMORY")
            return load_sql(path, connection, self.path)

    def figures(self, expected: Figures) -> Figures:
        """Measure the copy. Raises CorruptError and its kin."""
        return self.measurer.figures(self.path, expected)

    def integrity_errors(self) -> tuple[str, ...]:
        """Return the first complaints of ``integrity_check``, then of ``foreign_key_check``, one line for each table.

        ``quick_check`` takes a tenth of the time, but does not notice an index that does not belong to its table. Rows
        that refer to nothing were so in the source when all fingerprints are equal: the same rows have the same faults.
        """
        try:
            with opened_hardened(self.path) as connection:
                return integrity_complaints(connection)
        except sqlite3.OperationalError:
            if self.is_foreign:
                return self._foreign_complaints()
            # An index needs one of Django's functions, which read and write nothing but their arguments.
            settings = trusting_settings(self.settings, self.path)
            with errors_in_words(self.path), opened_by_django(settings) as connection:
                return integrity_complaints(connection)

    def _foreign_complaints(self) -> tuple[str, ...]:
        """Ask by SQLite's own functions alone; some versions take even its JSON functions for unsafe in a schema."""
        try:
            with opened(self.path, READ_ONLY) as connection:
                for statement in HARDENING[1:]:
                    connection.execute(statement)
                return integrity_complaints(connection)
        except sqlite3.OperationalError as error:
            return (f"integrity_check could not be run: {error}",)

    def orm(self) -> AbstractContextManager[str]:
        """Yield an alias on the copy, read-only and hardened."""
        return temporary_alias(self._reading_settings(), purpose="scratch")

    def _reading_settings(self) -> dict[str, Any]:
        read = hardened_settings if self.is_foreign else read_only_settings
        return read(self.settings, self.path)

    def process_settings(self) -> ProcessDatabase:
        """Return how another process reads the copy."""
        return ProcessDatabase(settings=self._reading_settings())

    def writable_orm(self) -> AbstractContextManager[str]:
        """Yield an alias that writes the copy, durably. Raises LockedError while it is open elsewhere."""
        return temporary_alias(self._durable_settings(), purpose="scratch")

    def writable_process_settings(self) -> ProcessDatabase:
        """Return how another process writes the copy, durably. Raises LockedError while it is open elsewhere."""
        return ProcessDatabase(settings=self._durable_settings())

    def _durable_settings(self) -> dict[str, Any]:
        # Without a -wal: readers of this copy do not look for one.
        calm(self.path)
        return durable_settings(self.settings, self.path)

    def how_to_look(self) -> str:
        """Return the stock program's command line."""
        return f"sqlite3 -readonly {shlex.quote(self.name)}"

    def keep(self) -> None:
        """Keep the job's folder, the copy in it."""
        self.folder.keep()


def leave_as(file: Path, path: Path) -> str:
    """Let a file of ours stay as ``path``, durably; return the command that opens it.

    Raises RefusedError where there is something of that name, or of a name that SQLite would use beside it.
    """
    taken = [place for place in (path, *beside(path)) if os.path.lexists(place)]
    if taken:
        raise RefusedError(f"{taken[0]} exists already.", remedy="Choose another name, or move it away.")
    try:
        with no_space_as_error(path.parent):
            sync_file(file)
            _link_or_copy(file, path)
            sync_folder(path.parent)
    except FileExistsError as error:
        raise RefusedError(f"{path} exists already.", remedy="Choose another name.") from error
    except OSError as error:
        raise RefusedError(f"{path} cannot be created: {error.strerror}.", remedy="Choose another name.") from error
    return f"sqlite3 {shlex.quote(str(path))}"


def _link_or_copy(file: Path, path: Path) -> None:
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # another file system
        partial = partial_of(path)
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            shutil.copyfile(file, partial)
            sync_file(partial)
            give_name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
