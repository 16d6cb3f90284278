"""Backing several databases up: one that fails never keeps the others from being backed up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from erp_backup import signals
from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.services import compat, pruning
from erp_backup.services.backup import BackupRequest, BackupResult, take_backup
from erp_backup.services.environment import Environment

Outcome = BackupResult | BackupError


def back_up_databases(
    environment: Environment, requests: Iterable[BackupRequest], *, clean: bool, sender: type
) -> list[Outcome]:
    """Take each backup and return its result or its error, in order.

    With ``clean`` the old backups of a database are deleted after its new one was made, never after a failure. Raises
    InterruptedBySignal at once, and what nobody expected when all the others have had their turn.
    """
    outcomes: list[Outcome] = []
    unexpected: list[Exception] = []
    for request in requests:
        try:
            outcomes.append(_one(environment, request, clean=clean, sender=sender))
        except InterruptedBySignal as error:
            environment.reporter.finish(str(error))
            raise
        except Exception as error:  # noqa: BLE001 - raised below: a fault met with one database costs no other its backup
            environment.reporter.finish("failed")
            unexpected.append(error)
    if unexpected:
        raise unexpected[0]
    return outcomes


def _one(environment: Environment, request: BackupRequest, *, clean: bool, sender: type) -> Outcome:
    try:
        compat.send_before(environment, request)
        result = take_backup(environment, request)
    except InterruptedBySignal:
        raise
    except BackupError as error:
        environment.reporter.finish("failed")
        compat.send(environment, signals.backup_failed, sender=sender, database=request.database, error=error)
        return error
    compat.send_after(environment, request, result)
    if clean:
        result = _cleaned(environment, request, result)
    compat.send(environment, signals.backup_taken, sender=sender, result=result)
    environment.reporter.finish("partial" if result.problems else "done")
    return result


def _cleaned(environment: Environment, request: BackupRequest, result: BackupResult) -> BackupResult:
    """Delete old backups. The new one is there whatever comes of it: a failure makes the run partial."""
    if environment.config.has_keep_filter:
        problem = (
            "Old backups were not deleted: DBBACKUP_CLEANUP_KEEP_FILTER, which says what must stay, is not honoured "
            "here. Take it out of the settings, and out of this run --clean."
        )
    else:
        try:
            pruning.prune(environment, request.database)
        except InterruptedBySignal:
            raise
        except BackupError as error:
            problem = f"Old backups could not be deleted: {error}"
        else:
            return result
    return replace(result, problems=(*result.problems, problem))
