"""django-dbbackup's own signals, sent to those who listen to them already."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from django.apps import apps

from erp_backup.core.errors import InterruptedBySignal
from erp_backup.services.backup import BackupRequest, BackupResult
from erp_backup.services.environment import Environment, folder_location


def send_before(environment: Environment, request: BackupRequest, sender: type) -> None:
    """Send ``pre_backup`` as django-dbbackup does; ``connector`` is our engine."""
    engine = environment.engine(request.database)
    _send(
        environment,
        "pre_backup",
        sender=sender,
        database=dict(engine.database.settings),
        connector=engine,
        servername=request.server_name,
    )


def send_after(environment: Environment, request: BackupRequest, result: BackupResult, sender: type) -> None:
    """Send ``post_backup`` as django-dbbackup does; ``storage`` is the first location that has the backup."""
    engine = environment.engine(request.database)
    known = {location.alias: location for location in environment.locations}
    alias = result.locations[0]
    _send(
        environment,
        "post_backup",
        sender=sender,
        database=dict(engine.database.settings),
        connector=engine,
        servername=request.server_name,
        filename=result.manifest.archive.name,
        storage=known.get(alias) or folder_location(Path(alias)),
    )


def _send(environment: Environment, name: str, **arguments: Any) -> None:
    """Send a signal of django-dbbackup's where that app is installed (it came with version 5).

    A receiver that raises is warned of: it neither costs a backup nor makes one that exists look like a failure.
    """
    signal = getattr(import_module("dbbackup.signals"), name, None) if apps.is_installed("dbbackup") else None
    for receiver, answer in signal.send_robust(**arguments) if signal is not None else ():
        if isinstance(answer, InterruptedBySignal):
            raise answer
        if isinstance(answer, Exception):
            # Its message may hold anything; Django has logged it with its traceback.
            environment.reporter.warning(f"A receiver of {name}, {_name(receiver)}, failed: {type(answer).__name__}.")


def _name(receiver: object) -> str:
    return f"{getattr(receiver, '__module__', '')}.{getattr(receiver, '__qualname__', repr(receiver))}"
