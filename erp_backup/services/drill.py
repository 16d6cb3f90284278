"""One verification, level by level: stored, readable, restored, models, application."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from erp_backup.core.codecs import Meter, decode_with, limited
from erp_backup.core.comparison import compare_figures
from erp_backup.core.errors import BackupError, CorruptError, InterruptedBySignal, MissingError, RefusedError
from erp_backup.core.figures import Figures, Finding, Measurement, Outcome, Severity, outcome_of
from erp_backup.core.manifest import Manifest
from erp_backup.core.spaces import no_space_as_error, require_space
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import ABOUT_ROWS, Engine, LoadReport, Scratch
from erp_backup.locations.base import Location
from erp_backup.models import CopyState
from erp_backup.services import foreign, measuring, probing, storing
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.verification import LEVELS, VerificationResult, VerifyRequest

_HEAD = 64 * 1024 * 1024  # bytes of a dump that surely hold its table of contents
_MOST_ERRORS = 20  # of a restore program, as findings; the rest is counted


def verify_one(environment: Environment, backup: Found, request: VerifyRequest) -> VerificationResult:
    """Verify one backup up to the level asked for. What goes wrong is in the result; only a signal is raised."""
    drill = Drill(environment=environment, backup=backup, request=request)
    error: BackupError | None = None
    try:
        with environment.workspace.folder("verify") as folder:
            drill.run(folder)
    except InterruptedBySignal:
        raise
    except BackupError as raised:
        error = raised
    return drill.result(error)


@dataclass(slots=True, kw_only=True)
class Drill:
    """Goes up the levels and remembers how far it came."""

    environment: Environment
    backup: Found
    request: VerifyRequest
    source: Entry = field(init=False)
    begun: float = field(init=False)
    reached: str = ""
    findings: list[Finding] = field(default_factory=list)
    restore_milliseconds: int | None = None
    figures: Figures | None = None
    measurements: tuple[Measurement, ...] = ()
    kept: str = ""

    def __post_init__(self) -> None:
        self.source = self.backup.copies[0]
        self.begun = self.environment.clock.monotonic()

    @property
    def _manifest(self) -> Manifest:
        return self.backup.manifest

    def elapsed(self) -> int:
        """Milliseconds since the beginning."""
        return round((self.environment.clock.monotonic() - self.begun) * 1000)

    def _asks(self, level: str) -> bool:
        return LEVELS.index(self.request.level) >= LEVELS.index(level)

    def result(self, error: BackupError | None = None) -> VerificationResult:
        """What was found so far; ``error`` is why it could not go on."""
        return VerificationResult(
            name=self.backup.name,
            level=self.request.level,
            reached=self.reached,
            location=self.source.location.alias,
            manifest=self._manifest,
            findings=tuple(self.findings),
            error=error,
            restore_milliseconds=self.restore_milliseconds,
            total_milliseconds=self.elapsed(),
            figures=self.figures,
            measurements=self.measurements,
            kept=self.kept,
        )

    def run(self, folder: Folder) -> None:
        """Go up to the level asked for; the first level that cannot be completed ends it."""
        self.read_copies()
        if self._asks("readable"):
            engine = self._engine()
            dump = self.decode(engine, folder)
            if self._asks("restored"):
                with engine.scratch(self._manifest.database, folder) as scratch:
                    self.restore(engine, scratch, dump)
                    if self.request.keep:
                        scratch.keep()
                        folder.keep()
                        self.kept = scratch.how_to_look()

    def _engine(self) -> Engine:
        """The engine of the database it was taken of, where that alias still is of the same kind."""
        database = self._manifest.database
        engine = self.environment.engine(database.alias)
        if engine.vendor != database.engine:
            raise RefusedError(
                f"It is a backup of a {database.engine} database; {database.alias!r} is {engine.vendor} here.",
                remedy="Verify it where DATABASES has such a database, or at level 'stored'.",
            )
        return engine

    def read_copies(self) -> None:
        """Read every copy to its end; go on with the first good one."""
        if self._manifest.is_foreign:
            self.findings.append(foreign.not_compared(self._manifest))
        good: list[Entry] = []
        errors: list[BackupError] = []
        for copy in self.backup.copies:
            self.environment.reporter.phase(f"read {copy.location.alias}", total=self._manifest.archive.size)
            try:
                storing.read_back(self._manifest.archive, copy.location, self.environment.reporter.advance)
            except BackupError as error:
                errors.append(error)
                self._note_copy(copy, error)
            else:
                good.append(copy)
                self._note_copy(copy, None)
        if not good:
            raise errors[0]
        self.findings += [_damaged_copy(error) for error in errors]
        self.source = good[0]
        self.reached = "stored"

    def _note_copy(self, copy: Entry, error: BackupError | None) -> None:
        state = CopyState.VERIFIED
        if error is not None:
            state = CopyState.MISSING if isinstance(error, MissingError) else CopyState.DAMAGED
        history = History(self.environment.actor)
        history.copy_state(self._manifest.id, copy.location.alias, state, self.environment.clock.now())

    def decode(self, engine: Engine, folder: Folder) -> Path:
        """Decrypt and decompress to the end, then let the database's tool read what came out."""
        is_foreign = self._manifest.is_foreign
        only_head = engine.lists_from_head and not self._asks("restored") and not is_foreign
        self.environment.reporter.phase("decode", total=self._manifest.archive.uncompressed_size)
        begun = self.environment.clock.monotonic()
        dump = stage(self.environment, self._manifest, self.source.location, folder, only_head=only_head)
        if is_foreign:
            engine.inspect_foreign(dump, self._manifest)
        else:
            engine.list_archive(dump, self._manifest.format)
        self.restore_milliseconds = round((self.environment.clock.monotonic() - begun) * 1000)
        self.reached = "readable"
        return dump

    def restore(self, engine: Engine, scratch: Scratch, dump: Path) -> None:
        """Restore into the scratch database and compare everything with the manifest."""
        reporter, clock = self.environment.reporter, self.environment.clock
        staged = self.restore_milliseconds or 0
        self.restore_milliseconds = None
        reporter.phase("restore")
        begun = clock.monotonic()
        report = scratch.load(dump, self._manifest)
        self.restore_milliseconds = staged + round((clock.monotonic() - begun) * 1000)
        self.findings += _load_findings(report)
        self._compare_figures(engine, scratch)
        self.reached = "restored"
        if self._asks("models") and self._can_ask_models():
            self._compare_model_checks(scratch)
        self.reached = "models" if self._asks("models") else self.reached
        if self._asks("application"):
            self._probe(scratch)

    def _compare_figures(self, engine: Engine, scratch: Scratch) -> None:
        self.environment.reporter.phase("compare figures")
        manifest = self._manifest
        found = replace(scratch.figures(manifest.figures), methods=dict(engine.methods))
        self.figures = found
        if manifest.is_foreign:
            self.findings += foreign.findings_about_figures(found)
            complaints = scratch.integrity_errors()
            self.findings += [_integrity_finding(text, has_source_rows=True) for text in complaints]
            return
        self.findings += compare_figures(
            manifest.figures,
            found,
            same_major=scratch.major == manifest.database.major,
            data=manifest.has_data,
            schema=manifest.has_schema,
        )
        has_source_rows = outcome_of(self.findings) is Outcome.PASSED
        self.findings += [
            _integrity_finding(text, has_source_rows=has_source_rows) for text in scratch.integrity_errors()
        ]

    def _can_ask_models(self) -> bool:
        """Whether the copy is all that model checks look at, and its tables are tables."""
        has_impostors = self._manifest.is_foreign and self.figures is not None and foreign.impostors(self.figures)
        return self._manifest.has_model_checks and not has_impostors

    def _compare_model_checks(self, scratch: Scratch) -> None:
        self.environment.reporter.phase("model checks")
        self.measurements = measuring.measure_scratch(self.environment, scratch, self._manifest)
        if self._manifest.is_foreign:
            self.findings += foreign.findings_about_measurements(self.measurements)
        else:
            self.findings += measuring.compare(self._manifest, self.measurements)

    def _probe(self, scratch: Scratch) -> None:
        self.environment.reporter.phase("application")
        self.findings += probing.probe(self.environment, scratch, self._manifest)
        self.reached = "application"


