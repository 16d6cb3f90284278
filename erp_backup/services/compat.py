"""django-dbbackup's own signals, sent to those who listen to them already, with the objects that they know."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.files.storage import FileSystemStorage, storages
from django.db import connections
from django.dispatch import Signal

from erp_backup.core.errors import InterruptedBySignal
from erp_backup.locations.base import Location
from erp_backup.services.backup import BackupRequest, BackupResult
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.restoring.request import RestorePlan


def send_before(environment: Environment, request: BackupRequest) -> None:
    """Send ``pre_backup`` as django-dbbackup does. Raises ConfigurationError for an alias that nothing is known of."""
    environment.engine(request.database)
    _send(environment, "pre_backup", lambda: _arguments(request))


def send_after(environment: Environment, request: BackupRequest, result: BackupResult) -> None:
    """Send ``post_backup`` as django-dbbackup does; ``storage`` is that of the first location that has the backup.

    ``filename`` is the archive's name in that storage.
    """
    known = {location.alias: location for location in environment.locations}
    alias = result.locations[0]
    location = known.get(alias) or folder_location(Path(alias))
    name = _name_in_storage(location, result.manifest.archive.name)
    _send(environment, "post_backup", lambda: {**_arguments(request), "filename": name, "storage": _storage(location)})


def send_before_restore(environment: Environment, plan: RestorePlan) -> None:
    """Send ``pre_restore`` as django-dbbackup does, for a restore that was agreed to."""
    _send(environment, "pre_restore", lambda: _restore_arguments(plan))


def send_after_restore(environment: Environment, plan: RestorePlan) -> None:
    """Send ``post_restore`` as django-dbbackup does, for a restore that has changed the live database."""
    _send(
        environment,
        "post_restore",
        lambda: {**_restore_arguments(plan), "connector": _connector(plan.request.database)},
    )


def _restore_arguments(plan: RestorePlan) -> dict[str, Any]:
    """``filename`` is the archive's name in ``storage``, that of the first location that has it."""
    location = plan.backup.copies[0].location
    return {
        "sender": import_module("dbbackup.management.commands.dbrestore").Command,
        "database": dict(connections[plan.request.database].settings_dict),
        "database_name": plan.request.database,
        "filename": _name_in_storage(location, plan.backup.manifest.archive.name),
        "servername": plan.request.server_name or None,
        "storage": _storage(location),
    }


def _name_in_storage(location: Location, archive: str) -> str:
    prefix = f"{location.config.prefix.strip('/')}/".removeprefix("/")
    return f"{prefix}{archive}"


def _arguments(request: BackupRequest) -> dict[str, Any]:
    """Its connector is only shown: what a receiver changes in it changes no backup of ours."""
    connector = _connector(request.database)
    return {
        "sender": import_module("dbbackup.management.commands.dbbackup").Command,
        "database": connector.settings,
        "connector": connector,
        "servername": request.server_name or None,
    }


def _connector(alias: str) -> Any:
    return import_module("dbbackup.db.base").get_connector(alias)


def _storage(location: Location) -> Any:
    """Return its ``Storage`` on the location's own Django storage.

    Its constructor would mix the options of ``STORAGES["dbbackup"]`` into those of any other storage.
    """
    config, kind = location.config, import_module("dbbackup.storage").Storage
    inner = storages[config.storage] if config.storage else FileSystemStorage(config.folder)
    storage = kind.__new__(kind)
    storage.storage, storage.storageCls, storage.name = inner, type(inner), type(inner).__name__
    return storage


def _send(environment: Environment, name: str, arguments: Callable[[], dict[str, Any]]) -> None:
    """Send a signal of django-dbbackup's where that app is installed (it came with version 5)."""
    signal = getattr(import_module("dbbackup.signals"), name, None) if apps.is_installed("dbbackup") else None
    if signal is None or not signal.receivers:
        return
    try:
        given = arguments()
    except Exception as error:  # noqa: BLE001 - whatever a connector of the host's raises, it costs nothing
        environment.reporter.warning(f"{name} could not be sent: {type(error).__name__}.")
    else:
        send(environment, signal, **given)


def send(environment: Environment, signal: Signal, **arguments: Any) -> None:
    """Send a signal. A receiver that raises is warned of: it costs no backup and no restore, nor makes one look failed.

    Raises InterruptedBySignal.
    """
    for receiver, answer in signal.send_robust(**arguments):
        if isinstance(answer, InterruptedBySignal):
            raise answer
        if isinstance(answer, Exception):
            # Its message may hold anything; Django has logged it with its traceback.
            environment.reporter.warning(f"A receiver of a signal, {_name(receiver)}, failed: {type(answer).__name__}.")


def _name(receiver: object) -> str:
    return f"{getattr(receiver, '__module__', '')}.{getattr(receiver, '__qualname__', repr(receiver))}"
