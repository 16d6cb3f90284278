"""pgbouncer in front of the database: it lets its clients wait for the moment of a switch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from erp_backup.core.errors import LockedError, ServerUnreachableError
from erp_backup.engines.postgresql.connecting import APPLICATION_NAME, NETWORK, Connection, first_line
from erp_backup.engines.postgresql.measuring import cut


@contextlib.contextmanager
def console(conninfo: str) -> Iterator[Connection]:
    """Hold a session of the pooler's admin console. Raises ServerUnreachableError."""
    try:
        values = {"connect_timeout": "5", **NETWORK, "application_name": APPLICATION_NAME, **conninfo_to_dict(conninfo)}
        connection: Connection = psycopg.connect(**values, autocommit=True)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise _unreachable(error) from error
    try:
        yield connection
    finally:
        connection.close()


def _unreachable(error: psycopg.Error) -> ServerUnreachableError:
    return ServerUnreachableError(
        f"The pooler does not do what it is asked: {first_line(error)}.",
        remedy="Look at ERP_BACKUP['RESTORE']['POOLER']: the admin console of pgbouncer, as a user of admin_users.",
    )


def pools_of(connection: Connection, database: str, *, are_paused: bool) -> list[str]:
    """Return under which names the pooler offers ``database``: those that run, or those that are paused.

    Raises ServerUnreachableError.
    """
    return [name for name, is_paused in _pools(connection, database) if is_paused is are_paused]


def _pools(connection: Connection, database: str) -> list[tuple[str, bool]]:
    """The names of the pools and whether they are paused; columns differ between versions."""
    try:
        cursor = connection.execute("SHOW DATABASES")
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    except psycopg.Error as error:
        raise _unreachable(error) from error
    return [(str(row["name"]), str(row["paused"]) == "1") for row in rows if row.get("database") == database]


def may_pause(connection: Connection) -> bool:
    """Whether this user may: told by a command for a pool that there is not."""
    try:
        _say(connection, "RESUME", "erp_backup has no such pool")
    except psycopg.Error as error:
        return "admin access" not in str(error)  # pgbouncer speaks English only
    return True


def _say(connection: Connection, word: str, name: str) -> None:
    connection.execute(sql.SQL("{} {}").format(sql.SQL(word), sql.Identifier(name)))


def pause(connection: Connection, names: list[str], limit: float) -> None:
    """Let the clients of these pools wait, from the end of their transactions on.

    Raises LockedError when these do not end within ``limit`` seconds (in session mode: when the clients do not leave),
    and ServerUnreachableError for a pooler that does not do it.
    """
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        cut(connection)

    timer = threading.Timer(limit, give_up)
    timer.start()
    try:
        for name in names:
            _say(connection, "PAUSE", name)
    except psycopg.Error as error:
        if not is_late.is_set():
            raise _unreachable(error) from error
        raise LockedError(
            f"The pooler could not pause {', '.join(names)} within {limit:g} s.",
            remedy="Nothing was switched. Wait for long transactions to end, or stop their clients, then try again.",
        ) from error
    finally:
        timer.cancel()


def resume(conninfo: str, names: list[str]) -> None:
    """Let waiting clients go on, and be content where none wait. Raises ServerUnreachableError.

    Through a session of its own: that of the PAUSE may have been cut.
    """
    with console(conninfo) as connection:
        for name in names:
            with contextlib.suppress(psycopg.Error):
                _say(connection, "RESUME", name)


def resume_all(conninfo: str, database: str) -> None:
    """Let waiting clients of ``database`` go on, where a run has left them waiting. Raises ServerUnreachableError."""
    with console(conninfo) as connection:
        names = pools_of(connection, database, are_paused=True)
    resume(conninfo, names)