def stage(
    environment: Environment, manifest: Manifest, location: Location, folder: Folder, *, only_head: bool = False
) -> Path:
    """Decode an archive, whose copy was read and found right, into the job's folder and return the file.

    The bytes that are decoded are hashed again on their way: no tool is given the file unless they are the
    manifest's, to the last one. ``only_head`` keeps just what holds the table of contents. Raises CorruptError,
    KeyUnavailableError, NoSpaceError.
    """
    archive = manifest.archive
    decoders = environment.decoders(archive.codecs)
    limit = _HEAD if only_head else archive.uncompressed_size
    path = folder.path / "dump"
    require_space(folder.path, min(limit, archive.uncompressed_size))
    stored, decoded = Meter(), Meter(environment.reporter.advance)
    chunks = limited(decode_with(decoders, stored.through(location.open(archive.name))), archive.uncompressed_size)
    with no_space_as_error(folder.path), open_private(path) as file:
        for chunk in decoded.through(chunks):
            if limit > 0:
                file.write(chunk[:limit])
                limit -= len(chunk)
    storing.require_same(archive, stored.size, stored.sha256, location)
    if decoded.sha256 != archive.uncompressed_sha256:
        raise CorruptError(f"{location.describe(archive.name)} decodes to something else than was dumped.")
    return path


def open_private(path: Path) -> BinaryIO:
    """Open a new file that only we can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _damaged_copy(error: BackupError) -> Finding:
    """Another copy is good, so the verification goes on; but this one is no copy."""
    return Finding(kind="archive", subject="copy", expected="as stored", found="not as stored", message=str(error))


def _integrity_finding(text: str, *, has_source_rows: bool) -> Finding:
    """Faults of the rows were in the source where the rows are the source's; faults of the file never are excused."""
    if has_source_rows and text.startswith(ABOUT_ROWS):
        message = f"{text.removeprefix(ABOUT_ROWS)}. The source had it too; the restore did not cause it."
        return Finding(kind="integrity", subject="references", message=message, severity=Severity.SOURCE)
    return Finding(kind="integrity", subject="copy", message=text)


def _load_findings(report: LoadReport) -> list[Finding]:
    findings = [Finding(kind="restore", subject="error", message=text) for text in report.errors[:_MOST_ERRORS]]
    more = len(report.errors) - _MOST_ERRORS
    if more > 0:
        findings.append(Finding(kind="restore", subject="error", message=f"{more} more errors."))
    notes = [
        Finding(kind="restore", subject="note", message=text, severity=Severity.NOTE)
        for text in report.notes[:_MOST_ERRORS]
    ]
    return findings + notes
