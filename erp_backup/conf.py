"""The settings, parsed once: ``ERP_BACKUP`` (ours) and ``DBBACKUP_*`` (django-dbbackup's, honoured where ours is silent).

Nothing is read at import. :func:`get_config` parses on first use and again after a setting has changed. An unknown key, or a value that
means nothing, is a :class:`ConfigurationError` that :mod:`erp_backup.checks` shows as a system-check error.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from erp_backup.exceptions import ConfigurationError

# Every known key, and the keys of its dictionary where it is one with fixed keys. docs/reference/settings.md tells of each.
KEYS: Mapping[str, frozenset[str]] = {
    "DATABASES": frozenset(),
    "LOCATIONS": frozenset(),
    "COMPRESSION": frozenset({"METHOD", "LEVEL", "WORKERS"}),
    "ENCRYPTION": frozenset({"METHOD", "RECIPIENTS", "IDENTITY_FILE"}),
    "SIGNING": frozenset({"KEY_FILE", "VERIFY_KEYS"}),
    "RETENTION": frozenset({"keep_last"}),
    "MODEL_CHECKS": frozenset(),
    "MODEL_CHECK_TIME_LIMIT": frozenset(),
    "STATE_DIR": frozenset(),
    "PROBE": frozenset(),
    "RELEASE": frozenset(),
    "RPO": frozenset(),
    "RTO": frozenset(),
    "JOBS": frozenset(),
    "PROGRAM_DIRS": frozenset(),
    "MAINTENANCE_DATABASE": frozenset(),
    "LOCK_TIMEOUT": frozenset(),
    "IDLE_LIMIT": frozenset(),
    "READ_BACK": frozenset(),
}
DATABASE_KEYS = frozenset({"EXCLUDE_TABLES", "SCHEMAS", "FORMAT", "PREFIX"})
LOCATION_KEYS = frozenset({"STORAGE", "ROLE", "PREFIX"})
ROLES = ("local", "offsite")
COMPRESSIONS = ("zstd", "gzip", "none")
DEFAULT_STORAGE = "dbbackup"  # django-dbbackup's own alias


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """What is backed up of one Django database alias."""

    alias: str
    excluded_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    format: str = ""  # empty: the engine's first
    prefix: str = ""  # empty: made from the database's name


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationConfig:
    """A place that keeps archives: a ``STORAGES`` alias (or, by default, a folder) with a role."""

    alias: str
    storage: str = ""  # a STORAGES alias; empty: the folder
    folder: Path | None = None
    role: str = "local"
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionConfig:
    """How archives are compressed. ``workers`` are threads beside the main one."""

    method: str = "zstd"
    level: int = 1
    workers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionConfig:
    """To whom archives are encrypted; no recipients means not at all."""

    method: str = "age"
    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningConfig:
    """The key that signs manifests, and other public keys (base64) that are trusted."""

    key_file: Path
    verify_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, with their defaults filled in."""

    databases: tuple[DatabaseConfig, ...]
    locations: tuple[LocationConfig, ...]
    compression: CompressionConfig
    encryption: EncryptionConfig
    signing: SigningConfig
    keep_last: int
    model_checks: tuple[Any, ...]
    model_check_time_limit: timedelta
    state_dir: Path
    probe: str
    release: str
    rpo: timedelta
    rto: timedelta
    jobs: int
    program_dirs: tuple[Path, ...]
    maintenance_database: str
    lock_timeout: float
    idle_limit: float
    read_back: bool
    host: str
    settings_module: str = field(default="")
    wsgi_application: str = ""

    def database(self, alias: str) -> DatabaseConfig:
        """Return what is said about an alias. Raises ConfigurationError for one that Django does not know."""
        found = next((database for database in self.databases if database.alias == alias), None)
        if found is not None:
            return found
        if alias not in settings.DATABASES:
            raise ConfigurationError(
                f"There is no database {alias!r} in DATABASES.", remedy=_did_you_mean(alias, settings.DATABASES)
            )
        return DatabaseConfig(alias=alias)

    def location(self, alias: str) -> LocationConfig:
        """Return the location of that alias. Raises ConfigurationError."""
        found = next((location for location in self.locations if location.alias == alias), None)
        if found is None:
            known = [location.alias for location in self.locations]
            raise ConfigurationError(f"There is no location {alias!r}.", remedy=_did_you_mean(alias, known))
        return found


