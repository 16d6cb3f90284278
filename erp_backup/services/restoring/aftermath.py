"""What goes with a switch: the history carried over, sessions ended, who came back to life; all of it repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import django.db
from django.db import connections

from erp_backup.core import jsondata
from erp_backup.core.errors import BackupError, CorruptError, DatabaseError, InterruptedBySignal, NotADatabaseError
from erp_backup.engines.base import Engine, Scratch, Switched
from erp_backup.models import RestoreStatus, RestoreTarget
from erp_backup.services import aftermath, carrying, rebuilding, reviving
from erp_backup.services.aftermath import Ended
from erp_backup.services.environment import Environment
from erp_backup.services.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What followed a switch: for the history, and what of it could not be done."""

    report: dict[str, Any]
    problems: tuple[str, ...] = ()


def prepare(environment: Environment, scratch: Scratch, alias: str, *, has_live: bool) -> Ended:
    """Make the image ready: it has the history, and nobody is logged in, from its first moment as the live database."""
    with scratch.writable_orm() as image:
        if has_live and carrying.history_is_in(alias):
            environment.reporter.phase("carry the history over")
            try:
                carrying.carry(alias, image)
            except _UNREADABLE as error:  # the live database is damaged: what is left of it is asked again afterwards
                environment.reporter.warning(f"The history could not be read: {error}")
        environment.reporter.phase("end the restored sessions")
        return aftermath.end_sessions(image)


def finish(
    environment: Environment,
    engine: Engine,
    history: History,
    switched: Switched,
    alias: str,
    *,
    ended: Ended | None = None,
    **columns: Any,
) -> Done:
    """Do what follows a switch that has taken place, note it, settle it. A run that died is finished by the next one.

    The replaced database is looked at once more: what was written to the history at the last moment comes along. Where
    it is too damaged for that, or there is none, the history is rebuilt from the manifests in the locations.
    ``columns`` are those of the restore's row that this run knows.
    """
    environment.reporter.phase("after the switch")
    connections[alias].close()  # it was ended by the switch, or knows the old database's settings
    report: dict[str, Any] = {}
    problems = [*_compare_with_replaced(engine, switched, alias, report)]
    if "history" not in report:
        connections[alias].close()  # a transaction of it may have failed
        report["history"] = {"rebuilt": rebuilding.rebuild(environment, history)}
    if "revived" not in report:
        report["revived"] = jsondata.to_data(reviving.revived(None, alias))
    report["queued"] = jsondata.to_data(aftermath.queued(alias))
    if ended is not None:
        report["sessions"] = jsondata.to_data(ended)
    # First noted, then settled: a restore that is settled but not noted would look as if it had never taken place.
    _note(environment, history, switched, report, alias=alias, **columns)
    engine.settle_switch(switched)
    problems += [*_check(engine, alias), *_prune(environment, engine, switched)]
    return Done(report=report, problems=tuple(problems))


def _compare_with_replaced(engine: Engine, switched: Switched, alias: str, report: dict[str, Any]) -> Iterator[str]:
    """Bring what the replaced database still tells into ``report``; yield what should have been told and was not."""
    if switched.replaced is None:
        return
    try:
        with engine.replaced_orm(switched.replaced) as old:
            if carrying.history_is_in(alias):
                report["history"] = jsondata.to_data(carrying.carry(old, alias))
            report["revived"] = jsondata.to_data(reviving.revived(old, alias))
    except (NotADatabaseError, CorruptError):
        return  # it is known to be no database any more: that is why it was replaced
    except _UNREADABLE as error:
        said = next(iter(str(error).splitlines()), "")
        what = "its users were not compared" if "history" in report else "its history was not carried over"
        yield f"The replaced database could not be read, {what}: {said}"


# What a damaged database raises when it is read, whoever reads it.
_UNREADABLE = (CorruptError, DatabaseError, django.db.Error)


def _note(
    environment: Environment,
    history: History,
    switched: Switched,
    report: dict[str, Any],
    *,
    alias: str,
    backup: str = "",
    **columns: Any,
) -> None:
    """Write down, in the database that is live now, that the restore is complete; twice gives the same."""
    now = environment.clock.now()
    replaced = switched.replaced.name if switched.replaced else ""
    if backup:
        columns |= {"backup_name": backup, "target": RestoreTarget.SWITCH}
    history.finish_restore(
        switched.restore,
        now,
        RestoreStatus.COMPLETE,
        report=report,
        replaced=replaced,
        database=alias,
        host=environment.config.host,
        **columns,
    )
    said = f"{backup or 'it'} is live, {replaced or 'nothing'} was replaced"
    history.event_once(now, "restore", switched.restore, said)


def _check(engine: Engine, alias: str) -> list[str]:
    """Look through a fresh connection whether the database answers under its name."""
    connections[alias].close()
    try:
        engine.facts()
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
    except InterruptedBySignal:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the person in front of it must hear of it
        return [f"The database does not answer as it should after the switch: {error}"]
    return []


def _prune(environment: Environment, engine: Engine, switched: Switched) -> list[str]:
    """Let the oldest replaced databases go, as KEEP_REPLACED says; never the one that was replaced just now."""
    kept = environment.config.restore.keep_replaced
    problems = []
    for replaced in engine.list_replaced()[kept:]:
        if switched.replaced is not None and replaced.name == switched.replaced.name:
            continue
        try:
            engine.release(replaced)
        except InterruptedBySignal:
            raise
        except BackupError as error:
            problems.append(f"The replaced database {replaced.name} could not be released: {error}")
        else:
            environment.reporter.note(f"Released the replaced database {replaced.name} (KEEP_REPLACED is {kept}).")
    return problems
