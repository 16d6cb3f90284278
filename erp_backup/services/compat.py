"""django-dbbackup's own signals, sent to those who listen to them already."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import apps

from erp_backup.services.backup import BackupRequest, BackupResult
from erp_backup.services.environment import Environment


def send_before(environment: Environment, request: BackupRequest, sender: type) -> None:
    """Send ``pre_backup`` as django-dbbackup does; ``connector`` is our engine."""
    engine = environment.engine(request.database)
    _send(
        "pre_backup",
        sender=sender,
        database=dict(engine.database.settings),
        connector=engine,
        servername=request.server_name,
    )


def send_after(environment: Environment, request: BackupRequest, result: BackupResult, sender: type) -> None:
    """Send ``post_backup`` as django-dbbackup does; ``storage`` is our first location."""
    engine = environment.engine(request.database)
    _send(
        "post_backup",
        sender=sender,
        database=dict(engine.database.settings),
        connector=engine,
        servername=request.server_name,
        filename=result.manifest.archive.name,
        storage=environment.locations[0],
    )


def _send(name: str, **arguments: Any) -> None:
    """Send a signal of django-dbbackup's where that app is installed (it came with version 5)."""
    if apps.is_installed("dbbackup"):
        signal = getattr(import_module("dbbackup.signals"), name, None)
        if signal is not None:
            signal.send(**arguments)
