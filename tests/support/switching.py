"""Databases that are told apart by one row, switched in this process or in one that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from erp_backup.core.workspace import Folder
from erp_backup.engines.base import SwitchRequest
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.scratch import PostgreSQLScratch
from tests.support.pg_engine import connect
from tests.support.postgres import Cluster

AT = datetime(2026, 1, 5, 12, 30, 15, tzinfo=UTC)


def request(restore: str = "restore-1", **values: Any) -> SwitchRequest:
    """Return what a restore asks of the engine."""
    return SwitchRequest(**{"restore": restore, "at": AT, "limit": 10.0, **values})


def put(entry: Mapping[str, Any], value: str, database: str | None = None) -> None:
    """Make a database recognizable, and durably so."""
    with connect(entry, database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS mark (value text)")
        connection.execute("DELETE FROM mark")
        connection.execute("INSERT INTO mark VALUES (%s)", [value])


def marker(entry: Mapping[str, Any], database: str | None = None) -> str:
    """Return what makes a database recognizable."""
    with connect(entry, database) as connection:
        row = connection.execute("SELECT value FROM mark").fetchone()
    assert row is not None
    return str(row[0])


@contextlib.contextmanager
def restored(engine: PostgreSQL, folder: Folder, value: str = "new") -> Iterator[PostgreSQLScratch]:
    """Yield a scratch database with that mark, as a restore has one when it is finished."""
    with engine.scratch(engine.facts(), folder) as scratch:
        assert isinstance(scratch, PostgreSQLScratch)
        put(engine.database.settings, value, scratch.name)
        yield scratch


def comment(cluster: Cluster, name: str) -> str | None:
    """Return a database's comment."""
    with cluster.connect() as admin:
        row = admin.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
    assert row is not None
    return row[0]


def relatives(cluster: Cluster, name: str) -> set[str]:
    """Return the databases that a switch of `name` has anything to do with, but for itself."""
    return {other for other in cluster.databases() if other.startswith((f"{name}__", "erp_backup_"))}


@contextlib.contextmanager
def nothing_left(cluster: Cluster, name: str) -> Iterator[None]:
    """Drop what a test has put aside, however it ends."""
    try:
        yield
    finally:
        for other in relatives(cluster, name):
            cluster.drop_database(other)


# In a process that dies


@dataclass(slots=True)
class Moments:
    """Counts what the switching session does: before and after each statement, and a COMMIT that was only sent."""

    fatal: int
    count: int = 0

    def pass_one(self) -> None:
        """Die here, if this is the one."""
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, connection: psycopg.Connection[Any], query: Any, *arguments: Any, **options: Any) -> Any:
        """Run a statement, dying before, during (COMMIT) or after it."""
        if connection.info.get_parameters().get("application_name") != "erp_backup switch":
            return _EXECUTE(connection, query, *arguments, **options)
        self.pass_one()
        if query == "COMMIT" and self.count + 1 == self.fatal:
            connection.pgconn.send_query(b"COMMIT")
            while connection.pgconn.flush():
                pass
        if query == "COMMIT":
            self.pass_one()
        cursor = _EXECUTE(connection, query, *arguments, **options)
        self.pass_one()
        return cursor


_EXECUTE = psycopg.Connection.execute


def switch_and_die(engine: PostgreSQL, folder: Folder, restore: str, fatal: int) -> None:
    """Switch, in a process of our own, dying at the moment of that number; print how many there were.

    It begins when a line comes in, so that it can be killed from outside at any time after that.
    """
    moments = Moments(fatal)
    with restored(engine, folder) as scratch:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()

        def execute(connection: psycopg.Connection[Any], query: Any, *arguments: Any, **options: Any) -> Any:
            return moments.execute(connection, query, *arguments, **options)

        psycopg.Connection.execute = execute  # type: ignore[method-assign]
        engine.switch(scratch, request(restore))
        sys.stdout.write(f"{moments.count}\n")
        sys.stdout.flush()
