"""Stopping: figures and dumps that nobody needs any more end soon, also where the server does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.errors import BackupError, DatabaseError, ProgramError, ServerUnreachableError
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import measuring
from erp_backup.engines.postgresql.catalog import Table
from erp_backup.engines.postgresql.connecting import Connection, session
from tests.support.pg_engine import connect, engine_of, eventually, run, waiting_sessions
from tests.support.postgres import Cluster
from tests.support.programs import fake_program

SLEEP = "WHERE pg_sleep(600) IS NULL"


def table(number: int, condition: str = "", pages: int = 0) -> Table:
    """The table `item` of the test, with a clause that makes measuring it slow or wrong."""
    return Table(oid=number, schema="public", name="item", columns=("a",), condition=condition, pages=pages)


@pytest.fixture
def entry(pg_database: dict[str, Any]) -> dict[str, Any]:
    """A database with a table and a view."""
    run(pg_database, "CREATE TABLE item AS SELECT 1 AS a", "CREATE VIEW item_view AS SELECT a FROM item")
    return pg_database


@pytest.fixture
def other_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread beside the test's own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def sleeping(cluster: Cluster) -> int:
    """Return how many sessions sleep."""
    with cluster.connect() as admin:
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone()
    assert row is not None
    return int(row[0])


class TestGauge:
    """Several sessions that measure at once."""

    @pytest.fixture
    def sessions(self, entry: dict[str, Any]) -> Iterator[list[Connection]]:
        """Two sessions in the database."""
        with session(entry) as first, session(entry) as second:
            yield [first, second]

    def test_stop__ends_all_sessions(
        self, postgres: Cluster, sessions: list[Connection], other_thread: ThreadPoolExecutor
    ) -> None:
        """Whatever the sessions are at, they end with an error of ours, and nothing is measured afterwards."""
        gauge = measuring.Gauge(sessions, "erp")
        measured = other_thread.submit(gauge.tables, [table(1, SLEEP), table(2, SLEEP)], lambda one: one.columns)
        assert eventually(lambda: sleeping(postgres) == 2)

        answered = gauge.stop()

        with pytest.raises(DatabaseError):
            measured.result(timeout=30)
        with pytest.raises(DatabaseError, match="stopped"):
            gauge.tables([table(1)], lambda one: one.columns)
        assert answered

    def test_first_error__ends_the_others_and_is_the_one_that_is_raised(self, sessions: list[Connection]) -> None:
        """A table that cannot be measured does not leave the others running, and its own error is told."""
        gauge = measuring.Gauge(sessions, "erp")

        with pytest.raises(DatabaseError, match="division by zero"):
            gauge.tables([table(1, SLEEP, pages=9), table(2, "WHERE 1 / (a - 1) = 1")], lambda one: one.columns)

    def test_interruption__ends_the_sessions(self, postgres: Cluster, sessions: list[Connection]) -> None:
        """Ctrl-C in the thread that waits for figures ends what the server does for them."""
        gauge = measuring.Gauge(sessions, "erp")

        def interrupt() -> None:
            eventually(lambda: sleeping(postgres) == 2)
            os.kill(os.getpid(), signal.SIGINT)

        hand = threading.Thread(target=interrupt)
        hand.start()
        with pytest.raises(KeyboardInterrupt):
            gauge.tables([table(1, SLEEP), table(2, SLEEP)], lambda one: one.columns)
        hand.join()

        assert eventually(lambda: sleeping(postgres) == 0)

    def test_figures__come_in_the_order_of_the_tables(self, sessions: list[Connection]) -> None:
        """The largest is measured first; the order asked for comes back."""
        gauge = measuring.Gauge(sessions, "erp")
        wanted = [table(number, f"WHERE a <> {number}", pages=number) for number in range(4)]

        found = gauge.tables(wanted, lambda one: one.columns)

        assert [1, 0, 1, 1] == [figure.rows for figure in found]


class TestCancel:
    """A snapshot that is given up while others work in it."""

    def test_figures_that_wait__end(
        self, entry: dict[str, Any], job_folder: Folder, other_thread: ThreadPoolExecutor
    ) -> None:
        """Definitions are asked of the server in the figures' thread; that is stopped, too."""
        engine = engine_of(entry, lock_timeout=600.0)
        with connect(entry) as somebody, somebody.transaction():
            somebody.execute("ALTER VIEW item_view SET (security_barrier)")
            with engine.snapshot(DumpRequest(), job_folder) as snapshot:
                measured = other_thread.submit(snapshot.figures)
                assert eventually(lambda: waiting_sessions(entry))
                snapshot.cancel()
                error = measured.exception(timeout=30)

        assert isinstance(error, DatabaseError)
        assert "canceling statement due to user request" in str(error)

    def test_dump_that_hangs__ends_in_the_thread_that_reads_it(
        self, entry: dict[str, Any], postgres: Cluster, job_folder: Folder, other_thread: ThreadPoolExecutor
    ) -> None:
        """A pg_dump that says nothing more is ended with all it started, and its reader gets an error, not an end."""
        body = '"$REAL" "$@" | head -c 1000; touch {}/hanging; exec sleep 600'.replace("{}", str(job_folder.path))
        folder = fake_program(job_folder.path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", body)
        engine = engine_of(entry, program_dirs=(folder,))
        with engine.snapshot(DumpRequest(), job_folder) as snapshot:
            reading = other_thread.submit(list, snapshot.dump())
            assert eventually((job_folder.path / "hanging").exists)
            snapshot.cancel()
            error = reading.exception(timeout=30)

        assert isinstance(error, ProgramError)
        assert "was stopped" in str(error)

    def test_dump_after_it__does_not_begin(self, entry: dict[str, Any], job_folder: Folder) -> None:
        """Whoever comes late gets an error as well."""
        with engine_of(entry).snapshot(DumpRequest(), job_folder) as snapshot:
            snapshot.cancel()
            with pytest.raises(BackupError, match="stopped"):
                b"".join(snapshot.dump())


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster that no other test needs meanwhile."""
    with Cluster() as cluster:
        yield cluster


@contextlib.contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """Let no process of the server go on: its lines stay open, and nobody answers."""
    pids = [cluster.pid, *_children(cluster.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if process.read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(process.parent.name))
    return found


@pytest.mark.usefixtures("aliases_allowed")
def test_server_that_stands_still__keeps_nobody(
    own_cluster: Cluster, job_folder: Folder, other_thread: ThreadPoolExecutor
) -> None:
    """A frozen server answers no request to stop: the lines are cut, and all that waited at them goes on."""
    entry = {**own_cluster.create_database("erp"), "OPTIONS": {"connect_timeout": 2}}
    run(entry, "CREATE TABLE item AS SELECT repeat(md5(g::text), 40) AS a FROM generate_series(1, 3000) g")
    engine = engine_of(entry)
    with contextlib.suppress(BackupError), engine.snapshot(DumpRequest(), job_folder) as snapshot:
        chunks = snapshot.dump()
        with snapshot.orm():
            with stopped(own_cluster):
                measured = other_thread.submit(snapshot.figures)
                with pytest.raises(ServerUnreachableError, match="timeout"):
                    engine.facts()
                snapshot.cancel()
                measuring_error = measured.exception(timeout=60)
                with pytest.raises(BackupError):
                    b"".join(chunks)
            raise BackupError("what the run had failed with")

    assert isinstance(measuring_error, BackupError)