@lru_cache(maxsize=1)
def get_config() -> Config:
    """Return the settings of this project. Raises ConfigurationError for the first thing that is wrong."""
    raw = _raw()
    problems = list(problems_of(raw))
    if problems:
        raise problems[0]
    state_dir = Path(raw.get("STATE_DIR") or _base_dir() / ".erp_backup")
    return Config(
        databases=_databases(raw),
        locations=_locations(raw, state_dir),
        compression=_compression(raw.get("COMPRESSION", {})),
        encryption=_encryption(raw.get("ENCRYPTION", {})),
        signing=_signing(raw.get("SIGNING", {}), state_dir),
        keep_last=int(raw.get("RETENTION", {}).get("keep_last", getattr(settings, "DBBACKUP_CLEANUP_KEEP", 10))),
        model_checks=tuple(raw.get("MODEL_CHECKS", ())),
        model_check_time_limit=_duration(raw.get("MODEL_CHECK_TIME_LIMIT", 300), "MODEL_CHECK_TIME_LIMIT"),
        state_dir=state_dir,
        probe=str(raw.get("PROBE", "")),
        release=str(raw.get("RELEASE", "")),
        rpo=_duration(raw.get("RPO", timedelta(hours=24)), "RPO"),
        rto=_duration(raw.get("RTO", timedelta(hours=4)), "RTO"),
        jobs=int(raw.get("JOBS", min(4, os.cpu_count() or 1))),
        program_dirs=tuple(Path(folder) for folder in raw.get("PROGRAM_DIRS", ())),
        maintenance_database=str(raw.get("MAINTENANCE_DATABASE", "postgres")),
        lock_timeout=_duration(raw.get("LOCK_TIMEOUT", 10), "LOCK_TIMEOUT").total_seconds(),
        idle_limit=_duration(raw.get("IDLE_LIMIT", 600), "IDLE_LIMIT").total_seconds(),
        read_back=bool(raw.get("READ_BACK", True)),
        host=str(getattr(settings, "DBBACKUP_HOSTNAME", "") or socket.gethostname()),
        settings_module=str(getattr(settings, "SETTINGS_MODULE", "") or ""),
        wsgi_application=str(getattr(settings, "WSGI_APPLICATION", "") or ""),
    )


def problems_of(raw: Mapping[str, Any]) -> Iterable[ConfigurationError]:
    """Yield what is wrong in ``ERP_BACKUP``: unknown keys first, each with the nearest known one."""
    yield from _unknown(raw, KEYS, "ERP_BACKUP")
    for key, known in KEYS.items():
        if known and key in raw:
            yield from _unknown(raw[key], known, f"ERP_BACKUP[{key!r}]")
    yield from _database_problems(raw.get("DATABASES", {}))
    yield from _location_problems(raw.get("LOCATIONS", {}))
    yield from _choice(
        raw.get("COMPRESSION", {}).get("METHOD", "zstd"), COMPRESSIONS, "ERP_BACKUP['COMPRESSION']['METHOD']"
    )
    yield from _choice(raw.get("ENCRYPTION", {}).get("METHOD", "age"), ("age",), "ERP_BACKUP['ENCRYPTION']['METHOD']")


def current_problems() -> list[ConfigurationError]:
    """Return everything that is wrong in the settings now, for the system checks."""
    try:
        return list(problems_of(_raw())) or _parsing_problem()
    except ConfigurationError as error:
        return [error]


def _parsing_problem() -> list[ConfigurationError]:
    get_config()
    return []


def _raw() -> Mapping[str, Any]:
    raw = getattr(settings, "ERP_BACKUP", {})
    if not isinstance(raw, Mapping):
        raise ConfigurationError("ERP_BACKUP is not a dictionary.")
    for key, known in KEYS.items():
        if (known or key in {"DATABASES", "LOCATIONS"}) and not isinstance(raw.get(key, {}), Mapping):
            raise ConfigurationError(f"ERP_BACKUP[{key!r}] is not a dictionary.")
    return raw


def _unknown(given: Iterable[str], known: Iterable[str], where: str) -> Iterable[ConfigurationError]:
    for key in given:
        if key not in known:
            yield ConfigurationError(f"{where} has an unknown key {key!r}.", remedy=_did_you_mean(key, known))


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(str(word).lower(), folded, n=1, cutoff=0.5)
    return f"Did you mean {folded[nearest[0]]!r}?" if nearest else f"Known are: {', '.join(names)}."


