"""What comes after a switch, or after the death of the run that tried one."""

from __future__ import annotations

import contextlib

import psycopg

from erp_backup.core.errors import LockedError
from erp_backup.engines.base import Database, Switched, Tools
from erp_backup.engines.postgresql import pooler
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words
from erp_backup.engines.postgresql.locks import holders, maintenance_session
from erp_backup.engines.postgresql.marks import comment_on, comment_sql, paused_mark, switched_mark
from erp_backup.engines.postgresql.replaced import listed

_OVER_LIMIT = 20.0  # seconds that a dead run's session may go on by itself, before it is ended


def lock_name(database: Database) -> str:
    """Return the name of the lock that whoever switches ``database`` holds until its session is gone."""
    return f"switch of {database.name}"


def wait_until_over(connection: Connection, tools: Tools, database: Database) -> None:
    """Return when no session switches ``database`` any more, and none of a dead run will.

    A session that goes on for too long is ended: its client is gone, or works without the backup lock. Raises
    LockedError when even that does not help.
    """
    begin = tools.clock.monotonic()
    while pids := holders(connection, lock_name(database)):
        waited = tools.clock.monotonic() - begin
        if waited > 2 * _OVER_LIMIT:
            raise LockedError(
                f"A session (server process {pids[0]}) is still switching {database.name!r}.",
                remedy="Wait until it is over, or let a superuser end it; then run this again.",
            )
        if waited > _OVER_LIMIT:
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # not ours: perhaps it ends by itself
                connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [pids])
        tools.clock.sleep(0.05)


def recover(database: Database, tools: Tools) -> Switched | None:
    """Return the switch that took place and was never settled. A pooler that a dead run left waiting goes on."""
    with maintenance_session(database, tools, "switch recovery") as connection, errors_in_words(database.name):
        wait_until_over(connection, tools, database)
        mark = switched_mark(comment_on(connection, database.name))
        was_paused = mark.is_paused if mark else paused_mark(comment_on(connection, database.name)) is not None
        if was_paused and tools.pooler:
            pooler.resume_all(tools.pooler, database.name)
        if mark is None:
            settle_pause(connection, database.name)
            return None
        replaced = next((one for one in listed(connection, database.name) if one.name == mark.replaced), None)
        return Switched(restore=mark.restore, replaced=replaced)


def settle_pause(connection: Connection, live: str) -> None:
    """Give the live database the comment back that it had before the pooler was made to wait."""
    mark = paused_mark(comment_on(connection, live))
    if mark is not None:
        connection.execute(comment_sql(live, mark.comment))


def settle(database: Database, tools: Tools, switched: Switched) -> None:
    """Give the live database its own comment back."""
    with maintenance_session(database, tools, "switch") as connection, errors_in_words(database.name):
        mark = switched_mark(comment_on(connection, database.name))
        if mark is not None and mark.restore == switched.restore:
            if mark.is_paused and tools.pooler:
                pooler.resume_all(tools.pooler, database.name)
            connection.execute(comment_sql(database.name, mark.comment))
