"""Taking a switch back, and letting replaced databases go."""

from __future__ import annotations

import os

from erp_backup.core.errors import BackupError, NoBackupError
from erp_backup.core.names import new_identifier
from erp_backup.engines.base import Engine, Replaced, SwitchRequest
from erp_backup.models import Restore, RestoreStatus, RestoreTarget
from erp_backup.services import leftovers, maintenance
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring import aftermath
from erp_backup.services.restoring.recovering import recover
from erp_backup.services.restoring.request import RestoreResult
from erp_backup.services.restoring.taking import Taking


def find_replaced(engine: Engine, name: str = "") -> Replaced:
    """Return the replaced database of that name, or the newest. Raises NoBackupError."""
    kept = engine.list_replaced()
    found = [replaced for replaced in kept if not name or name in {replaced.name, replaced.restore}]
    if found:
        return found[0]
    raise NoBackupError(
        f"There is no replaced database {name!r}." if name else "There is no replaced database to take back.",
        remedy="'dbrestore --replaced' lists them; restore a backup instead.",
    )


def complete_earlier(environment: Environment, alias: str) -> RestoreResult | None:
    """Complete or undo what a dead run left; return a rollback that was completed, which nobody wants to do twice."""
    engine = environment.engine(alias)
    history = History(environment.actor)
    begun = environment.clock.monotonic()
    holder = f"rollback (process {os.getpid()} on {environment.config.host})"
    with engine.lock(holder, environment.config.state_dir):
        completed = recover(environment, engine, history, alias)
    row = Restore.objects.filter(name=completed, target=RestoreTarget.ROLLBACK).first() if completed else None
    if row is None:
        return None
    return RestoreResult(
        name=row.name,
        backup="",
        database=alias,
        target=RestoreTarget.ROLLBACK,
        destination=row.destination,
        replaced=next((one for one in engine.list_replaced() if one.name == row.replaced), None),
        report=row.report,
        notes=("An earlier run had taken it back and then died: that one was completed, and no other was begun.",),
        milliseconds=round((environment.clock.monotonic() - begun) * 1000),
    )


def roll_back(environment: Environment, alias: str, name: str = "") -> RestoreResult:
    """Put a replaced database back in its place; what stands there now is kept in its turn. Raises BackupError."""
    engine = environment.engine(alias)
    history = History(environment.actor)
    begun = environment.clock.monotonic()
    holder = f"rollback (process {os.getpid()} on {environment.config.host})"
    with engine.lock(holder, environment.config.state_dir):
        recover(environment, engine, history, alias)
        leftovers.clean_up(environment, engine, history)
        replaced = find_replaced(engine, name)
        at = environment.clock.now()
        restore = new_identifier("restore", "rollback", at)
        destination = engine.database.name
        history.begin_restore(restore, "", alias, RestoreTarget.ROLLBACK, destination, at, environment.config.host)
        request = SwitchRequest(restore=restore, at=at, limit=environment.config.lock_timeout)
        taking = Taking(engine, restore)
        try:
            with maintenance.closed(environment, reason="A restore is being taken back.", owner=restore):
                environment.reporter.phase("switch back")
                switched = taking.take(lambda: engine.switch_back(replaced, request))
                done = aftermath.finish(
                    environment,
                    engine,
                    history,
                    switched,
                    alias,
                    target=RestoreTarget.ROLLBACK,
                    destination=destination,
                )
        except BackupError as error:
            if taking.is_taken:
                raise taking.unfinished(error) from error
            history.finish_restore(restore, environment.clock.now(), RestoreStatus.FAILED, error.exit_code, str(error))
            raise
    problems = [*done.problems]
    if history.problem:
        problems.append(f"The history could not be written ({history.problem}).")
    return RestoreResult(
        name=restore,
        backup="",
        database=alias,
        target=RestoreTarget.ROLLBACK,
        destination=destination,
        replaced=switched.replaced,
        report=done.report,
        problems=tuple(problems),
        milliseconds=round((environment.clock.monotonic() - begun) * 1000),
    )


def release(environment: Environment, alias: str, name: str) -> Replaced:
    """Delete a replaced database for good. Raises NoBackupError, RefusedError."""
    engine = environment.engine(alias)
    holder = f"release (process {os.getpid()} on {environment.config.host})"
    with engine.lock(holder, environment.config.state_dir):
        replaced = find_replaced(engine, name)
        engine.release(replaced)
        now = environment.clock.now()
        History(environment.actor).event(now, "released", replaced.name, f"replaced by {replaced.restore}")
    return replaced
