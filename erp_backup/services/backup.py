"""Making a backup: lock, snapshot, dump and figures at the same time, archive, manifest, history."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

import django

import erp_backup
from erp_backup.core import manifest as manifests
from erp_backup.core.codecs import Codec
from erp_backup.core.errors import BackupError, LocationError, LockedError, PartialError, UsageError
from erp_backup.core.figures import Figures, Measurement, Severity
from erp_backup.core.manifest import ArchiveFacts, Manifest
from erp_backup.core.names import manifest_name, new_identifier, require_safe
from erp_backup.core.workspace import Folder, Leftovers
from erp_backup.engines.base import DumpRequest, Engine, Problem, Snapshot
from erp_backup.locations.base import Location
from erp_backup.models import CopyState
from erp_backup.services import catalog, heads, leftovers, measuring, storing
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.heads import Head
from erp_backup.services.history import CopyNote, History
from erp_backup.services.restoring.recovering import recover

_ATTEMPTS = 4  # a lock in the way (somebody's migration) costs an attempt, not the backup
_PAUSE = 2.0  # seconds before the next one, longer each time


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What is asked for: one database, what of it, how it is encoded, and where it goes."""

    database: str
    kind: str = "full"
    format: str = ""
    locations: tuple[str, ...] = ()  # aliases; empty: all configured
    output_path: Path | None = None  # a folder instead of the locations
    output_name: str = ""  # the archive's name instead of a generated one
    server_name: str = ""  # goes into the name
    excluded_tables: tuple[str, ...] = ()  # beside those of the settings
    schemas: tuple[str, ...] = ()  # instead of those of the settings
    compress: bool | None = None  # None: as the settings say
    encrypt: bool | None = None
    purpose: str = ""  # "safety": before a restore


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """What came out. ``problems`` say what could not be done although the backup exists: then the run is partial."""

    manifest: Manifest
    sha256: str
    locations: tuple[str, ...]
    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def failed_measurements(self) -> tuple[Measurement, ...]:
        """The model checks that gave no figure."""
        return tuple(measurement for measurement in self.manifest.measurements if measurement.error)

    @property
    def exit_code(self) -> int:
        """0, or 3 when something beside the backup failed."""
        return PartialError.exit_code if self.problems else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a backup would do, before anything is touched."""

    database: str
    kind: str
    format: str
    codecs: tuple[str, ...]
    locations: tuple[str, ...]
    excluded_tables: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def is_possible(self) -> bool:
        """Whether nothing stands in the way."""
        return all(problem.severity is not Severity.FAILED for problem in self.problems)


def plan_backup(environment: Environment, request: BackupRequest) -> Plan:
    """Return what :func:`take_backup` would do, and what would go wrong.

    Changes nothing. Raises what preflight raises.
    """
    engine = environment.engine(request.database)
    dump = _dump_request(environment, engine, request)
    codecs = environment.encoders(compress=request.compress is not False, encrypt=request.encrypt)
    return Plan(
        database=request.database,
        kind=dump.kind,
        format=dump.format,
        codecs=tuple(codec.name for codec in codecs),
        locations=tuple(location.alias for location in _locations(environment, request)),
        excluded_tables=dump.excluded_tables,
        problems=tuple(engine.preflight(dump)),
    )


def take_backup(environment: Environment, request: BackupRequest) -> BackupResult:
    """Back one database up and return the backup; it exists in at least one location when this returns.

    Raises LockedError, ServerUnreachableError, NoSpaceError, ProgramError and their kin; then nothing is left that
    could be taken for a backup.
    """
    engine = environment.engine(request.database)
    _dump_request(environment, engine, request)  # what cannot be asked for is said before anything is done
    holder = f"backup (process {os.getpid()} on {environment.config.host})"
    environment.signer()  # a missing or unreadable key is said before anything is done
    with engine.lock(holder, environment.config.state_dir):
        recover(environment, engine, History(environment.actor), request.database)
        return back_up_locked(environment, engine, request)


def back_up_locked(environment: Environment, engine: Engine, request: BackupRequest) -> BackupResult:
    """Do what :func:`take_backup` does, for somebody who holds the database's lock already."""
    dump = _dump_request(environment, engine, request)
    targets = _locations(environment, request)
    history = History(environment.actor)
    leftovers.clean_up(environment, engine, history)
    notes = _preflight(environment, engine, dump)
    attempt = Attempt(
        environment=environment, engine=engine, request=request, dump=dump, targets=targets, history=history
    )
    return replace(_with_retries(environment, attempt), notes=notes)


def _dump_request(environment: Environment, engine: Engine, request: BackupRequest) -> DumpRequest:
    """Join what was asked with what the settings say; refuse what the engine cannot do."""
    settings = environment.config.database(request.database)
    format_name = request.format or settings.format or engine.formats[0]
    if format_name not in engine.formats:
        raise UsageError(
            f"The format {format_name!r} is not for this database.", remedy=f"Use one of: {', '.join(engine.formats)}."
        )
    if request.kind not in engine.kinds:
        raise UsageError(f"The kind {request.kind!r} does not exist.", remedy=f"Use one of: {', '.join(engine.kinds)}.")
    return DumpRequest(
        kind=request.kind,
        format=format_name,
        excluded_tables=tuple(dict.fromkeys((*settings.excluded_tables, *request.excluded_tables))),
        schemas=request.schemas or settings.schemas,
    )


