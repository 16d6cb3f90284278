"""Fixtures of the engines' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.postgresql import PostgreSQL
from tests.support.pg_engine import engine_of, run
from tests.support.postgres import Cluster, temporary_database


@pytest.fixture
def aliases_allowed(django_db_blocker: Any) -> Iterator[None]:
    """Let Django open the aliases of snapshots and scratch databases."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def pg_engine(pg_database: dict[str, Any]) -> PostgreSQL:
    """The engine of an empty database that an ordinary role owns."""
    return engine_of(pg_database)


@pytest.fixture(scope="module")
def filled(postgres: Cluster) -> Iterator[dict[str, Any]]:
    """The entry of a database that a module's tests only read; its dump is larger than what a pipe holds."""
    postgres.start()
    with temporary_database(postgres, owner="erp_owner") as entry:
        run(entry, "CREATE TABLE item AS SELECT repeat(md5(g::text), 40) AS t FROM generate_series(1, 3000) g")
        yield entry


@pytest.fixture
def job_folder(tmp_path: Path) -> Iterator[Folder]:
    """A running job's private folder."""
    with Workspace(tmp_path / "state").folder("test") as folder:
        yield folder
