"""Law 2: taken in one snapshot, whatever is committed meanwhile; verification demands equality."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.support import leftovers
from tests.support.host import REPOSITORY, Host
from tests.support.postgres import Cluster
from tests.support.tiers import IS_FULL

ROUNDS = 10 if IS_FULL else 3


@contextlib.contextmanager
def writers(kind: str, target: str, count: int) -> Iterator[list[int]]:
    """Keep `count` processes committing; the list holds, afterwards, how often each has committed."""
    commits: list[int] = []
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.writers", kind, target, str(number)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield commits
    finally:
        for process in processes:
            told, _nothing = process.communicate(timeout=60)
            commits.append(int(told or 0))
            assert process.returncode == 0


def round_trip(host: Host) -> dict[str, Any]:
    """Back up and drill; return the manifest's figures of tables."""
    made = host.manage("dbbackup", "--json").json()["backups"][0]
    verified = host.manage("verifybackup", made["id"], "--json", check=False)
    (result,) = verified.json()["verifications"]

    assert [] == result["findings"]
    assert ("passed", "models", 0) == (result["outcome"], result["reached"], verified.returncode)
    assert [] == [name for name, value in made["model_checks"].items() if not value]
    return made


def test_postgresql_with_8_writers__all_equal(tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
    """Round after round, table by table and model check by model check, while the live figures move on."""
    host = Host(tmp_path / "host", databases={"default": pg_database})
    host.migrate()
    host.seed(transactions=1000)
    target = make_conninfo(
        host=pg_database["HOST"],
        port=pg_database["PORT"],
        user=pg_database["USER"],
        password=pg_database["PASSWORD"],
        dbname=pg_database["NAME"],
    )
    with writers("postgresql", target, 8) as commits:
        rounds = [round_trip(host) for _ in range(ROUNDS)]

    assert all(count > 10 for count in commits)
    assert ROUNDS == len({str(made["model_checks"]) for made in rounds})
    leftovers.assert_nothing_left(host, postgres)


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_sqlite_with_a_writer__all_equal(host: Host, journal_mode: str) -> None:
    """The same with a file that is being written to, in both journal modes."""
    host.migrate()
    host.seed(transactions=1000)
    with contextlib.closing(sqlite3.connect(host.database_file)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    with writers("sqlite", str(host.database_file), 1) as commits:
        rounds = [round_trip(host) for _ in range(ROUNDS)]

    assert commits[0] > 10
    assert len(rounds) == len({str(made["model_checks"]) for made in rounds})
    leftovers.assert_nothing_left(host)
