"""``recoverrows``: restore beside, compare, show, and, when it is confirmed, put back what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from erp_backup.core.errors import BackupError, InterruptedBySignal, LockedError
from erp_backup.engines.base import Engine, Scratch
from erp_backup.models import RestoreTarget
from erp_backup.services import backup as backups
from erp_backup.services import beside, catalog, leftovers
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring.recovering import recover_dead
from erp_backup.services.rows import exporting, planning, signalling
from erp_backup.services.rows.applying import require_applicable, write_rows
from erp_backup.services.rows.graph import model_called
from erp_backup.services.rows.noting import Noted
from erp_backup.services.rows.request import CheckChange, RowsPlan, RowsRequest, RowsResult
from erp_backup.services.rows.selection import require_answerable

Confirm = Callable[[RowsPlan], None]


def recover_rows(environment: Environment, request: RowsRequest, confirm: Confirm) -> RowsResult:
    """Find missing rows and, with ``apply``, insert them in one transaction; else nothing is changed.

    ``confirm`` is shown the plan before anything is written and raises RefusedError when it is not wanted. Raises
    DifferenceError for a backup that does not restore to its snapshot, and for a rule that the rows would break;
    RefusedError for conflicts; UsageError; LockedError.
    """
    backup = catalog.find(catalog.group(catalog.read_all(environment)), request.backup)
    engine = beside.engine_of(environment, backup)
    require_answerable(model_called(request.model, engine.database.alias), engine.database.alias, request)
    if request.export is not None:
        exporting.require_exportable(request.export)
    _clean_up(environment, engine)
    with beside.restored_beside(environment, engine, backup) as scratch:
        recovery = _Recovery(environment=environment, engine=engine, scratch=scratch, backup=backup, request=request)
        return recovery.run(confirm)


def _clean_up(environment: Environment, engine: Engine) -> None:
    try:
        history = History(environment.actor)
        recover_dead(environment, engine, history, engine.database.alias)
        leftovers.clean_up(environment, engine, history)
    except InterruptedBySignal:
        raise
    except BackupError as error:
        environment.reporter.warning(f"Leftovers could not be looked for: {error}")


@dataclass(slots=True, kw_only=True)
class _Recovery:
    """One run, with the copy open beside the live database."""

    environment: Environment
    engine: Engine
    scratch: Scratch
    backup: catalog.Found
    request: RowsRequest
    exported: int = 0
    keys: signalling.Keys = field(default_factory=list)

    @property
    def _database(self) -> str:
        return self.backup.manifest.database.alias

    def run(self, confirm: Confirm) -> RowsResult:
        """Plan, export, confirm, apply."""
        plan = self._plan()
        result = RowsResult(plan=plan, exported=str(self.request.export or ""), exported_rows=self.exported)
        if not self.request.apply or plan.is_empty:
            return result
        require_applicable(plan, self.request)
        confirm(plan)
        return self._apply(result)

    def _plan(self) -> RowsPlan:
        """Look, in a transaction that writes nothing and keeps nobody from writing."""
        self.environment.reporter.phase("compare rows")
        with self.engine.bridge(self.scratch, write=False) as bridge:
            found = planning.find(bridge, self.scratch, self.backup.manifest, self.request)
            plan = planning.describe(found, self.backup.manifest, self.request, self.engine.database.name)
            if self.request.export is not None:
                heading = f"{plan.missing} rows of {plan.backup} that are missing in the live database"
                self.exported = exporting.export(bridge, found.nodes, found.target, self.request.export, heading)
        return plan

    def _apply(self, result: RowsResult) -> RowsResult:
        environment, plan = self.environment, result.plan
        noted = Noted(
            environment=environment,
            backup=plan.backup,
            database=plan.database,
            target=RestoreTarget.ROWS.value,
            destination=plan.model,
        )
        holder = f"recoverrows {plan.model} on {environment.config.host}"
        problems: list[str] = []
        with self.engine.lock(holder, environment.config.state_dir), noted.running():
            safety = self._safety(problems)
            noted.columns = {"safety_backup": safety, "report": _report(plan)}
            checks = self._write(plan, noted)
            noted.complete()
        if self.request.with_signals:
            problems += signalling.send_signals(self.keys, self._database)
        if noted.history.problem:
            problems.append(f"The history could not be written ({noted.history.problem}).")
        return replace(
            result, applied=True, restore=noted.name, safety_backup=safety, checks=checks, problems=tuple(problems)
        )

    def _safety(self, problems: list[str]) -> str:
        if not self.request.safety_backup:
            return ""
        self.environment.reporter.phase("safety backup")
        request = backups.BackupRequest(database=self._database, server_name="safety", purpose="safety")
        made = backups.back_up_locked(self.environment, self.engine, request)
        problems += made.problems
        return made.manifest.id

    def _write(self, plan: RowsPlan, noted: Noted) -> tuple[CheckChange, ...]:
        """Look again, in the transaction that writes: what was confirmed is what is done, or nothing."""
        with self.engine.bridge(self.scratch) as bridge:
            found = planning.find(bridge, self.scratch, self.backup.manifest, self.request)
            again = planning.describe(found, self.backup.manifest, self.request, plan.destination)
            require_applicable(again, self.request)
            if _figures(again) != _figures(plan):
                raise LockedError(
                    "The live rows have changed since they were compared.", remedy="Nothing was changed; run it again."
                )
            if self.request.with_signals:
                self.keys = signalling.inserted_keys(found)
            checks = write_rows(self.environment, bridge, found, self.request, self._database)
            noted.complete_in(bridge)
        return checks


def _figures(plan: RowsPlan) -> tuple[object, ...]:
    return tuple((rows.model, rows.count) for rows in plan.models), plan.overwritten, plan.skipped


def _report(plan: RowsPlan) -> dict[str, object]:
    return {
        "inserted": {rows.model: rows.count for rows in plan.models},
        "overwritten": plan.overwritten,
        "skipped": plan.skipped,
    }
