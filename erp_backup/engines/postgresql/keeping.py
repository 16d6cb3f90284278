"""A scratch database that becomes somebody's own, under a name of theirs, beside the live one."""

from __future__ import annotations

import psycopg

from erp_backup.core.errors import RefusedError
from erp_backup.engines.base import Database
from erp_backup.engines.postgresql import properties
from erp_backup.engines.postgresql.connecting import errors_in_words
from erp_backup.engines.postgresql.marks import comment_sql
from erp_backup.engines.postgresql.scratch import PATTERN, PostgreSQLScratch, settings_of
from erp_backup.engines.postgresql.switching import NAME_LIMIT, rename_sql


def keep_as(database: Database, scratch: PostgreSQLScratch, name: str) -> str:
    """Rename ``scratch`` to ``name``, for those who may connect to the live database; return the psql command.

    Where there is no live database it stays for its owner alone. Raises RefusedError for a name that cannot be.
    """
    refuse_impossible(database, name)
    admin = scratch.admin
    with errors_in_words(name):
        if properties.read(admin, name) is not None:
            raise _taken(name)
        live = properties.read(admin, database.name)
        before = properties.require(admin, scratch.name)
        try:
            with admin.transaction():
                if live is not None:
                    for statement in properties.grant_statements(before, live.grants):
                        admin.execute(statement)
                admin.execute(comment_sql(scratch.name, ""))
                admin.execute(rename_sql(scratch.name, name))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation) as error:
            raise _taken(name) from error
    scratch.has_left = True
    scratch.settings = settings_of(scratch.settings, name)
    scratch.name = name
    return scratch.how_to_look()


def refuse_impossible(database: Database, name: str) -> None:
    """Raise RefusedError for a name that no database that stays can have."""
    if name == database.name and not database.is_elsewhere:
        raise RefusedError(
            f"{name!r} is the live database.", remedy="Choose a new name, or switch to the restored database."
        )
    if not name or len(name.encode()) > NAME_LIMIT or "\0" in name or PATTERN.fullmatch(name):
        raise RefusedError(
            f"{name!r} cannot be the name of a database that stays.",
            remedy=f"Choose a name of 1 to {NAME_LIMIT} bytes that does not begin like our scratch databases.",
        )


def _taken(name: str) -> RefusedError:
    return RefusedError(f"There is a database {name!r} already.", remedy="Choose a name that is free.")
