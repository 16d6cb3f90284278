"""The snapshot and the copy as Django, and another process, see them."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError as DjangoDatabaseError
from django.db import connections

from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest, ProcessDatabase
from tests.support.pg_engine import connect, engine_of, eventually, run, take, waiting_sessions
from tests.support.postgres import Cluster

pytestmark = pytest.mark.usefixtures("aliases_allowed")


@pytest.fixture
def entry(pg_database: dict[str, Any]) -> dict[str, Any]:
    """A database with three rows, found through the role's own search path."""
    run(
        pg_database,
        "CREATE SCHEMA erp",
        "CREATE TABLE erp.item AS SELECT generate_series(1, 3) AS a",
        f"ALTER DATABASE {pg_database['NAME']} SET search_path = erp",
        f"ALTER DATABASE {pg_database['NAME']} SET statement_timeout = '100ms'",
        f"ALTER DATABASE {pg_database['NAME']} SET idle_in_transaction_session_timeout = '30s'",
    )
    return pg_database


def ask(alias: str, query: str) -> Any:
    """Return the first value of the first row of a query through Django."""
    with connections[alias].cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_snapshot_through_django__is_the_one_of_the_dump(entry: dict[str, Any], job_folder: Folder) -> None:
    """Later commits are not seen, the host's search path holds, a role's time limit does not, nothing is written."""
    with engine_of(entry).snapshot(DumpRequest(), job_folder) as snapshot:
        run(entry, "INSERT INTO item VALUES (4)")
        with snapshot.orm() as alias:
            rows = ask(alias, "SELECT count(*) FROM item")
            slow = ask(alias, "SELECT count(pg_sleep(0.2))")
            isolation = ask(alias, "SHOW transaction_isolation")
            may_idle = ask(alias, "SHOW idle_in_transaction_session_timeout")
            with pytest.raises(DjangoDatabaseError, match="read-only"):
                ask(alias, "INSERT INTO item VALUES (5) RETURNING a")

    assert (3, 1, "repeatable read", "0") == (rows, slow, isolation, may_idle)
    assert alias not in connections.settings


def test_waiting_ddl__does_not_stop_readers_of_the_snapshot(entry: dict[str, Any], job_folder: Folder) -> None:
    """All locks are held from the beginning: nobody queues behind a migration that waits for them."""
    engine = engine_of(entry)
    with ThreadPoolExecutor(1) as pool, engine.snapshot(DumpRequest(), job_folder) as snapshot:
        with snapshot.orm() as alias:
            migration = pool.submit(run, entry, "SET statement_timeout = 0; TRUNCATE item")
            assert eventually(lambda: waiting_sessions(entry))
            seen = ask(alias, "SELECT count(*) FROM item"), [table.rows for table in snapshot.figures().tables]
        snapshot.cancel()
    migration.result(timeout=30)
    with connect(entry) as somebody:
        left = somebody.execute("SELECT count(*) FROM item").fetchone()

    assert (3, [3]) == seen
    assert (0,) == left


def psql(cluster: Cluster, database: ProcessDatabase, *statements: str) -> subprocess.CompletedProcess[str]:
    """Run a process's SQL and then `statements` in one session of psql."""
    settings = database.settings
    script = "".join(f"{statement};\n" for statement in (*database.initial_sql, *statements))
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    return subprocess.run(
        [cluster.bin_dir / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"],
        input=script,
        env={"PATH": os.environ["PATH"], **{name: str(settings[key]) for name, key in names.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def test_snapshot_in_another_process__is_the_same(entry: dict[str, Any], postgres: Cluster, job_folder: Folder) -> None:
    """The statements that another process runs first are plain SQL, and bind it to the snapshot."""
    with engine_of(entry).snapshot(DumpRequest(), job_folder) as snapshot:
        run(entry, "INSERT INTO item VALUES (4)")
        reading = psql(
            postgres, snapshot.process_settings(), "SELECT 'rows', count(*) FROM item", "SELECT pg_sleep(0.2)"
        )
        writing = psql(postgres, snapshot.process_settings(), "INSERT INTO item VALUES (5)")

    assert (0, "") == (reading.returncode, reading.stderr)
    assert "rows|3" in reading.stdout
    assert 3 == writing.returncode
    assert "read-only transaction" in writing.stderr


def test_copy_through_django__is_read_in_one_transaction(
    entry: dict[str, Any], postgres: Cluster, job_folder: Folder
) -> None:
    """A drill's model checks see one state of the copy, cannot write, and another process sees the copy, too."""
    engine = engine_of(entry)
    dumped = take(engine, job_folder)
    with engine.scratch(dumped.manifest.database, job_folder) as scratch:
        scratch.load(dumped.path, dumped.manifest)
        with scratch.orm() as alias:
            before = ask(alias, "SELECT count(*) FROM erp.item")
            run({**entry, "NAME": scratch.name}, "INSERT INTO erp.item VALUES (4)")
            after = ask(alias, "SELECT count(*) FROM erp.item")
            with pytest.raises(DjangoDatabaseError, match="read-only"):
                ask(alias, "INSERT INTO erp.item VALUES (5) RETURNING a")
        elsewhere = psql(postgres, scratch.process_settings(), "SELECT current_database(), count(*) FROM erp.item")

    assert (3, 3) == (before, after)
    assert f"{scratch.name}|4" == elsewhere.stdout.strip()
