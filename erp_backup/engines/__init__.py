"""Engines: how one kind of database is snapshotted, dumped, restored beside and measured.

An engine is a module of this package named after Django's ``connection.vendor``, with the class in ``ENGINE``:
to add one, write that file.
"""

from __future__ import annotations

from importlib import import_module

from django.db import connections

from erp_backup.engines.base import Database, Engine, Tools
from erp_backup.exceptions import ConfigurationError


def engine_for(alias: str, tools: Tools) -> Engine:
    """Return the engine of a Django database alias. Raises ConfigurationError for a kind that has none."""
    connection = connections[alias]
    name = f"{__name__}.{connection.vendor}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigurationError(
            f"The database {alias!r} is of a kind that cannot be backed up here ({connection.vendor}).",
            remedy="Leave it out of ERP_BACKUP['DATABASES'].",
        ) from error
    engine: Engine = module.ENGINE(Database(alias=alias, settings=connection.settings_dict), tools)
    return engine
