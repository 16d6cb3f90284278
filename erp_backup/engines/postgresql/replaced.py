"""Databases that switches have put aside: kept for the way back, listed, read, and let go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from psycopg import sql

from erp_backup.core.errors import LockedError, RefusedError
from erp_backup.engines.base import Database, Replaced, Tools
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, first_line
from erp_backup.engines.postgresql.locks import maintenance_session
from erp_backup.engines.postgresql.marks import ReplacedMark, comment_on, replaced_mark
from erp_backup.engines.postgresql.scratch import read_only_alias, settings_of

_SIZE_OF = "CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END"
_SIZE = f"SELECT {_SIZE_OF} FROM pg_database WHERE datname = %s"
_REPLACED = f"""
SELECT datname, shobj_description(oid, 'pg_database'), {_SIZE_OF} FROM pg_database
WHERE pg_has_role(datdba, 'USAGE') AND starts_with(shobj_description(oid, 'pg_database'), 'erp_backup: replaced ')
"""


def size_of(connection: Connection, name: str) -> int:
    """Return how many bytes the server uses for a database; 0 where it does not tell us."""
    row = connection.execute(_SIZE, [name]).fetchone()
    return int(row[0]) if row else 0


def listed(connection: Connection, live: str) -> list[Replaced]:
    """Return what was put aside for ``live`` and is ours to drop, newest first."""
    found = []
    for name, comment, size in connection.execute(_REPLACED).fetchall():
        mark = replaced_mark(comment)
        if mark is not None and mark.live == live and name != live:
            entry = Replaced(name=name, live=live, restore=mark.restore, replaced_at=mark.replaced_at, size=size)
            found.append(entry)
    return sorted(found, key=lambda entry: (entry.replaced_at, entry.name), reverse=True)


def list_replaced(database: Database, tools: Tools) -> list[Replaced]:
    """Return what was put aside for ``database`` and is ours to drop, newest first."""
    with maintenance_session(database, tools, "replaced") as connection, errors_in_words(database.name):
        return listed(connection, database.name)


def mark_of(connection: Connection, database: Database, replaced: Replaced) -> ReplacedMark:
    """Return what stands on a database that was put aside. Raises RefusedError for what is none, or not ours."""
    if replaced.name not in {one.name for one in listed(connection, database.name)}:
        raise RefusedError(
            f"{replaced.name!r} is no database that a restore of {database.name!r} has put aside.",
            remedy="Name one of those that are listed as put aside.",
        )
    mark = replaced_mark(comment_on(connection, replaced.name))
    assert mark is not None  # noqa: S101 - it is listed by it; mypy must know
    return mark


@contextlib.contextmanager
def replaced_orm(database: Database, tools: Tools, replaced: Replaced) -> Iterator[str]:
    """Yield an alias that reads a database that was put aside. Raises RefusedError for any other."""
    with maintenance_session(database, tools, "replaced") as connection, errors_in_words(replaced.name):
        mark_of(connection, database, replaced)
    with read_only_alias(settings_of(database.settings, replaced.name), purpose="replaced") as alias:
        yield alias


def release(database: Database, tools: Tools, replaced: Replaced) -> None:
    """Drop a database that was put aside, whoever looks into it. Raises RefusedError for any other."""
    with maintenance_session(database, tools, "release") as connection, errors_in_words(replaced.name):
        mark_of(connection, database, replaced)
        try:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(replaced.name)))
        except (psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege) as error:
            raise LockedError(
                f"{replaced.name!r} could not be dropped: {first_line(error)}.",
                remedy="End the sessions in it, or drop the replication slots that keep it; then run this again.",
            ) from error
