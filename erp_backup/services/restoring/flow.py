"""Carrying a restore out: safety backup, restore beside, verify there, and only then the one atomic step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import router

from erp_backup.core.errors import BackupError, CorruptError, DatabaseError, DifferenceError, ProgramError, RefusedError
from erp_backup.core.figures import Figures, MeasurementKind, Outcome, Severity
from erp_backup.core.names import new_identifier
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Engine, InPlace, Problem, Scratch, Switched, SwitchRequest
from erp_backup.engines.bridging import Bridge
from erp_backup.models import Event, Restore, RestoreStatus, RestoreTarget
from erp_backup.services import backup as backups
from erp_backup.services import compat, foreign, leftovers, maintenance, measuring, migrating, tables, verify
from erp_backup.services.drill import Drill
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring import aftermath as following
from erp_backup.services.restoring import inplace
from erp_backup.services.restoring.planning import CHANGES_LIVE, plan_restore, schema_problems
from erp_backup.services.restoring.recovering import recover
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest, RestoreResult
from erp_backup.services.restoring.taking import Taking
from erp_backup.services.tables import TablesResult
from erp_backup.services.verification import VerificationResult, VerifyRequest


def restore(environment: Environment, request: RestoreRequest, *, expected: str = "") -> RestoreResult:
    """Carry a restore out and return what came out.

    ``expected`` is the backup that somebody has agreed to: another one is refused. Raises BackupError; until the switch
    (or the transaction) the live database is as it was.
    """
    engine = environment.engine(request.database)
    holder = f"restore (process {os.getpid()} on {environment.config.host})"
    history = History(environment.actor)
    with engine.lock(holder, environment.config.state_dir):
        recover(environment, engine, history, request.database)
        leftovers.clean_up(environment, engine, history)
        environment.reporter.phase("preflight")
        plan = plan_restore(environment, engine, request)
        if expected and plan.backup.name != expected:
            raise RefusedError(
                f"Meanwhile {plan.backup.name} is what would be restored, not {expected}.",
                remedy="Nothing was done. Look at it, and run this again.",
            )
        plan.require_possible()
        changes_live = request.target in CHANGES_LIVE
        if changes_live:
            compat.send_before_restore(environment, plan)
        result = _Run(environment=environment, engine=engine, plan=plan, history=history).carry_out()
    if changes_live:
        compat.send_after_restore(environment, plan)
    return result


@dataclass(slots=True, kw_only=True)
class _Run:
    """One restore under the database's lock."""

    environment: Environment
    engine: Engine
    plan: RestorePlan
    history: History
    name: str = field(init=False)
    begun: float = field(init=False)
    started_at: datetime = field(init=False)
    safety_backup: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taking: Taking = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.environment.clock.monotonic()
        self.started_at = self.environment.clock.now()
        self.name = new_identifier("restore", self._request.target.name.lower(), self.started_at)
        self.taking = Taking(self.engine, self.name)

    @property
    def _request(self) -> RestoreRequest:
        return self.plan.request

    def carry_out(self) -> RestoreResult:
        """Note it, do it, note how it went."""
        request, history = self._request, self.history
        history.begin_restore(
            self.name,
            self.plan.backup.name,
            request.database,
            request.target,
            self.plan.destination,
            self.started_at,
            self.environment.config.host,
        )
        for risk, reason in request.waivers.items():
            history.event(self.started_at, "risk taken", self.name, reason, risk=risk)
        try:
            self._safety()
            with self.environment.workspace.folder("restore") as folder:
                result = self._restore(folder)
        except BackupError as error:
            if self.taking.is_taken:
                raise self.taking.unfinished(error) from error
            now = self.environment.clock.now()
            history.finish_restore(self.name, now, RestoreStatus.FAILED, error.exit_code, str(error))
            history.event(now, "restore failed", self.name, str(error), backup=self.plan.backup.name)
            raise
        return result

    def _safety(self) -> None:
        """Back the live database up as it is; without one nothing is changed, unless that was asked for.

        A live database that is too damaged to be dumped does not keep a switch from happening: it is kept as it is.
        """
        if not (self.plan.has_live and self._request.safety_backup and self._request.target in CHANGES_LIVE):
            return
        self.environment.reporter.phase("safety backup")
        request = backups.BackupRequest(database=self._request.database, server_name="safety", purpose="safety")
        try:
            made = backups.back_up_locked(self.environment, self.engine, request)
        except (DatabaseError, ProgramError, CorruptError) as error:
            if self._request.target is not RestoreTarget.SWITCH:
                raise
            self.notes.append(f"No safety backup: {error} The replaced database is kept as it was.")
            self.environment.reporter.warning(self.notes[-1])
            return
        self.safety_backup = made.manifest.id
        self.history.safety_backup(self.name, self.safety_backup)
        self.problems += made.problems

    def _restore(self, folder: Folder) -> RestoreResult:
        drill = Drill(environment=self.environment, backup=self.plan.backup, request=VerifyRequest(level=self._level()))
        drill.read_copies()
        engine = self.plan.place.engine
        if engine is not self.engine:
            engine.remove_orphans()
        dump = drill.decode(engine, folder)
        in_place = engine.in_place()
        if in_place is not None and self._request.target is RestoreTarget.IN_PLACE:
            return self._in_place(in_place, drill, dump, folder)
        with engine.scratch(self.plan.backup.manifest.database, folder) as scratch:
            verified = self._verified(drill, scratch, dump)
            if self._request.migrate:
                self._migrate(scratch)
            if self._request.target in _KEEPS_COPY:
                self.notes += scratch.restore_privileges(dump, self.plan.backup.manifest)
            dump.unlink(missing_ok=True)
            return _TARGETS[self._request.target](self, scratch, verified)

    def _in_place(self, in_place: InPlace, drill: Drill, dump: Path, folder: Folder) -> RestoreResult:
        """Verify beside the live database, where that is allowed, then replace what is in it."""
        alias, manifest = self._request.database, self.plan.backup.manifest
        verified, revived = self._proven(drill, dump, folder)
        belongs = inplace.statements(manifest, alias, self.name, self.safety_backup)
        with self._closed():
            self.environment.reporter.phase("restore in place")
            try:
                self.notes += in_place.restore(dump, manifest, folder, belongs)
            except BackupError as error:
                if not inplace.took_place(alias, self.name):
                    raise
                self.problems.append(f"It has taken place, and then: {error}")
            done, differences = inplace.finish(self.engine, in_place, manifest, alias)
        report = {**done.report, "revived": revived}
        result = self._result(verified, report=report)
        if differences:
            self.environment.reporter.warning(f"What is live differs from the manifest: {differences[0]}")
        return self._noted(replace(result, differences=tuple(differences), problems=(*result.problems, *done.problems)))

    def _proven(self, drill: Drill, dump: Path, folder: Folder) -> tuple[VerificationResult, dict[str, Any]]:
        """Restore beside and compare, and who comes back to life; where no database may be created, neither."""
        with contextlib.ExitStack() as stack:
            try:
                scratch = stack.enter_context(self.engine.scratch(self.plan.backup.manifest.database, folder))
            except RefusedError as error:
                self.notes.append(f"It was only read, not restored beside the live database: {error.message}")
                result = drill.result()
                read_only = replace(result, level=result.reached)
                verify.record(self.environment, self.history, read_only, self.started_at)
                return read_only, inplace.nobody_compared()
            verified = self._verified(drill, scratch, dump)
            return verified, inplace.revived(scratch, self._request.database)

    def _level(self) -> str:
        """Model checks of the code cannot be asked of an older schema before that is migrated."""
        return "restored" if self._request.migrate else "models"

    def _verified(self, drill: Drill, scratch: Scratch, dump: Path) -> VerificationResult:
        """Restore beside and compare; what is not exactly the state that was saved goes nowhere."""
        error: BackupError | None = None
        try:
            drill.restore(self.plan.place.engine, scratch, dump)
        except BackupError as raised:
            error = raised
        result = drill.result(error)
        verify.record(self.environment, self.history, result, self.started_at)
        if error is not None:
            raise error
        if result.outcome is Outcome.FAILED:
            first = next(f for f in result.findings if f.severity == "failed")
            raise DifferenceError(
                f"Restored beside the live database, {result.name} differs from its manifest: "
                f"{first.kind} {first.subject}. {first.message}".rstrip(),
                remedy="The live database is as it was. 'verifybackup' shows all findings; restore an older backup.",
            )
        if self._request.target is not RestoreTarget.INTO and result.figures is not None:
            for problem in self._reasons_against(result.figures):
                raise problem.as_error()
        if result.outcome is not Outcome.PASSED:
            self.problems += [
                f"Not everything could be compared: {f.subject}: {f.message}"
                for f in result.findings
                if f.severity == "unverified"
            ]
        return result

    def _reasons_against(self, found: Figures) -> Iterator[Problem]:
        """What only the restored copy tells of an archive that was not made here."""
        manifest = self.plan.backup.manifest
        if not manifest.is_foreign:
            return
        yield from foreign.reasons_against_switch(manifest, found)
        problems = schema_problems(self._request, found.migrations)
        yield from (problem for problem in problems if problem.severity is Severity.FAILED)

    def _migrate(self, scratch: Scratch) -> None:
        """Migrate the copy, then let every model check measure it: none may fail, and every invariant must hold."""
        manifest = self.plan.backup.manifest
        self.environment.reporter.phase("migrate")
        migrating.migrate(self.environment, scratch, self._request.database)
        self.environment.reporter.phase("model checks")
        broken_before = {m.check for m in manifest.measurements if m.error or _breaks(m.kind, m.value)}
        for measured in measuring.measure_scratch(self.environment, scratch, manifest):
            if measured.check not in broken_before and (measured.error or _breaks(measured.kind, measured.value)):
                raise DifferenceError(
                    f"After the migration the model check {measured.check} does not hold: "
                    f"{measured.error or f'{measured.value} rows break it'}.",
                    remedy="The live database is as it was. Look at the migration, or restore with the older release.",
                )

    def switch(self, scratch: Scratch, verified: VerificationResult) -> RestoreResult:
        """Prepare the image, put it in the live one's place, and do what follows."""
        alias = self._request.database
        ended = following.prepare(self.environment, scratch, alias, has_live=self.plan.has_live)
        request = SwitchRequest(
            restore=self.name, at=self.environment.clock.now(), limit=self.environment.config.lock_timeout
        )
        with self._closed():
            self.environment.reporter.phase("switch")
            switched = self.taking.take(lambda: self.engine.switch(scratch, request))
            self.history.problem = ""  # of the database that was replaced: all of it is written again now
            done = following.finish(
                self.environment,
                self.engine,
                self.history,
                switched,
                alias,
                ended=ended,
                backup=self.plan.backup.name,
                safety_backup=self.safety_backup,
                destination=self.plan.database_name,
            )
        return self._result(verified, switched=switched, done=done)

    @contextlib.contextmanager
    def _closed(self) -> Iterator[None]:
        """Keep the web from writing while that would be lost."""
        if not self._request.maintenance:
            yield
            return
        with maintenance.closed(self.environment, reason="The database is being restored.", owner=self.name):
            yield

    def into(self, scratch: Scratch, verified: VerificationResult) -> RestoreResult:
        """Leave the copy under its own name."""
        how_to_look = self.plan.place.engine.keep_as(scratch, self.plan.place.name)
        return self._noted(self._result(verified, how_to_look=how_to_look))

    def tables(self, scratch: Scratch, verified: VerificationResult) -> RestoreResult:
        """Replace the rows of some tables."""
        self.environment.reporter.phase("tables")
        manifest = self.plan.backup.manifest
        schemas = self._request.schemas
        names = (*self._request.tables, *(t.label for t in manifest.figures.tables if t.schema in schemas))
        done = tables.restore_tables(self.environment, self.engine, scratch, manifest, names, note=self._note_inside)
        return self._noted(self._result(verified, report=done.report))

    def _note_inside(self, bridge: Bridge, done: TablesResult) -> None:
        """Note the end in the very transaction that the rows are committed in, where the history lives there."""
        if router.db_for_write(Restore) == self._request.database:
            now = self.environment.clock.now()
            columns = {"safety_backup": self.safety_backup, "report": done.report}
            restore = Restore.objects.using(bridge.alias).filter(name=self.name)
            if restore.update(status=RestoreStatus.COMPLETE, finished_at=now, exit_code=0, **columns):
                said = {"kind": "restore", "subject": self.name, "message": self.plan.database_name}
                data = {"backup": self.plan.backup.name}
                Event.objects.using(bridge.alias).create(at=now, actor=self.environment.actor, data=data, **said)

    def _noted(self, result: RestoreResult) -> RestoreResult:
        now = self.environment.clock.now()
        self.history.finish_restore(
            self.name,
            now,
            RestoreStatus.COMPLETE,
            result.exit_code if result.differences else 0,
            "; ".join(result.differences[:5]),
            safety_backup=self.safety_backup,
            report=result.report,
        )
        self.history.event_once(now, "restore", self.name, result.destination, backup=result.backup)
        return result

    def _result(
        self,
        verified: VerificationResult,
        *,
        switched: Switched | None = None,
        done: following.Done | None = None,
        how_to_look: str = "",
        report: dict[str, object] | None = None,
    ) -> RestoreResult:
        problems = [*self.problems, *(done.problems if done else ())]
        if self.history.problem:
            problems.append(f"The history could not be written ({self.history.problem}).")
        return RestoreResult(
            name=self.name,
            backup=self.plan.backup.name,
            database=self._request.database,
            target=self._request.target,
            destination=self.plan.place.shown,
            verification=verified,
            replaced=switched.replaced if switched else None,
            safety_backup=self.safety_backup,
            how_to_look=how_to_look,
            report=done.report if done else (report or {}),
            notes=tuple(self.notes),
            problems=tuple(problems),
            milliseconds=round((self.environment.clock.monotonic() - self.begun) * 1000),
        )


def _breaks(kind: MeasurementKind, value: str) -> bool:
    return kind is MeasurementKind.INVARIANT and value not in {"", "0"}


# Which targets let people work with the copy itself?
_KEEPS_COPY = frozenset({RestoreTarget.SWITCH, RestoreTarget.INTO})
# How each target is reached once the copy stands beside the live database and was found equal.
_TARGETS = {
    RestoreTarget.SWITCH: _Run.switch,
    RestoreTarget.INTO: _Run.into,
    RestoreTarget.TABLES: _Run.tables,
}
