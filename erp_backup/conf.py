"""The settings, parsed once: ``ERP_BACKUP``, and ``DBBACKUP_*`` (django-dbbackup's) where ours is silent.

Nothing is read at import. :func:`get_config` parses on first use and again after a setting has changed. An unknown
key, or a value that means nothing, is a :class:`ConfigurationError` that :mod:`erp_backup.checks` shows as a
system-check error.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from erp_backup import connectors
from erp_backup import settingvalues as values
from erp_backup.exceptions import ConfigurationError

# Every known key, and the keys of its dictionary where it is one with fixed keys: docs/reference/settings.md.
KEYS: Mapping[str, frozenset[str]] = {
    "DATABASES": frozenset(),
    "LOCATIONS": frozenset(),
    "COMPRESSION": frozenset({"METHOD", "LEVEL", "WORKERS"}),
    "ENCRYPTION": frozenset({"METHOD", "RECIPIENTS", "IDENTITY_FILE"}),
    "SIGNING": frozenset({"KEY_FILE", "VERIFY_KEYS"}),
    "RETENTION": frozenset({"keep_last"}),
    "RESTORE": frozenset({"KEEP_REPLACED", "POOLER"}),
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
    "MAINTENANCE": frozenset({"FILE", "RETRY_AFTER", "ALLOW"}),
}
DATABASE_KEYS = frozenset({"EXCLUDE_TABLES", "SCHEMAS", "FORMAT", "PREFIX"})
LOCATION_KEYS = frozenset({"STORAGE", "ROLE", "PREFIX"})
_ENTRY_KEYS = {"DATABASES": DATABASE_KEYS, "LOCATIONS": LOCATION_KEYS}
ROLES = ("local", "offsite")
# Each method with its least, its usual and its greatest level.
COMPRESSIONS: Mapping[str, tuple[int, int, int]] = {"zstd": (1, 1, 22), "gzip": (1, 6, 9), "none": (0, 0, 22)}
ENCRYPTIONS = ("age",)
_IDENTITY_START = "AGE-SECRET-KEY-"
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
class RestoreConfig:
    """How restores go: how many replaced databases stay, and the pooler (a libpq string) that waits meanwhile."""

    keep_replaced: int = 2
    pooler: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceConfig:
    """How the ERP is closed: the file that says so, what clients are told, and the paths that go on working."""

    file: Path
    is_shared: bool = False  # the file was named on purpose, for web processes of another user
    retry_after: int = 120  # seconds
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, with their defaults filled in."""

    databases: tuple[DatabaseConfig, ...]
    locations: tuple[LocationConfig, ...]
    compression: CompressionConfig
    encryption: EncryptionConfig
    signing: SigningConfig
    keep_last: int
    restore: RestoreConfig
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
    maintenance: MaintenanceConfig
    host: str
    has_keep_filter: bool = False  # django-dbbackup's rule which backups stay, which is not known here
    settings_module: str = ""
    session_engine: str = ""

    def database(self, alias: str) -> DatabaseConfig:
        """Return what is said about an alias. Raises ConfigurationError for one that Django does not know."""
        found = next((database for database in self.databases if database.alias == alias), None)
        if found is not None:
            return found
        if alias not in settings.DATABASES:
            raise ConfigurationError(
                f"There is no database {alias!r} in DATABASES.", remedy=values.did_you_mean(alias, settings.DATABASES)
            )
        return _database(alias, {}, _where("DATABASES"))

    def location(self, alias: str) -> LocationConfig:
        """Return the location of that alias. Raises ConfigurationError."""
        found = next((location for location in self.locations if location.alias == alias), None)
        if found is None:
            known = [location.alias for location in self.locations]
            raise ConfigurationError(f"There is no location {alias!r}.", remedy=values.did_you_mean(alias, known))
        return found


@lru_cache(maxsize=1)
def get_config() -> Config:
    """Return the settings of this project. Raises ConfigurationError for the first thing that is wrong."""
    raw = _raw()
    for problem in _problems_of(raw):
        raise problem
    return Config(**{name: read(raw) for name, read in _FIELDS.items()})