def _locations(environment: Environment, request: BackupRequest) -> tuple[Location, ...]:
    if request.output_path is not None:
        return (folder_location(request.output_path),)
    if request.locations:
        return tuple(environment.location(alias) for alias in request.locations)
    return environment.locations


def _preflight(environment: Environment, engine: Engine, dump: DumpRequest) -> tuple[str, ...]:
    """Raise what stands in the way, return what is only worth knowing."""
    environment.reporter.phase("preflight")
    problems = engine.preflight(dump)
    for problem in problems:
        if problem.severity is Severity.FAILED:
            raise problem.as_error()
    notes = tuple(f"{problem.message} {problem.remedy}".strip() for problem in problems)
    for note in notes:
        environment.reporter.note(note)
    return notes


def _with_retries(environment: Environment, attempt: Attempt) -> BackupResult:
    """Begin anew, with a new snapshot, when a lock stood in the way before anything was stored."""
    for number in range(1, _ATTEMPTS + 1):
        try:
            return attempt.run()
        except LockedError as error:
            if number == _ATTEMPTS:
                raise
            environment.reporter.note(f"{error.message} Trying again.")
            environment.clock.sleep(_PAUSE * number)
    raise AssertionError("unreachable")


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt at one backup, under the lock."""

    environment: Environment
    engine: Engine
    request: BackupRequest
    dump: DumpRequest
    targets: tuple[Location, ...]
    history: History
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> BackupResult:
        """Make the backup.

        Whatever fails, nothing half-done stays; a killed process's leftovers go with the next run.
        """
        started_at = self.environment.clock.now()
        identifier = new_identifier(self._prefix(), self.dump.kind, started_at)
        archive_name = self._archive_name(identifier)
        self._require_new(archive_name)
        self.history.begin(
            name=identifier,
            database=self.request.database,
            database_name=self.engine.database.name,
            kind=self.dump.kind,
            at=started_at,
            host=self.environment.config.host,
        )
        try:
            with self.environment.workspace.folder("backup") as folder:
                folder.note_leftovers(
                    Leftovers(backup=identifier, archive=archive_name, locations=[t.alias for t in self.targets])
                )
                return self._make(identifier, archive_name, started_at, folder)
        except BackupError as error:
            self.history.fail(identifier, error, self.environment.clock.now())
            raise

    def _require_new(self, archive_name: str) -> None:
        """Refuse a name that is taken before it is noted as ours: clean-ups touch only what an attempt made."""
        for target in self.targets:
            for name in (archive_name, manifest_name(archive_name)):
                if target.exists(name):
                    raise LocationError(
                        f"There is already a file {target.describe(name)}.",
                        remedy="It was not touched. Use another name.",
                    )

    def _prefix(self) -> str:
        settings = self.environment.config.database(self.request.database)
        prefix = settings.prefix or Path(self.engine.database.name).stem
        return f"{prefix}_{self.request.server_name}" if self.request.server_name else prefix

    def _archive_name(self, identifier: str) -> str:
        codecs = self._codecs()
        suffix = self.engine.suffixes[self.dump.format] + "".join(codec.suffix for codec in codecs)
        return require_safe(self.request.output_name or f"{identifier}.{suffix}")

    def _codecs(self) -> list[Codec]:
        return self.environment.encoders(compress=self.request.compress is not False, encrypt=self.request.encrypt)

    def _make(self, identifier: str, archive_name: str, started_at: datetime, folder: Folder) -> BackupResult:
        clock, first = self.environment.clock, self.targets[0]
        begun = clock.monotonic()
        with contextlib.ExitStack() as undo:
            with self._snapshot(folder) as snapshot:
                archive = storing.Archive(name=archive_name, codecs=self._codecs(), location=first)
                measured = self._measure_and_store(snapshot, archive, undo)
            measured_at = clock.monotonic()
            stored, problems = storing.copy_to_all(self.environment, measured.archive, self.targets, undo)
            manifest = self._manifest(identifier, snapshot, measured, begun, measured_at)
            raw = manifests.write(manifest, self.environment.signer())
            stored = storing.publish(self.environment, raw, manifest.archive, stored, problems, targets=self.targets)
            undo.pop_all()  # from here on it is a backup, and nothing of it may be taken back
        return self._finish(manifest, raw, stored, problems, started_at)

    @contextlib.contextmanager
    def _snapshot(self, folder: Folder) -> Iterator[Snapshot]:
        self.environment.reporter.phase("snapshot")
        with self.engine.snapshot(self.dump, folder) as snapshot:
            yield snapshot

    def _measure_and_store(self, snapshot: Snapshot, archive: storing.Archive, undo: contextlib.ExitStack) -> Measured:
        """Dump, figures and model checks look through the same snapshot at the same time.

        Model checks run in this thread (Django's connections, and time limits by alarm, belong to it); the dump's
        program is started here too, because it is bound to the thread that starts it.
        """
        reporter = self.environment.reporter
        with snapshot.orm() as alias:
            dump = snapshot.dump()
            reporter.phase("dump and figures")
            with _Workers(self.stop, snapshot) as workers:
                storing_ = workers.submit(lambda: self._store(archive, dump, undo))
                figuring = workers.submit(snapshot.figures)
                measurements = measuring.measure_snapshot(
                    self.environment, snapshot, alias, database=self.request.database, request=self.dump
                )
                return Measured(archive=storing_.result(), figures=figuring.result(), measurements=measurements)

    def _store(self, archive: storing.Archive, dump: Iterator[bytes], undo: contextlib.ExitStack) -> ArchiveFacts:
        """Only what this attempt has made is ever taken back: a save that fails leaves nothing by itself."""
        stored = storing.store_archive(archive, dump, stop=self.stop, reporter=self.environment.reporter)
        undo.callback(archive.location.delete, archive.name)
        return stored

    def _manifest(
        self, identifier: str, snapshot: Snapshot, measured: Measured, begun: float, measured_at: float
    ) -> Manifest:
        clock, config = self.environment.clock, self.environment.config
        head = newest_head(self.environment, self.request.database, self.targets)
        codec_names = measured.archive.codecs
        return Manifest(
            id=identifier,
            number=head.number + 1,
            previous_sha256=head.sha256,
            database=snapshot.facts,
            kind=self.dump.kind,
            format=self.dump.format,
            taken_at=snapshot.taken_at,
            finished_at=clock.now(),
            host=config.host,
            release=config.release,
            tools=_tools(self.engine),
            archive=measured.archive,
            recipients=config.encryption.recipients if "age" in codec_names else (),
            figures=replace(measured.figures, methods=dict(self.engine.methods)),
            not_included=snapshot.not_included,
            excluded_tables=self.dump.excluded_tables,
            schemas=self.dump.schemas,
            measurements=measured.measurements,
            purpose=self.request.purpose,
            durations={
                "dump": round((measured_at - begun) * 1000),
                "total": round((clock.monotonic() - begun) * 1000),
            },
        )

    def _finish(
        self, manifest: Manifest, raw: bytes, stored: list[Location], problems: dict[str, str], started_at: datetime
    ) -> BackupResult:
        sha256, now = manifests.digest(raw), self.environment.clock.now()
        if self.request.output_path is None:  # a folder of somebody's own is no location that could withhold anything
            head = Head(number=manifest.number, sha256=sha256, name=manifest.id)
            heads.advance_head(self.environment.config.state_dir, self.request.database, head)
        partial = "; ".join(f"location {alias!r}: {problem}" for alias, problem in problems.items())
        state = CopyState.VERIFIED if self.environment.config.read_back else CopyState.STORED
        read_back_at = now if self.environment.config.read_back else None
        copies = [
            CopyNote(location=location.alias, state=state, stored_at=now, read_back_at=read_back_at)
            for location in stored
        ]
        self.history.complete(manifest, raw, sha256, started_at=started_at, copies=copies, partial=partial)
        self.history.event(now, "backup", manifest.id, partial)
        all_problems = [partial] if partial else []
        if self.history.problem:
            all_problems.append(f"The history could not be written ({self.history.problem}).")
        return BackupResult(
            manifest=manifest,
            sha256=sha256,
            locations=tuple(location.alias for location in stored),
            paths=tuple(location.describe(manifest.archive.name) for location in stored),
            problems=tuple(all_problems),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What dump, figures and model checks gave, all in one snapshot."""

    archive: ArchiveFacts
    figures: Figures
    measurements: tuple[Measurement, ...]


T = TypeVar("T")


class _Workers:
    """Two threads beside this one; when anything fails, all are stopped and have ended before the error goes on."""

    def __init__(self, stop: threading.Event, snapshot: Snapshot) -> None:
        self._stop = stop
        self._snapshot = snapshot
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="backup")

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Start ``work`` in a thread."""
        return self._pool.submit(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, _error: object, _traceback: object) -> None:
        if kind is not None:
            self._stop.set()
            self._snapshot.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)


def newest_head(environment: Environment, alias: str, targets: tuple[Location, ...]) -> Head:
    """Return the newest manifest's number and hash: the recorded head, or else what the locations hold."""
    head = heads.read_heads(environment.config.state_dir).get(alias)
    if head is not None:
        return head
    found = catalog.newest_by_database(catalog.group(catalog.read_all(environment, targets)))
    newest = found.get(alias)
    return Head(number=newest.manifest.number, sha256=newest.sha256, name=newest.name) if newest else Head()


def _tools(engine: Engine) -> dict[str, str]:
    return {
        **engine.tool_versions(),
        "erp_backup": erp_backup.__version__,
        "python": platform.python_version(),
        "django": django.get_version(),
    }
