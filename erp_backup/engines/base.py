"""What every engine does: one kind of database is snapshotted, dumped, restored beside, and measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from erp_backup.core.clock import Clock
from erp_backup.core.errors import BackupError, RefusedError, UsageError
from erp_backup.core.figures import Figures, Severity
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.process import ProcessRunner
from erp_backup.core.workspace import Folder
from erp_backup.engines.bridging import Bridge


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A Django database alias and its settings (the dictionary of ``DATABASES``; never shown)."""

    alias: str
    settings: Mapping[str, Any] = field(repr=False)
    is_elsewhere: bool = False  # not the live one: a new database that somebody wants, maybe on another server

    @property
    def name(self) -> str:
        """The database's name at its server, or the path of its file."""
        return str(self.settings["NAME"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRules:
    """What was explicitly asked for in dealing with archives that were not made here; by default nothing."""

    quarantine: bool = False  # load them by a role without rights, made for it; SQL is loaded in no other way
    allow_old_client: bool = False  # also by programs with known faults (core/floors.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an engine needs of the outside world, and how much of the machine it may use."""

    clock: Clock
    runner: ProcessRunner
    program_dirs: tuple[Path, ...] = ()  # searched before the server's own version's folder and PATH
    jobs: int = 1  # connections that measure or load at the same time
    lock_timeout: float = 10.0  # seconds to wait for one table's lock, then the attempt begins anew
    idle_limit: float = 600.0  # seconds a program may be silent
    maintenance_database: str = "postgres"  # where scratch databases are created from
    state_dir: Path | None = None  # STATE_DIR: for what an engine keeps itself
    # How to reach the admin console of a pooler in front of the server, which lets its clients wait during a switch.
    pooler: str = field(default="", repr=False)
    foreign: ForeignRules = field(default_factory=ForeignRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpRequest:
    """What goes into the archive."""

    kind: str = "full"  # full, schema, data
    format: str = ""  # one of the engine's formats; empty: its first
    excluded_tables: tuple[str, ...] = ()  # patterns of tables whose rows stay out
    schemas: tuple[str, ...] = ()  # only these schemas; empty: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a preflight found, before anything was touched."""

    message: str
    remedy: str = ""
    severity: Severity = Severity.FAILED
    error: type[BackupError] = RefusedError  # what it would be raised as
    waiver: str = ""  # what somebody who takes the risk calls it, with a reason; empty: there is no way around it

    def as_error(self) -> BackupError:
        """Return the problem as the error that stops a run."""
        return self.error(self.message, remedy=self.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a restore into a scratch database said: ``errors`` are failures, ``notes`` known to be harmless."""

    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


ABOUT_ROWS = "foreign_key_check: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A database that a switch has put aside and kept, so that it can be taken back."""

    name: str  # at the server, or the path of its file
    live: str  # the name it had
    restore: str  # the identifier of the restore that replaced it
    replaced_at: datetime
    size: int = field(default=0, compare=False)  # bytes, when it was last looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRequest:
    """How a finished database takes the live one's place."""

    restore: str  # the identifier of the restore, kept where a later run finds it
    at: datetime
    limit: float = 10.0  # seconds that locks of others may stand in the way


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """A switch that has taken place; ``replaced`` is None where there was no live database to keep."""

    restore: str
    replaced: Replaced | None = None


class Snapshot(ABC):
    """One consistent view of a database, open until its context ends."""

    taken_at: datetime
    facts: DatabaseFacts
    not_included: tuple[str, ...]  # what the archive will deliberately lack, in words

    @abstractmethod
    def dump(self) -> Iterator[bytes]:
        """Yield the dump of this snapshot; the end of iteration means that it is whole.

        The dump has begun (its locks are held) when this returns. Raises LockedError when a lock in its way did not go.
        """

    @abstractmethod
    def figures(self) -> Figures:
        """Measure tables, sequences and schema in this snapshot. May run in another thread, beside ``dump``."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop figures that other threads are measuring: they end with an error soon."""

    @abstractmethod
    def orm(self) -> AbstractContextManager[str]:
        """Yield a Django database alias, for the calling thread, whose queries see this snapshot and cannot write."""

    @abstractmethod
    def process_settings(self) -> ProcessDatabase:
        """Return how another process sees this snapshot as a Django database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDatabase:
    """A Django ``DATABASES`` entry for another process and the SQL it runs first on each connection. Never shown."""

    settings: dict[str, Any] = field(repr=False)
    initial_sql: tuple[str, ...] = ()  # begins the transaction that everything then runs in, when given


class Scratch(ABC):
    """A database of ours beside the live one, dropped when its context ends unless it is kept."""

    name: str
    major: int  # the major version of the server (or library) that restores it

    @abstractmethod
    def load(self, path: Path, manifest: Manifest) -> LoadReport:
        """Restore the decoded, authenticated dump at ``path`` into this empty database (the file may be consumed).

        Raises ProgramError and its kin when the restore could not be tried; what it found wrong is in the report.
        """

    @abstractmethod
    def figures(self, expected: Figures) -> Figures:
        """Measure the copy: the columns of each expected table in the order given, and every table beside them."""

    @abstractmethod
    def integrity_errors(self) -> tuple[str, ...]:
        """Return what the database's own integrity check complains about (``integrity_check``, ``amcheck``).

        A line that begins with ``ABOUT_ROWS`` is about the rows, not about how they are stored: where all fingerprints
        are equal, the source has the same rows with the same fault.
        """

    @abstractmethod
    def orm(self) -> AbstractContextManager[str]:
        """Yield a Django database alias, for the calling thread, that reads this copy."""

    @abstractmethod
    def process_settings(self) -> ProcessDatabase:
        """Return how another process reads this copy as a Django database."""

    @abstractmethod
    def writable_orm(self) -> AbstractContextManager[str]:
        """Yield a Django database alias, for the calling thread, that writes this copy, durably, in autocommit."""

    @abstractmethod
    def writable_process_settings(self) -> ProcessDatabase:
        """Return how another process writes this copy, durably, as a Django database: for migrations."""

    def restore_privileges(self, path: Path, manifest: Manifest) -> tuple[str, ...]:  # noqa: ARG002 - not of all
        """Let in whom the source let in, for a copy that people will work with: from the dump that was loaded.

        Never for archives that were not made here. Returns what could not be done, in words. By default there are no
        owners and rights of roles in a database.
        """
        return ()

    @abstractmethod
    def how_to_look(self) -> str:
        """Return the command that opens this copy, without a password in it."""

    @abstractmethod
    def keep(self) -> None:
        """Leave the copy when the context ends, marked so that no clean-up takes it for an orphan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a restored copy is to stay: its ``name``, at the server of ``engine``; ``shown`` holds no secret."""

    engine: Engine
    name: str
    shown: str


class InPlace(ABC):
    """Restoring into the live database in one transaction, where nothing may be renamed or created beside it."""

    @abstractmethod
    def preflight(self, manifest: Manifest) -> list[Problem]:
        """Return all that would go wrong, and what would be dropped."""

    @abstractmethod
    def restore(self, dump: Path, manifest: Manifest, folder: Folder, statements: Sequence[str]) -> tuple[str, ...]:
        """Replace the live database's content, but for the history, by that of a decoded archive.

        ``statements`` are the last ones before it is committed. Returns what of the rights could not be given back.
        Raises BackupError, and then the live database is as it was, unless the very commit was interrupted.
        """

    @abstractmethod
    def figures(self, expected: Figures) -> Figures:
        """Measure the live database as a scratch database is measured."""


class Engine(ABC):
    """One kind of database. Made for one database and asked for snapshots, scratch databases and facts."""

    # What do manifests call it? Django's ``connection.vendor``.
    vendor: ClassVar[str]
    # How does it digest content ("fingerprint") and definitions ("definition")? A new name whenever the digest of
    # something unchanged would come out otherwise: digests made in different ways are never compared.
    methods: ClassVar[Mapping[str, str]]
    # Which formats can it dump? The first is the default.
    formats: ClassVar[tuple[str, ...]]
    # Which file suffix has each format?
    suffixes: ClassVar[Mapping[str, str]]
    # Which kinds of dump can it make?
    kinds: ClassVar[tuple[str, ...]] = ("full", "schema", "data")

    def __init__(self, database: Database, tools: Tools) -> None:
        self.database = database
        self.tools = tools

    @abstractmethod
    def facts(self) -> DatabaseFacts:
        """Return what the database is. Raises ServerUnreachableError and its kin, in words."""

    @abstractmethod
    def tool_versions(self) -> dict[str, str]:
        """Return the versions of the programs and libraries that dump and restore here."""

    def missing_programs(self) -> list[Problem]:
        """Return the programs that are not installed here, without asking the database; none by default."""
        return []

    @abstractmethod
    def preflight(self, request: DumpRequest) -> list[Problem]:
        """Return what would go wrong in a backup, before anything is touched."""

    @abstractmethod
    def lock(self, holder: str, state_dir: Path) -> AbstractContextManager[None]:
        """Hold this database's backup lock. Raises LockedError naming the holder."""

    @abstractmethod
    def snapshot(self, request: DumpRequest, folder: Folder) -> AbstractContextManager[Snapshot]:
        """Open a snapshot. ``folder`` is the job's private folder. Raises LockedError when locks cannot be had."""

    @abstractmethod
    def scratch(self, facts: DatabaseFacts, folder: Folder) -> AbstractContextManager[Scratch]:
        """Create an empty scratch database like that of ``facts``. Raises RefusedError when the server forbids it."""

    @abstractmethod
    def bridge(
        self, scratch: Scratch, *, write: bool = True, lock: Sequence[tuple[str, str]] = ()
    ) -> AbstractContextManager[Bridge]:
        """Open one session of the live database, in one transaction, that sees the rows of ``scratch`` beside its own.

        Nobody else writes to the tables in ``lock`` (schema or nothing, name) until it ends. Raises UsageError for one
        that does not exist.

        Committed at the end with ``write``; without it, and after any error, nothing is left of it. Raises RefusedError
        for what the database forbids, LockedError for what others hold or have changed meanwhile.
        """

    @abstractmethod
    def remove_orphans(self) -> list[str]:
        """Drop scratch databases whose process is gone; return their names. Never touches what is kept or in use."""

    @abstractmethod
    def list_archive(self, path: Path, format_name: str) -> None:
        """Let the database's own tool read the table of contents at the head of the decoded, authenticated dump.

        Raises CorruptError when it cannot.
        """

    def inspect_foreign(self, path: Path, manifest: Manifest) -> None:
        """Look at all of a decoded archive that was not made here; no program may be given it for that.

        Raises CorruptError.
        """
        self.list_archive(path, manifest.format)

    # Does a look at the archive need all of it, or only its head?
    lists_from_head: ClassVar[bool] = False

    @abstractmethod
    def restore_preflight(self, manifest: Manifest, *, switch: bool) -> list[Problem]:
        """Return all that would go wrong in a restore beside the live database, and in the switch if there is one.

        Changes nothing. Also where the live database is missing, damaged or cannot be reached: then that is a note.
        """

    @abstractmethod
    def has_live(self) -> bool:
        """Whether there is a live database whose rows can be read: else there is nothing to save or to carry over.

        Raises ServerUnreachableError where that cannot be told.
        """

    @abstractmethod
    def switch(self, scratch: Scratch, request: SwitchRequest) -> Switched:
        """Put the finished ``scratch`` in the live database's place, atomically; keep what it replaces.

        Whatever interrupts it, the live name is exactly the old or exactly the new database. Raises LockedError,
        RefusedError, DatabaseError and their kin, and then nothing has changed.
        """

    def in_place(self) -> InPlace | None:
        """Return how the live database itself is restored; None where that is what its switch does."""
        return None

    @abstractmethod
    def switch_back(self, replaced: Replaced, request: SwitchRequest) -> Switched:
        """Put a replaced database back in its place, in the same way; what stands there is kept in its turn."""

    @abstractmethod
    def recover_switch(self) -> Switched | None:
        """Undo what a dead run left half-made; return its switch where that took place and was never settled.

        Waits until the dead run's session is gone, so that nothing of it takes place later.
        """

    @abstractmethod
    def settle_switch(self, switched: Switched) -> None:
        """Note that everything that follows a switch was done: :meth:`recover_switch` no longer returns it."""

    @abstractmethod
    def list_replaced(self) -> list[Replaced]:
        """Return the databases that switches have put aside, newest first."""

    @abstractmethod
    def replaced_orm(self, replaced: Replaced) -> AbstractContextManager[str]:
        """Yield a Django database alias, for the calling thread, that reads a replaced database."""

    @abstractmethod
    def release(self, replaced: Replaced) -> None:
        """Delete a replaced database for good. Raises RefusedError for what is not one of ours."""

    def elsewhere(self, place: str) -> Place:
        """Return what somebody means by ``place``: a new name where the live database is, or a URL.

        Raises UsageError, and RefusedError for a password where everybody can read it; neither repeats that.
        """
        if "://" in place:
            raise UsageError(
                "A URL names a database on a server, and this database is on none.", remedy="Give a name or a path."
            )
        return Place(engine=self, name=place, shown=place)

    @abstractmethod
    def keep_as(self, scratch: Scratch, name: str) -> str:
        """Leave ``scratch`` under ``name``, which must be new; return the command that opens it.

        Raises RefusedError where there is something of that name.
        """
