"""SQLite databases and engines for tests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from erp_backup.core.clock import SystemClock
from erp_backup.core.process import ProcessRunner
from erp_backup.engines.base import Database, Tools
from erp_backup.engines.sqlite import SQLite

BACKEND = "django.db.backends.sqlite3"


def engine_of(name: Path | str, **tools: Any) -> SQLite:
    """Return the engine of the database file ``name``; ``tools`` are those of :class:`Tools`."""
    clock = SystemClock()
    settings = {"ENGINE": BACKEND, "NAME": name, "OPTIONS": {"transaction_mode": "IMMEDIATE"}, "TIME_ZONE": None}
    database = Database(alias="default", settings=settings)
    return SQLite(database, Tools(clock=clock, runner=ProcessRunner(clock), **{"lock_timeout": 0.3, **tools}))


def create(path: Path, script: str, *, journal_mode: str = "delete") -> Path:
    """Create a database file with a script of SQL and return its path."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.executescript(script)
    return path


def run(path: Path, statement: str, *parameters: object) -> list[Any]:
    """Run and commit one statement on a database file and return its rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()
