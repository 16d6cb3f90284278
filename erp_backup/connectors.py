"""``DBBACKUP_CONNECTORS``, django-dbbackup's setting: what it says of one alias, or why that cannot be done here.

Whatever would change which database is dumped, or how it is reached, is refused in words: a backup of another server
than the one that was meant looks like a good one. What only matters to django-dbbackup's own restore has no meaning
here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erp_backup import settingvalues as values
from erp_backup.exceptions import ConfigurationError

SETTING = "DBBACKUP_CONNECTORS"
# Each of its connectors that an engine here stands for, with the engine's format.
FORMATS: Mapping[str, str] = {
    "dbbackup.db.postgresql.PgDumpBinaryConnector": "custom",
    "dbbackup.db.postgresql.PgDumpConnector": "plain",
    "dbbackup.db.postgresql.PgDumpGisConnector": "plain",
    "dbbackup.db.sqlite.SqliteBackupConnector": "sqlite3",
    "dbbackup.db.sqlite.SqliteCPConnector": "sqlite3",
    "dbbackup.db.sqlite.SqliteConnector": "sql",
}
# The programs that a command may name.
PROGRAMS: Mapping[str, frozenset[str]] = {
    "DUMP_CMD": frozenset({"pg_dump"}),
    "RESTORE_CMD": frozenset({"pg_restore", "psql"}),
    "PSQL_CMD": frozenset({"psql"}),
}
# Keys of DATABASES, which its connectors prefer to those of DATABASES itself.
CONNECTION = frozenset({"NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS"})
# What would change the command that dumps, with where to say it instead.
REFUSED: Mapping[str, str] = {
    "DUMP_PREFIX": "Start the whole command that way (nice manage.py dbbackup).",
    "DUMP_SUFFIX": "Say it with the options of dbbackup or the keys of ERP_BACKUP['DATABASES'].",
    "ENV": "Say it in OPTIONS of DATABASES, or in the environment that the command is started in.",
    "DUMP_ENV": "Say it in OPTIONS of DATABASES, or in the environment that the command is started in.",
}
# How it restores into the live database, and what its files are called.
WITHOUT_MEANING = frozenset(
    {
        "ADMIN_PASSWORD",
        "ADMIN_USER",
        "DROP",
        "EXTENSION",
        "IF_EXISTS",
        "PG_OPTIONS",
        "RESTORE_ENV",
        "RESTORE_PREFIX",
        "RESTORE_SUFFIX",
        "SINGLE_TRANSACTION",
        "USE_PARENT_ENV",
    }
)
KEYS = frozenset({"CONNECTOR", "EXCLUDE", "SCHEMAS", *PROGRAMS, *CONNECTION, *REFUSED, *WITHOUT_MEANING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorConfig:
    """What is honoured of one alias's entry. ``program_dirs`` are as they were written, maybe relative."""

    excluded_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    format: str = ""
    program_dirs: tuple[Path, ...] = ()


def read(
    given: object, alias: str, database: Mapping[str, Any], *, mapping: object, has_format: bool
) -> ConnectorConfig:
    """Return what ``given`` (the setting) says of ``alias``, whose entry of ``DATABASES`` is ``database``.

    ``mapping`` is DBBACKUP_CONNECTOR_MAPPING; with ``has_format`` our own setting has chosen already. Raises
    ConfigurationError for what cannot be done here, and for a key that means nothing.
    """
    where = f"{SETTING}[{alias!r}]"
    entry = values.mapping(values.mapping(given, SETTING).get(alias) or {}, where)
    for problem in (*values.known_keys(entry, KEYS, where), *_refusals(entry, where, database)):
        raise problem
    programs = [_program(entry[key], key, f"{where}[{key!r}]") for key in PROGRAMS if entry.get(key)]
    mapped = values.mapping(mapping, "DBBACKUP_CONNECTOR_MAPPING").get(database.get("ENGINE", ""))
    return ConnectorConfig(
        excluded_tables=values.texts(entry.get("EXCLUDE") or (), f"{where}['EXCLUDE']"),
        schemas=values.texts(entry.get("SCHEMAS") or (), f"{where}['SCHEMAS']"),
        format="" if has_format else _format(entry.get("CONNECTOR") or mapped, alias),
        program_dirs=tuple(program.parent for program in programs if program.parent != Path()),
    )


def _format(path: str | None, alias: str) -> str:
    if path and path not in FORMATS:
        raise ConfigurationError(
            f"The connector of the database {alias!r} is {path!r}, which nothing here stands for.",
            remedy=f"Choose a format: ERP_BACKUP['DATABASES'][{alias!r}]['FORMAT'].",
        )
    return FORMATS[path] if path else ""


def _refusals(entry: Mapping[str, Any], where: str, database: Mapping[str, Any]) -> Iterable[ConfigurationError]:
    """What says the same as DATABASES changes nothing. Values may be passwords: they are not repeated."""
    for key in sorted(CONNECTION & entry.keys()):
        if entry[key] != database.get(key):
            yield ConfigurationError(
                f"{where}[{key!r}] names another connection than DATABASES: it would not be the one that is backed up.",
                remedy="Make it an alias of DATABASES, and name that in DBBACKUP_DATABASES.",
            )
    for key, remedy in REFUSED.items():
        if entry.get(key):
            yield ConfigurationError(f"{where}[{key!r}] cannot be honoured here.", remedy=remedy)


def _program(command: object, key: str, where: str) -> Path:
    """Return the path of a program. Raises ConfigurationError for a whole command line, and for another program."""
    words = shlex.split(command) if isinstance(command, str) else list(values.texts(command, where))
    if len(words) != 1 or Path(words[0]).name not in PROGRAMS[key]:
        raise ConfigurationError(
            f"{where} is {command!r}: only the path of {' or '.join(sorted(PROGRAMS[key]))} can be honoured here.",
            remedy="Name the folder of the server's programs in ERP_BACKUP['PROGRAM_DIRS'] instead.",
        )
    return Path(words[0])