def current_problems() -> list[ConfigurationError]:
    """Return everything that is wrong in the settings now, for the system checks."""
    try:
        # One mistake may spoil several fields.
        return list({str(problem): problem for problem in _problems_of(_raw())}.values())
    except ConfigurationError as error:
        return [error]


def _problems_of(raw: Mapping[str, Any]) -> Iterable[ConfigurationError]:
    """Yield what is wrong: unknown keys first, each with the nearest known one."""
    yield from values.known_keys(raw, KEYS, "ERP_BACKUP")
    for key in KEYS:
        yield from _unknown_options(key, raw.get(key))
    for read in _FIELDS.values():
        try:
            read(raw)
        except ConfigurationError as error:
            yield error


def _unknown_options(key: str, given: object) -> Iterable[ConfigurationError]:
    """What is no dictionary is somebody else's complaint."""
    if not isinstance(given, Mapping):
        return
    if key in _ENTRY_KEYS:
        for alias, options in given.items():
            if isinstance(options, Mapping):
                yield from values.known_keys(options, _ENTRY_KEYS[key], f"{_where(key)}[{alias!r}]")
    elif KEYS[key]:
        yield from values.known_keys(given, KEYS[key], _where(key))


def _raw() -> Mapping[str, Any]:
    return values.mapping(getattr(settings, "ERP_BACKUP", {}), "ERP_BACKUP")


def _where(key: str, option: str = "") -> str:
    return f"ERP_BACKUP[{key!r}][{option!r}]" if option else f"ERP_BACKUP[{key!r}]"


