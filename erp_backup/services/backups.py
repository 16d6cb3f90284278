"""Backing several databases up: one that fails never keeps the others from being backed up."""

from __future__ import annotations

from collections.abc import Iterable

from erp_backup import signals
from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.services import compat, pruning
from erp_backup.services.backup import BackupRequest, BackupResult, take_backup
from erp_backup.services.environment import Environment


def back_up_databases(
    environment: Environment, requests: Iterable[BackupRequest], *, clean: bool, sender: type
) -> list[BackupResult | BackupError]:
    """Take each backup and return its result or its error, in order. Only a signal is raised.

    With ``clean`` the old backups of a database are deleted after its new one was made, never after a failure.
    """
    return [_one(environment, request, clean=clean, sender=sender) for request in requests]


def _one(environment: Environment, request: BackupRequest, *, clean: bool, sender: type) -> BackupResult | BackupError:
    try:
        compat.send_before(environment, request, sender)
        result = take_backup(environment, request)
        compat.send_after(environment, request, result, sender)
        signals.backup_taken.send(sender=sender, result=result)
        if clean:
            pruning.prune(environment, request.database)
    except InterruptedBySignal as error:
        environment.reporter.finish(str(error))
        raise
    except BackupError as error:
        environment.reporter.finish("failed")
        signals.backup_failed.send(sender=sender, database=request.database, error=error)
        return error
    environment.reporter.finish("partial" if result.problems else "done")
    return result
