"""Databases that are told apart by one row, switched in this process or in one that dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
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


def session_of(entry: Mapping[str, Any], cluster: Cluster, user: str) -> psycopg.Connection[Any]:
    """Return another role's session in the live database; the caller closes it."""
    return cluster.connect(entry["NAME"], user=user)