def _options(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return values.mapping(raw.get(key, {}), _where(key))


def _base_dir() -> Path:
    """``BASE_DIR``, else the folder that the settings are imported from: cron starts commands anywhere."""
    given = getattr(settings, "BASE_DIR", None)
    if given:
        return Path(given)
    name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve().parents[name.count(".")] if file else Path.cwd()


def _state_dir(raw: Mapping[str, Any]) -> Path:
    return values.path(raw.get("STATE_DIR") or ".erp_backup", _where("STATE_DIR"), base=_base_dir())


def _databases(raw: Mapping[str, Any]) -> tuple[DatabaseConfig, ...]:
    """The aliases that are backed up when none is named: ours, else django-dbbackup's, else all."""
    where, given = _where("DATABASES"), raw.get("DATABASES")
    if given is None:
        where = "DBBACKUP_DATABASES" if hasattr(settings, "DBBACKUP_DATABASES") else "DATABASES"
        given = getattr(settings, where) if where != "DATABASES" else _real_databases()
        given = {alias: {} for alias in values.texts(given, where)}
    if not values.mapping(given, where):
        raise ConfigurationError(f"{where} names no database.", remedy="Name what is to be backed up, or leave it out.")
    return tuple(_database(alias, options, where) for alias, options in given.items())


def _real_databases() -> list[str]:
    """All aliases but the empty ``default`` that Django asks for where every model lives in another database."""
    dummy = "django.db.backends.dummy"
    return [alias for alias, entry in settings.DATABASES.items() if entry.get("ENGINE", dummy) != dummy]


def _database(alias: object, options: object, where: str) -> DatabaseConfig:
    name = values.known_alias(alias, settings.DATABASES, where, "DATABASES")
    place = f"{where}[{name!r}]"
    chosen = values.mapping(options, place)
    connector = _connector(name, has_format=bool(chosen.get("FORMAT")))
    return DatabaseConfig(
        alias=name,
        excluded_tables=values.texts(
            chosen.get("EXCLUDE_TABLES", connector.excluded_tables), f"{place}['EXCLUDE_TABLES']"
        ),
        schemas=values.texts(chosen.get("SCHEMAS", connector.schemas), f"{place}['SCHEMAS']"),
        format=values.text(chosen.get("FORMAT"), f"{place}['FORMAT']") or connector.format,
        prefix=values.text(chosen.get("PREFIX"), f"{place}['PREFIX']"),
    )


def _connector(alias: str, *, has_format: bool) -> connectors.ConnectorConfig:
    given = getattr(settings, connectors.SETTING, {})
    mapping = getattr(settings, "DBBACKUP_CONNECTOR_MAPPING", {})
    return connectors.read(given, alias, settings.DATABASES[alias], mapping=mapping, has_format=has_format)


def _locations(raw: Mapping[str, Any]) -> tuple[LocationConfig, ...]:
    given = _options(raw, "LOCATIONS")
    if given:
        return tuple(_location(str(alias), options) for alias, options in given.items())
    if DEFAULT_STORAGE in settings.STORAGES:
        return (LocationConfig(alias="local", storage=DEFAULT_STORAGE),)
    if hasattr(settings, "DBBACKUP_STORAGE"):
        raise ConfigurationError(
            "DBBACKUP_STORAGE says where backups go as django-dbbackup before 5.0 understood it.",
            remedy=f"Write it as STORAGES[{DEFAULT_STORAGE!r}], and take it out.",
        )
    return (LocationConfig(alias="local", folder=_state_dir(raw) / "backups"),)


def _location(alias: str, options: object) -> LocationConfig:
    place = f"{_where('LOCATIONS')}[{alias!r}]"
    chosen = values.mapping(options, place)
    storage = chosen.get("STORAGE", alias)
    return LocationConfig(
        alias=alias,
        storage=values.known_alias(storage, settings.STORAGES, f"{place}['STORAGE']", "STORAGES"),
        role=values.choice(chosen.get("ROLE", ROLES[0]), ROLES, f"{place}['ROLE']"),
        prefix=values.text(chosen.get("PREFIX"), f"{place}['PREFIX']"),
    )


def _compression(raw: Mapping[str, Any]) -> CompressionConfig:
    given, key = _options(raw, "COMPRESSION"), "COMPRESSION"
    method = values.choice(given.get("METHOD", "zstd"), COMPRESSIONS, _where(key, "METHOD"))
    least, usual, most = COMPRESSIONS[method]
    return CompressionConfig(
        method=method,
        level=values.whole(given.get("LEVEL", usual), _where(key, "LEVEL"), least=least, most=most),
        workers=values.whole(given.get("WORKERS", 0), _where(key, "WORKERS"), least=0),
    )


def _encryption(raw: Mapping[str, Any]) -> EncryptionConfig:
    given, key = _options(raw, "ENCRYPTION"), "ENCRYPTION"
    for option in ("RECIPIENTS", "IDENTITY_FILE"):
        # Whatever complains about it further on would repeat it, in mails, logs and the history.
        if _IDENTITY_START in str(given.get(option)).upper():
            raise ConfigurationError(
                f"{_where(key, option)} holds a secret key itself.",
                remedy="RECIPIENTS are public keys (age1...), IDENTITY_FILE is the path of a file. Make a new pair.",
            )
    identity = given.get("IDENTITY_FILE")
    return EncryptionConfig(
        method=values.choice(given.get("METHOD", "age"), ENCRYPTIONS, _where(key, "METHOD")),
        recipients=values.texts(given.get("RECIPIENTS", ()), _where(key, "RECIPIENTS")),
        identity_file=values.path(identity, _where(key, "IDENTITY_FILE"), base=_base_dir()) if identity else None,
    )


def _signing(raw: Mapping[str, Any]) -> SigningConfig:
    given, key = _options(raw, "SIGNING"), "SIGNING"
    chosen = given.get("KEY_FILE") or _state_dir(raw) / "signing.key"
    return SigningConfig(
        key_file=values.path(chosen, _where(key, "KEY_FILE"), base=_base_dir()),
        verify_keys=values.texts(given.get("VERIFY_KEYS", ()), _where(key, "VERIFY_KEYS")),
    )


def _maintenance(raw: Mapping[str, Any]) -> MaintenanceConfig:
    given, key = _options(raw, "MAINTENANCE"), "MAINTENANCE"
    file = given.get("FILE")
    wait = values.duration(given.get("RETRY_AFTER", 120), _where(key, "RETRY_AFTER"))
    return MaintenanceConfig(
        file=values.path(file or _state_dir(raw) / "maintenance.json", _where(key, "FILE"), base=_base_dir()),
        is_shared=bool(file),
        retry_after=max(1, round(wait.total_seconds())),
        allow=_allowed(values.texts(given.get("ALLOW", ()), _where(key, "ALLOW"))),
    )


def _allowed(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not path.startswith("/") or not path.strip("/"):
            raise ConfigurationError(
                f"{_where('MAINTENANCE', 'ALLOW')} holds {path!r}.",
                remedy="Write the beginnings of paths, for example '/health'; '/' would be all of them.",
            )
    return paths


def _keep_last(raw: Mapping[str, Any]) -> int:
    given = _options(raw, "RETENTION")
    if "keep_last" in given:
        return values.whole(given["keep_last"], _where("RETENTION", "keep_last"), least=1)
    return values.whole(getattr(settings, "DBBACKUP_CLEANUP_KEEP", 10), "DBBACKUP_CLEANUP_KEEP", least=1)


def _restore(raw: Mapping[str, Any]) -> RestoreConfig:
    given, key = _options(raw, "RESTORE"), "RESTORE"
    return RestoreConfig(
        keep_replaced=values.whole(given.get("KEEP_REPLACED", 2), _where(key, "KEEP_REPLACED"), least=1),
        pooler=values.text(given.get("POOLER"), _where(key, "POOLER")),
    )


def _model_checks(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    given = raw.get("MODEL_CHECKS", ())
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{_where('MODEL_CHECKS')} is not a list of model checks.")
    return tuple(given)


def _program_dirs(raw: Mapping[str, Any]) -> tuple[Path, ...]:
    where, given = _where("PROGRAM_DIRS"), raw.get("PROGRAM_DIRS", ())
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{where} is {given!r}, not a list.", remedy=f"Write [{str(given)!r}].")
    entries = [_connector(database.alias, has_format=True) for database in _databases(raw)]
    folders = [*given, *(folder for entry in entries for folder in entry.program_dirs)]
    return tuple(values.path(folder, where, base=_base_dir()) for folder in folders)


def _duration(key: str, default: timedelta) -> Callable[[Mapping[str, Any]], timedelta]:
    return lambda raw: values.duration(raw.get(key, default), _where(key))


def _seconds(key: str, default: float) -> Callable[[Mapping[str, Any]], float]:
    return lambda raw: values.duration(raw.get(key, default), _where(key)).total_seconds()


def _text(key: str, default: str = "") -> Callable[[Mapping[str, Any]], str]:
    return lambda raw: values.text(raw.get(key, default), _where(key))


# How each field of Config is read.
_FIELDS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "databases": _databases,
    "locations": _locations,
    "compression": _compression,
    "encryption": _encryption,
    "signing": _signing,
    "keep_last": _keep_last,
    "restore": _restore,
    "model_checks": _model_checks,
    "model_check_time_limit": _duration("MODEL_CHECK_TIME_LIMIT", timedelta(minutes=5)),
    "state_dir": _state_dir,
    "probe": _text("PROBE"),
    "release": _text("RELEASE"),
    "rpo": _duration("RPO", timedelta(hours=24)),
    "rto": _duration("RTO", timedelta(hours=4)),
    "jobs": lambda raw: values.whole(raw.get("JOBS", min(4, os.cpu_count() or 1)), _where("JOBS"), least=1),
    "program_dirs": _program_dirs,
    "maintenance_database": _text("MAINTENANCE_DATABASE", "postgres"),
    "lock_timeout": _seconds("LOCK_TIMEOUT", 10),
    "idle_limit": _seconds("IDLE_LIMIT", 600),
    "read_back": lambda raw: values.flag(raw.get("READ_BACK", True), _where("READ_BACK")),
    "maintenance": _maintenance,
    "host": lambda _raw: str(getattr(settings, "DBBACKUP_HOSTNAME", "") or socket.gethostname()),
    "has_keep_filter": lambda _raw: getattr(settings, "DBBACKUP_CLEANUP_KEEP_FILTER", None) is not None,
    "settings_module": lambda _raw: str(getattr(settings, "SETTINGS_MODULE", "") or ""),
    "session_engine": lambda _raw: str(getattr(settings, "SESSION_ENGINE", "") or ""),
}


def _forget(*, setting: str, **_kwargs: object) -> None:
    if setting in {"ERP_BACKUP", "DATABASES", "STORAGES", "BASE_DIR", "SESSION_ENGINE"} or setting.startswith(
        "DBBACKUP_"
    ):
        get_config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="erp_backup.conf")
