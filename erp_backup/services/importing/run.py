"""Importing: each archive is looked at, stored under a name of ours, and gets a manifest that says it was imported."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import erp_backup
from erp_backup.core import manifest as manifests
from erp_backup.core.codecs import Meter
from erp_backup.core.errors import BackupError, CorruptError, InterruptedBySignal, PartialError, UsageError
from erp_backup.core.manifest import ArchiveFacts, DatabaseFacts, Manifest, Origin
from erp_backup.core.names import MANIFEST_SUFFIX, manifest_name, new_identifier
from erp_backup.core.workspace import Folder, Leftovers
from erp_backup.engines.base import Engine
from erp_backup.locations.base import Location
from erp_backup.models import CopyState
from erp_backup.services import catalog, leftovers, storing
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import CopyNote, History
from erp_backup.services.importing import layers
from erp_backup.services.importing.reading import Content, read_content
from erp_backup.services.importing.recognising import Kind
from erp_backup.services.importing.sources import METADATA_SUFFIX, FileSource, Source, printable, source_in

KIND = "imported"  # in names
_OURS = re.compile(r"\w+_(?:full|schema|data|imported)_\d{8}_\d{6}_[a-z0-9]{6}\..+")
_NO_ARCHIVES = (MANIFEST_SUFFIX, METADATA_SUFFIX, ".md", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What is brought: one file, or all that is in ``source`` and was not imported yet."""

    path: Path | None = None
    source: Location | None = None
    database: str = ""  # the alias it is a backup of; empty: the only one of that kind
    name: str = ""  # how our name for it begins; empty: as for backups
    taken_at: datetime | None = None
    locations: tuple[str, ...] = ()  # where it goes; empty: all configured
    max_size: int | None = None  # bytes that it may unpack to


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What became of one archive: imported (``manifest``), skipped (``reason``), or refused (``error``)."""

    source: str
    title: str = ""
    manifest: Manifest | None = None
    paths: tuple[str, ...] = ()
    reason: str = ""
    error: BackupError | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def exit_code(results: Iterable[ImportResult]) -> int:
    """Return 0 when everything was imported or skipped; a single refusal's own code; 3 for anything between."""
    results = list(results)
    errors = [result.error for result in results if result.error is not None]
    if errors and len(errors) == len(results):
        return errors[0].exit_code
    return PartialError.exit_code if errors or any(result.problems for result in results) else 0


def import_archives(environment: Environment, request: ImportRequest) -> Iterator[ImportResult]:
    """Import what is asked for, one after the other; what is wrong with one is its result.

    No database is asked or measured. Raises LocationError when a location cannot be listed, UsageError when there is
    nothing to import, KeyUnavailableError without a key to sign with, InterruptedBySignal.
    """
    environment.signer()  # a missing or unreadable key is said before anything is done
    history = History(environment.actor)
    leftovers.clean_folders(environment, history)
    names = [""] if request.path is not None else _names_in(request.source)
    for name in names:
        shown = printable(name or str(request.path))
        try:
            yield _one(environment, request, history, name)
        except InterruptedBySignal:
            raise
        except BackupError as error:
            yield ImportResult(source=shown, error=_placed(error, shown))


def _names_in(location: Location | None) -> list[str]:
    if location is None:
        raise UsageError("There is nothing to import.", remedy="Name a file, or a location with --from.")
    return [name for name in location.names() if not name.endswith(_NO_ARCHIVES)]


def _placed(error: BackupError, shown: str) -> BackupError:
    """The same error, with the name of what was brought."""
    if shown in error.message:
        return error
    with contextlib.suppress(TypeError):
        placed = type(error)(f"{shown}: {error.message}", remedy=error.remedy)
        placed.__cause__ = error
        return placed
    return error


def _one(environment: Environment, request: ImportRequest, history: History, name: str) -> ImportResult:
    if request.source is not None and _OURS.fullmatch(name):
        known = request.source.exists(manifest_name(name))
        reason = "a backup of ours" if known else "an unfinished attempt of ours: name its file to import it"
        return ImportResult(source=name, reason=reason)
    source: Source = FileSource(path=request.path) if request.path else source_in(_required(request.source), name)
    brought = _measured(environment, source)
    known_as = _known(environment, brought)
    if known_as:
        return ImportResult(source=source.name, reason=f"already imported, as {known_as}")
    with environment.workspace.folder("import") as folder:
        return _Import(
            environment=environment, request=request, history=history, source=source, folder=folder, origin=brought
        ).run()


