"""What a restore that died had begun: completed or undone, before anything else is done."""

from __future__ import annotations

import os

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError

from erp_backup.core.errors import BackupError, InterruptedBySignal, LockedError
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
        aftermath.finish(environment, engine, history, switched, alias)
    for name in _running(engine, alias):
        if switched is None or name != switched.restore:
            _mark_dead(environment, history, name)
    maintenance.leave_stale(environment)
    return switched.restore if switched else ""


def recover_dead(environment: Environment, engine: Engine, history: History, alias: str) -> None:
    """Do that for a run that needs no lock itself, where anything tells of a dead run. A living one is left alone."""
    closed = maintenance.state(environment.config)
    if not _running(engine, alias) and not (closed is not None and closed.is_stale):
        return
    holder = f"recovery (process {os.getpid()} on {environment.config.host})"
    try:
        with engine.lock(holder, environment.config.state_dir):
            recover(environment, engine, history, alias)
    except LockedError as error:
        environment.reporter.note(str(error))


def _running(engine: Engine, alias: str) -> list[str]:
    """The restores that are noted as running: nobody's, for who holds the lock. A missing file is not looked into."""
    try:
        engine.facts()
    except InterruptedBySignal:
        raise
    except BackupError:  # whoever needs the database says what is wrong with it
        return []
    running = Restore.objects.filter(database=alias, status=RestoreStatus.RUNNING)
    try:
        return list(running.values_list("name", flat=True))
    except (DatabaseError, InterfaceError, ImproperlyConfigured):  # the last: an empty `default`
        return []


def _mark_dead(environment: Environment, history: History, name: str) -> None:
    now = environment.clock.now()
    died = RestoreDiedError(
        "Its process ended before it was done.",
        remedy="The live database is as it was; a new one that it may just have named, with --into, is there.",
    )
    history.finish_restore(name, now, RestoreStatus.FAILED, died.exit_code, str(died))
    history.event_once(now, "restore failed", name, str(died))
