"""What would go wrong in a restore at this server, seen before anything is touched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from erp_backup.core.errors import BackupError, NoSpaceError, ServerUnreachableError, VersionError
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.units import format_size
from erp_backup.engines.base import Database, Problem, Tools
from erp_backup.engines.postgresql import programs, standing
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, parameters
from erp_backup.engines.postgresql.locks import maintenance_session

_ROOM = 1.2  # of the source's size: indexes are built while the WAL is written
_BUILTIN_SINCE = 17
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
_ROLE = """
SELECT current_user, rolsuper, rolcreatedb, pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user
"""
_EXTENSIONS = """
SELECT e.name, e.default_version, coalesce(bool_or(v.version = %(versions)s::jsonb ->> e.name), false),
       coalesce(bool_or(v.superuser AND NOT v.trusted) FILTER (WHERE v.version = e.default_version), false)
FROM pg_available_extensions e LEFT JOIN pg_available_extension_versions v ON v.name = e.name
WHERE %(versions)s::jsonb ? e.name GROUP BY 1, 2
"""
_KNOWN_LOCALES = """
SELECT name FROM (SELECT collcollate AS name FROM pg_collation WHERE collprovider = 'c'
    UNION SELECT collctype FROM pg_collation WHERE collprovider = 'c'
    UNION SELECT collname FROM pg_collation WHERE collprovider = 'c'
    UNION SELECT datcollate FROM pg_database UNION SELECT datctype FROM pg_database) known WHERE name IS NOT NULL
"""
# The version of a locale here: as a collation has it, or a database that sorts by it.
_COLLATION_VERSION = """
SELECT pg_collation_actual_version(oid) FROM pg_collation
WHERE collprovider = %(provider)s AND pg_collation_actual_version(oid) IS NOT NULL
  AND lower(replace(coalesce(collcollate, collname), '-', '')) = %(name)s LIMIT 1