def _choice(value: object, choices: tuple[str, ...], where: str) -> Iterable[ConfigurationError]:
    if value not in choices:
        yield ConfigurationError(f"{where} is {value!r}.", remedy=_did_you_mean(str(value), choices))


def _database_problems(databases: Mapping[str, Any]) -> Iterable[ConfigurationError]:
    for alias, options in databases.items():
        if alias not in settings.DATABASES:
            yield ConfigurationError(
                f"ERP_BACKUP['DATABASES'] names {alias!r}, which DATABASES does not have.",
                remedy=_did_you_mean(alias, settings.DATABASES),
            )
        yield from _unknown(options, DATABASE_KEYS, f"ERP_BACKUP['DATABASES'][{alias!r}]")


def _location_problems(locations: Mapping[str, Any]) -> Iterable[ConfigurationError]:
    for alias, options in locations.items():
        where = f"ERP_BACKUP['LOCATIONS'][{alias!r}]"
        yield from _unknown(options, LOCATION_KEYS, where)
        yield from _choice(options.get("ROLE", "local"), ROLES, f"{where}['ROLE']")
        storage = options.get("STORAGE", alias)
        if storage not in settings.STORAGES:
            yield ConfigurationError(
                f"{where} uses the storage {storage!r}, which STORAGES does not have.",
                remedy=_did_you_mean(storage, settings.STORAGES),
            )


def _base_dir() -> Path:
    return Path(getattr(settings, "BASE_DIR", "") or Path.cwd())


def _databases(raw: Mapping[str, Any]) -> tuple[DatabaseConfig, ...]:
    """The aliases that are backed up when none is named: ours, else django-dbbackup's, else all."""
    given = raw.get("DATABASES")
    if given is None:
        given = {alias: {} for alias in getattr(settings, "DBBACKUP_DATABASES", settings.DATABASES)}
    return tuple(
        DatabaseConfig(
            alias=alias,
            excluded_tables=tuple(options.get("EXCLUDE_TABLES", _connector(alias).get("EXCLUDE", ()))),
            schemas=tuple(options.get("SCHEMAS", _connector(alias).get("SCHEMAS", ()))),
            format=str(options.get("FORMAT", "")),
            prefix=str(options.get("PREFIX", "")),
        )
        for alias, options in given.items()
    )


def _connector(alias: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(settings, "DBBACKUP_CONNECTORS", {}).get(alias, {})
    return found


def _locations(raw: Mapping[str, Any], state_dir: Path) -> tuple[LocationConfig, ...]:
    given = raw.get("LOCATIONS")
    if given:
        return tuple(
            LocationConfig(
                alias=alias,
                storage=str(options.get("STORAGE", alias)),
                role=str(options.get("ROLE", "local")),
                prefix=str(options.get("PREFIX", "")),
            )
            for alias, options in given.items()
        )
    if DEFAULT_STORAGE in settings.STORAGES:
        return (LocationConfig(alias="local", storage=DEFAULT_STORAGE),)
    return (LocationConfig(alias="local", folder=state_dir / "backups"),)


def _compression(raw: Mapping[str, Any]) -> CompressionConfig:
    method = str(raw.get("METHOD", "zstd"))
    return CompressionConfig(
        method=method,
        level=int(raw.get("LEVEL", 6 if method == "gzip" else 1)),
        workers=int(raw.get("WORKERS", 0)),
    )


def _encryption(raw: Mapping[str, Any]) -> EncryptionConfig:
    identity = raw.get("IDENTITY_FILE")
    return EncryptionConfig(
        method=str(raw.get("METHOD", "age")),
        recipients=tuple(raw.get("RECIPIENTS", ())),
        identity_file=Path(identity) if identity else None,
    )


def _signing(raw: Mapping[str, Any], state_dir: Path) -> SigningConfig:
    return SigningConfig(
        key_file=Path(raw.get("KEY_FILE") or state_dir / "signing.key"),
        verify_keys=tuple(raw.get("VERIFY_KEYS", ())),
    )


def _duration(value: object, key: str) -> timedelta:
    """Return a timedelta as it is, a number as seconds. Raises ConfigurationError."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    raise ConfigurationError(f"ERP_BACKUP[{key!r}] is neither a timedelta nor a number of seconds.")


def _forget(*, setting: str, **_kwargs: object) -> None:
    if setting in {"ERP_BACKUP", "DATABASES", "STORAGES", "BASE_DIR"} or setting.startswith("DBBACKUP_"):
        get_config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="erp_backup.conf")
