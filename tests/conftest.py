"""Fixtures of all tests: real clusters, fresh databases, host projects."""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erp_backup.conf import get_config
from tests.support.host import Host
from tests.support.postgres import Cluster, temporary_database

OWNER = "erp_owner"

# A shell starts background jobs with SIGINT ignored, and children inherit that: here it means what it always means.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def settings_read_anew() -> None:
    """Let no test meet the settings as another one had read them while it had changed them."""
    get_config.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A running cluster, shared by this process's tests; it has the ordinary role `erp_owner` (CREATEDB)."""
    with Cluster() as cluster:
        cluster.create_role(OWNER, secrets.token_urlsafe(12))
        with cluster.connect() as connection:
            connection.execute(f"GRANT pg_signal_backend TO {OWNER}")
        yield cluster


@pytest.fixture
def pg_database(postgres: Cluster) -> Iterator[dict[str, Any]]:
    """The DATABASES entry of an empty database that an ordinary role owns, as an ERP's does; dropped afterwards."""
    # A crash test of the shared cluster would be a mistake, but must not fail all tests after it.
    postgres.start()
    with temporary_database(postgres, owner=OWNER) as entry:
        yield entry


@pytest.fixture
def crash_cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, durable (fsync on), to be crashed at will."""
    with Cluster(fsync=True) as cluster:
        yield cluster


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The demo ERP on an SQLite file that does not exist yet, run through subprocesses."""
    with contextlib.closing(Host(tmp_path / "host")) as host:
        yield host


@pytest.fixture
def pg_host(tmp_path: Path, pg_database: dict[str, Any]) -> Iterator[Host]:
    """The demo ERP on an empty PostgreSQL database, run through subprocesses."""
    with contextlib.closing(Host(tmp_path / "host", databases={"default": pg_database})) as host:
        yield host
