"""Advisory locks: they die with their session, and everybody can see who holds them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import psycopg

from erp_backup.core.errors import BackupError, LockedError, ServerUnreachableError
from erp_backup.engines.base import Database, Tools
from erp_backup.engines.postgresql.connecting import Connection, connect, errors_in_words

# An advisory lock belongs to one database, but all of the server's are seen from everywhere.
_HOLDERS = """
SELECT a.application_name, l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
  AND ((l.classid::bigint << 32) | l.objid::bigint) = %s ORDER BY l.pid
"""


def lock_key(name: str) -> int:
    """Return the advisory lock's key (signed, 64 bits) for a name."""
    return int.from_bytes(hashlib.sha256(f"erp_backup {name}".encode()).digest()[:8], signed=True)


@contextlib.contextmanager
def maintenance_session(database: Database, tools: Tools, purpose: str) -> Iterator[Connection]:
    """Hold a session in the maintenance database: what is taken there survives a rename of the live one.

    Where the user may not connect to it, it is a session in the live database.
    """
    try:
        connection = connect(database.settings, database=tools.maintenance_database, purpose=purpose)
    except ServerUnreachableError as error:
        try:
            connection = connect(database.settings, purpose=purpose)
        except BackupError:
            raise error from None
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def advisory_lock(connection: Connection, name: str) -> Iterator[None]:
    """Hold the advisory lock ``name``. Raises LockedError naming the session that holds it, in whichever database."""
    key = lock_key(name)
    with errors_in_words(name):
        taken = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
        others = connection.execute(_HOLDERS, [key]).fetchall()
    try:
        if others or taken != (True,):
            raise LockedError(
                f"{_described(others)} is working on {name!r}.",
                remedy="Wait until it has ended, then run this again.",
            )
        yield
    finally:
        if taken == (True,):
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock(%s)", [key])


def holders(connection: Connection, name: str) -> list[int]:
    """Return the server processes that hold the advisory lock ``name``, in whichever database; not our own."""
    return [pid for _name, pid in connection.execute(_HOLDERS, [lock_key(name)]).fetchall()]


def _described(holders: list[tuple[str | None, int]]) -> str:
    return ", ".join(f"{name or 'A session'} (server process {pid})" for name, pid in holders) or "Another run"