"""
# Names without a system's locale behind them.
_PLAIN = {"", "c", "posix"}


def problems_with(
    database: Database, tools: Tools, manifest: Manifest, *, switch: bool, in_place: bool = False
) -> list[Problem]:
    """Return all that would go wrong in a restore of ``manifest`` at this server, and in the switch if asked."""
    problems: list[Problem] = []
    try:
        with maintenance_session(database, tools, "preflight") as connection, errors_in_words(database.name):
            problems += _rights(connection, needs_beside=not in_place)
            problems += _versions(tools, manifest, connection.info.server_version // 10000)
            problems += _extensions(connection, manifest)
            problems += _locale(connection, manifest.database)
            problems += _room(connection, database, manifest)
        problems += standing.problems_with(database, tools, switch=switch)
    except ServerUnreachableError as error:
        problems.append(Problem(message=error.message, remedy=error.remedy, error=type(error)))
    return problems


def _rights(connection: Connection, *, needs_beside: bool = True) -> Iterator[Problem]:
    row = connection.execute(_ROLE).fetchone()
    assert row is not None  # noqa: S101 - a session has a role; mypy must know
    me, is_superuser, may_create, is_standby = row
    if is_standby:
        yield Problem(
            message="The server is a standby: nothing can be written there.",
            remedy="Name the primary server in DATABASES, or promote this one.",
        )
    if is_superuser:
        yield Problem(
            message=f"{me!r} is a superuser: what an archive holds (a constraint's function, a trigger) would run with "
            "the rights to read files and start programs at the server.",
            remedy="Restore as the database's ordinary owner, with CREATEDB and pg_signal_backend; or say why it has "
            "to be so: --as-superuser REASON.",
            waiver="superuser",
        )
    elif not may_create:
        yield Problem(
            message=f"{me!r} may not create databases: nothing can be restored beside the live one"
            + (", and the archive is only read before it is used." if not needs_beside else "."),
            remedy=f"ALTER ROLE {me} CREATEDB",
            severity=Severity.FAILED if needs_beside else Severity.NOTE,
        )


def _versions(tools: Tools, manifest: Manifest, major: int) -> Iterator[Problem]:
    made_on = manifest.database.major
    if major < made_on:
        yield Problem(
            message=f"The backup was made on PostgreSQL {made_on}, and the server is older ({major}).",
            remedy=f"Restore on PostgreSQL {made_on} or newer.",
            error=VersionError,
        )
    made_by = int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0)
    name = "psql" if manifest.format == "plain" else "pg_restore"
    try:
        programs.choose(tools.runner, name, tools.program_dirs, max(major, made_by))
    except BackupError as error:
        yield Problem(message=error.message, remedy=error.remedy, error=type(error))


def _extensions(connection: Connection, manifest: Manifest) -> Iterator[Problem]:
    wanted = manifest.figures.extensions
    versions = psycopg.types.json.Jsonb(wanted)
    rows = connection.execute(_EXTENSIONS, {"versions": versions}).fetchall()
    missing = sorted(wanted.keys() - {row[0] for row in rows})
    for name in missing:
        yield Problem(
            message=f"The extension {name!r} ({wanted[name]}) is not installed at the server.",
            remedy="Install its package there (many are in postgresql-contrib).",
        )
    is_superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (
        True,
    )
    for name, default, has_version, needs_superuser in rows:
        if needs_superuser and not is_superuser and name != "plpgsql":
            yield Problem(
                message=f"Only a superuser may create the extension {name!r}, and the restore would fail for it.",
                remedy="Drop it where it is not needed, or restore as a superuser.",
            )
        if not has_version:
            yield Problem(
                message=f"The extension {name!r} was {wanted[name]} in the backup and will be {default}.",
                severity=Severity.NOTE,
            )


def _locale(connection: Connection, facts: DatabaseFacts) -> Iterator[Problem]:
    known = connection.execute("SELECT pg_char_to_encoding(%s)", [facts.encoding]).fetchone()
    if facts.encoding and known == (-1,):
        yield Problem(message=f"The server knows no encoding {facts.encoding!r}.", remedy="Restore on a newer server.")
    for name in dict.fromkeys([facts.collation, facts.ctype]):
        if not _has_locale(connection, name):
            yield Problem(
                message=f"The server's system has no locale {name!r}, by which the backup is sorted.",
                remedy=f"Make it there (locale-gen {name}), then restart the server.",
            )
    yield from _provider(connection, facts)
    here = _collation_version(connection, facts)
    if here and facts.collation_version and here != facts.collation_version:
        yield Problem(
            message=f"Text was sorted by version {facts.collation_version} of its locale, and is by {here} here.",
            remedy="The restored indexes are built anew and fit. REINDEX the server's other databases, if its system "
            "was upgraded; look at partitions and constraints that compare text.",
            severity=Severity.NOTE,
        )


def _has_locale(connection: Connection, name: str) -> bool:
    """Whether the system has it: as the server remembers from its creation, or as a try tells."""
    rows = connection.execute(_KNOWN_LOCALES).fetchall()
    if _plain(name) in _PLAIN or _plain(name) in {_plain(known) for (known,) in rows}:
        return True
    statement = sql.SQL("CREATE COLLATION pg_temp.erp_backup_probe (LOCALE = {})").format(sql.Literal(name))
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.Error:
        return False
    return True


def _plain(name: str) -> str:
    """``en_US.UTF-8`` and ``en_US.utf8`` are one locale."""
    return name.lower().replace("-", "")


def _provider(connection: Connection, facts: DatabaseFacts) -> Iterator[Problem]:
    has_icu = connection.execute("SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')").fetchone()
    too_old = facts.locale_provider == "builtin" and connection.info.server_version // 10000 < _BUILTIN_SINCE
    if too_old or (facts.locale_provider == "icu" and has_icu == (False,)):
        yield Problem(
            message=f"The backup is sorted by locales of {facts.locale_provider!r}, which the server has not.",
            remedy="Restore on a server like the one that the backup was made on.",
        )


def _collation_version(connection: Connection, facts: DatabaseFacts) -> str:
    """The version of the backup's locale here; empty where the server does not tell."""
    is_icu = facts.locale_provider == "icu"
    values = {"provider": "i" if is_icu else "c", "name": _plain(facts.locale if is_icu else facts.collation)}
    if is_icu and connection.info.server_version >= 170000:  # noqa: PLR2004 - where the column has another name
        query = _COLLATION_VERSION.replace("coalesce(collcollate, collname)", "coalesce(colllocale, collname)")
    elif is_icu and connection.info.server_version >= 150000:  # noqa: PLR2004
        query = _COLLATION_VERSION.replace("coalesce(collcollate, collname)", "coalesce(colliculocale, collname)")
    else:
        query = _COLLATION_VERSION
    row = connection.execute(query, values).fetchone()
    return str(row[0]) if row else ""


def _room(connection: Connection, database: Database, manifest: Manifest) -> Iterator[Problem]:
    needed = int(manifest.database.size * _ROOM)
    place = _data_folder(connection, database)
    if needed == 0:
        return
    if place is None:
        yield Problem(
            message=f"The restore needs about {format_size(needed)} at the server; how much is free there, "
            "it does not tell us.",
            remedy="Look with df at the server, in the folder that SHOW data_directory names.",
            severity=Severity.NOTE,
        )
        return
    free = shutil.disk_usage(place).free
    if free < needed:
        yield Problem(
            message=f"The restore needs about {format_size(needed)} at {place}, where {format_size(free)} are free.",
            remedy="Free space there; databases that restores have put aside can be let go.",
            error=NoSpaceError,
        )


def _data_folder(connection: Connection, database: Database) -> Path | None:
    """Where the new database's files will be, if that is on this machine and we may know it."""
    host = parameters(database.settings).get("host", "")
    if not (host == "" or host.startswith("/") or _LOOPBACK.fullmatch(host)):
        return None
    query = """SELECT coalesce(nullif(pg_tablespace_location(d.dattablespace), ''), current_setting('data_directory'))
               FROM pg_database d WHERE d.datname IN (%s, current_database()) ORDER BY d.datname = %s DESC LIMIT 1"""
    try:
        with connection.transaction():
            row = connection.execute(query, [database.name, database.name]).fetchone()
        folder = Path(str(row[0])) if row else None
        return folder if folder is not None and folder.is_dir() else None
    except (psycopg.errors.InsufficientPrivilege, OSError):
        return None