def _required(location: Location | None) -> Location:
    if location is None:
        raise UsageError("There is nothing to import.")
    return location


def _measured(environment: Environment, source: Source) -> Origin:
    """Read it once: its size and SHA-256 are what it is known by."""
    environment.reporter.phase(f"read {source.name}", total=source.size)
    meter = Meter(environment.reporter.advance)
    for _ in meter.through(source.chunks()):
        pass
    return Origin(name=source.name, size=meter.size, sha256=meter.sha256)


def _known(environment: Environment, brought: Origin) -> str:
    """The backup that was made of the same bytes already, or whose archive they are."""
    found = catalog.group(catalog.read_all(environment))
    return next((backup.name for backup in found if _is_same(backup, brought)), "")


def _is_same(backup: Found, brought: Origin) -> bool:
    origin = backup.manifest.origin
    known = {backup.manifest.archive.sha256, origin.sha256 if origin else ""}
    return brought.sha256 in known


@dataclass(slots=True, kw_only=True)
class _Import:
    """One archive on its way into the locations."""

    environment: Environment
    request: ImportRequest
    history: History
    source: Source
    folder: Folder
    origin: Origin

    def run(self) -> ImportResult:
        """Look at all of it, then store exactly that."""
        reporter, clock = self.environment.reporter, self.environment.clock
        limit = layers.size_limit(self.source, self.request.max_size)
        unpacked = layers.unpack(self.environment, self.source, self.folder, limit)
        reporter.phase("look at it")
        looked = Meter(reporter.advance)
        content = read_content(unpacked.kind, looked.through(unpacked.chunks()))
        engine = self._engine(unpacked.kind)
        started_at = clock.now()
        identifier = new_identifier(self._prefix(engine), KIND, started_at)
        self._begin(identifier, engine, content, started_at)
        try:
            with contextlib.ExitStack() as undo:
                archive = self._store(identifier, engine, unpacked, undo)
                if (archive.uncompressed_size, archive.uncompressed_sha256) != (looked.size, looked.sha256):
                    raise CorruptError("It changed while it was read.", remedy="Import it when nobody writes it.")
                stored, problems = storing.copy_to_all(self.environment, archive, self._targets(), undo)
                manifest = self._manifest(identifier, engine, content, unpacked.codecs, archive)
                raw = manifests.write(manifest, self.environment.signer())
                stored = storing.publish(self.environment, raw, archive, stored, problems, targets=self._targets())
                undo.pop_all()
        except BackupError as error:
            self.history.fail(identifier, error, clock.now())
            raise
        return self._finish(
            manifest=manifest, raw=raw, content=content, stored=stored, problems=problems, started_at=started_at
        )

    def _targets(self) -> tuple[Location, ...]:
        aliases = self.request.locations
        return tuple(self.environment.location(alias) for alias in aliases) or self.environment.locations

    def _engine(self, kind: Kind) -> Engine:
        """The engine of the database it is a backup of. Raises UsageError when that is not clear."""
        config = self.environment.config
        aliases = [self.request.database] if self.request.database else [entry.alias for entry in config.databases]
        engines = [engine for engine in map(self.environment.engine, aliases) if engine.vendor == kind.vendor]
        if len(engines) == 1:
            return engines[0]
        of = f"one of {', '.join(engine.database.alias for engine in engines)}" if engines else "none"
        raise UsageError(
            f"It is {kind.title}: of the databases asked for, it may belong to {of}.",
            remedy="Name the alias it is a backup of with --database.",
        )

    def _prefix(self, engine: Engine) -> str:
        settings = self.environment.config.database(engine.database.alias)
        return self.request.name or settings.prefix or Path(engine.database.name).stem

    def _begin(self, identifier: str, engine: Engine, content: Content, started_at: datetime) -> None:
        self.history.begin(
            name=identifier,
            database=engine.database.alias,
            database_name=content.database,
            kind=content.part,
            at=started_at,
            host=self.environment.config.host,
        )

    def _store(
        self, identifier: str, engine: Engine, unpacked: layers.Unpacked, undo: contextlib.ExitStack
    ) -> ArchiveFacts:
        """Stream it through our own codecs into the first location."""
        codecs = self.environment.encoders()
        suffix = engine.suffixes[unpacked.kind.format] + "".join(codec.suffix for codec in codecs)
        archive = storing.Archive(name=f"{identifier}.{suffix}", codecs=codecs, location=self._targets()[0])
        aliases = [target.alias for target in self._targets()]
        self.folder.note_leftovers(Leftovers(backup=identifier, archive=archive.name, locations=aliases))
        self.environment.reporter.phase("store")
        stored = storing.store_archive(
            archive, unpacked.chunks(), stop=threading.Event(), reporter=self.environment.reporter
        )
        undo.callback(archive.location.delete, archive.name)
        return stored

    def _manifest(
        self, identifier: str, engine: Engine, content: Content, codecs: tuple[str, ...], archive: ArchiveFacts
    ) -> Manifest:
        """It has no figures and no place in the chain: nobody measured its source, and it is no newer state of it."""
        config = self.environment.config
        major = content.server_version.split(".")[0]
        tools = {"erp_backup": erp_backup.__version__}
        if content.dump_version:
            tools["pg_dump"] = content.dump_version
        return Manifest(
            id=identifier,
            number=0,
            database=DatabaseFacts(
                alias=engine.database.alias,
                engine=engine.vendor,
                name=content.database or self.source.name,
                version=content.server_version,
                major=int(major) if major.isdecimal() else 0,
                size=archive.uncompressed_size,
            ),
            kind=content.part,
            format=content.kind.format,
            taken_at=self._taken_at(content),
            finished_at=self.environment.clock.now(),
            host=config.host,
            tools=tools,
            archive=archive,
            recipients=config.encryption.recipients if "age" in archive.codecs else (),
            origin=Origin(name=self.origin.name, size=self.origin.size, sha256=self.origin.sha256, codecs=codecs),
        )

    def _taken_at(self, content: Content) -> datetime:
        """As told; or as the archive says, by its maker's clock, which we take for ours; or as old as the file."""
        if self.request.taken_at is not None:
            return self.request.taken_at
        if content.made_at is not None:
            return content.made_at.astimezone(UTC)
        return self.source.modified_at or self.environment.clock.now()

    def _finish(
        self,
        *,
        manifest: Manifest,
        raw: bytes,
        content: Content,
        stored: list[Location],
        problems: dict[str, str],
        started_at: datetime,
    ) -> ImportResult:
        now = self.environment.clock.now()
        partial = "; ".join(f"location {alias!r}: {problem}" for alias, problem in problems.items())
        state = CopyState.VERIFIED if self.environment.config.read_back else CopyState.STORED
        read_at = now if self.environment.config.read_back else None
        copies = [
            CopyNote(location=location.alias, state=state, stored_at=now, read_back_at=read_at) for location in stored
        ]
        digest = manifests.digest(raw)
        self.history.complete(manifest, raw, digest, started_at=started_at, copies=copies, partial=partial)
        self.history.event(now, "imported", manifest.id, self.origin.name)
        said = [partial] if partial else []
        if self.history.problem:
            said.append(f"The history could not be written ({self.history.problem}).")
        return ImportResult(
            source=self.source.name,
            title=content.kind.title,
            manifest=manifest,
            paths=tuple(location.describe(manifest.archive.name) for location in stored),
            notes=tuple(self._notes(content)),
            problems=tuple(said),
        )

    def _notes(self, content: Content) -> Iterator[str]:
        """What a person should know about the archive."""
        if self.request.taken_at is None:
            what = "the archive's own time" if content.made_at is not None else "the file's time of change"
            yield f"Its state is taken to be of {what}; --taken-at says it better."
        if content.kind.format == "sqlite3" and self.source.beside("-wal"):
            yield "Beside it is a -wal file: what is in that is not in this copy. Copy with sqlite3's .backup instead."
        if content.kind.format == "plain":
            yield "SQL can do anything: it is restored only with --quarantine, by a role without rights."
        metadata = self.source.beside(METADATA_SUFFIX)
        if metadata and content.kind.vendor.encode() not in metadata:
            yield f"{METADATA_SUFFIX} beside it speaks of another kind of database; its content was believed."
