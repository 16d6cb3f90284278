"""What a restore that died had begun: completed or undone, before anything else is done."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError

from erp_backup.core.errors import BackupError
from erp_backup.engines.base import Engine
from erp_backup.models import Restore, RestoreStatus
from erp_backup.services import maintenance
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring import aftermath


class RestoreDiedError(BackupError):
    """The restore's process ended without a word before the switch."""


def recover(environment: Environment, engine: Engine, history: History, alias: str) -> str:
    """Finish or undo what a dead run left of a switch; return the name of a restore that was completed here.

    Under the database's lock: whoever had begun something is gone.
    """
    switched = engine.recover_switch()
    if switched is not None:
        environment.reporter.note(f"The restore {switched.restore} had switched and then died: completing it.")
        done = aftermath.finish(environment, engine, history, switched, alias)
        aftermath.note(environment, history, switched, done, backup="", alias=alias)
    _mark_dead(environment, history, alias, completed=switched.restore if switched else "")
    maintenance.leave_stale(environment)
    return switched.restore if switched else ""


def _mark_dead(environment: Environment, history: History, alias: str, *, completed: str) -> None:
    """Restores that are still noted as running are nobody's: we hold the lock."""
    running = Restore.objects.filter(database=alias, status=RestoreStatus.RUNNING).exclude(name=completed)
    try:
        names = list(running.values_list("name", flat=True))
    except (DatabaseError, InterfaceError):
        return
    for name in names:
        history.finish_restore(name, environment.clock.now(), RestoreStatus.FAILED, _DIED.exit_code, str(_DIED))


_DIED = RestoreDiedError(
    "Its process ended before it was done.", remedy="The live database is as it was; nothing of it is left."
)
