"""Locations: places that keep archives, each a Django ``STORAGES`` alias with a role.

A kind of location is a module of this package with its class in ``LOCATION``: to add one, write that file.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterable
from importlib import import_module

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage, Storage, storages

from erp_backup.conf import LocationConfig
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations.base import Location


def kinds() -> list[type[Location]]:
    """Return every kind of location there is."""
    modules = [import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return [module.LOCATION for module in modules if hasattr(module, "LOCATION")]


def locations_for(configs: Iterable[LocationConfig]) -> tuple[Location, ...]:
    """Return the locations of ``configs``.

    Raises ConfigurationError for what :func:`location_for` refuses, and for two that are one place: a copy in the same
    folder is no copy, and cleaning up after the one would delete the other's archive.
    """
    made = tuple(location_for(config) for config in configs)
    places: dict[str, str] = {}
    for location in made:
        other = places.setdefault(os.path.realpath(location.describe("x")), location.alias)
        if other != location.alias:
            raise ConfigurationError(
                f"The locations {other!r} and {location.alias!r} are one place.",
                remedy="Give one of them another STORAGE, or another PREFIX.",
            )
    return made


def location_for(config: LocationConfig) -> Location:
    """Return the location of ``config``. Raises ConfigurationError for a storage that cannot be made or used."""
    try:
        storage = storages[config.storage] if config.storage else FileSystemStorage(config.folder)
        return _location(config, storage)
    except (ImproperlyConfigured, ImportError, TypeError, SuspiciousFileOperation) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"The location {config.alias!r} cannot be used: {error}",
            remedy=f"Look at STORAGES[{config.storage!r}] and at the location's PREFIX.",
        ) from error


def _location(config: LocationConfig, storage: Storage) -> Location:
    kind = next((kind for kind in kinds() if kind.accepts(storage)), None)
    if kind is None:
        raise ConfigurationError(
            f"The location {config.alias!r} uses {type(storage).__name__}, which cannot keep archives yet.",
            remedy="Use a FileSystemStorage (a local folder or a mounted share).",
        )
    return kind(config, storage)
