"""Locks come before the snapshot: dump and figures cannot agree on a loss, and nobody's DDL waits for long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import LockedError
from erp_backup.core.figures import Figures
from erp_backup.core.process import Command, ProcessRunner
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import PostgreSQL, catalog, exporting, snapshot
from tests.contracts.engine import Dumped, dump_to
from tests.support.pg_engine import connect, drill, engine_of, eventually, run, waiting_sessions
from tests.support.postgres import Cluster

ROWS = 500
DDL = {
    "truncate": "TRUNCATE item",
    "rewrite": "ALTER TABLE item ALTER name TYPE varchar(60) USING upper(name)",
    "drop": "DROP TABLE item",
}


class RunnerWithHook(ProcessRunner):
    """Calls `before` once, when the first pg_dump is about to start."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), grace=0.5)
        self.before: Callable[[], None] | None = None

    def stream(self, command: Command, **options: Any) -> Iterator[bytes]:
        """Start a program, after the hook."""
        if self.before is not None and command.program == "pg_dump":
            hook, self.before = self.before, None
            hook()
        return super().stream(command, **options)


@pytest.fixture
def entry(pg_database: dict[str, Any]) -> dict[str, Any]:
    """A database with two filled tables and a sequence."""
    run(
        pg_database,
        "CREATE TABLE item (id serial PRIMARY KEY, name text)",
        f"INSERT INTO item (name) SELECT 'Item ' || g FROM generate_series(1, {ROWS}) g",
        "CREATE TABLE other AS SELECT * FROM item",
    )
    return pg_database


@pytest.fixture
def second(entry: dict[str, Any]) -> Iterator[ThreadPoolExecutor]:
    """A thread for somebody else's session."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def rows_of(figures: Figures) -> dict[str, int]:
    """Return the rows of each table."""
    return {table.name: table.rows for table in figures.tables}


def take_with_retries(engine: PostgreSQL, folder: Folder) -> tuple[Dumped, list[Figures]]:
    """Take a dump as a backup does: a lock in the way ends the attempt, not the run. Return all attempts' figures."""
    seen: list[Figures] = []
    request = DumpRequest(format="custom")
    for _ in range(4):
        with contextlib.suppress(LockedError), engine.snapshot(request, folder) as opened:
            try:
                dumped = dump_to(opened, folder.path / "dump", request, "custom")
            finally:
                seen.append(opened.figures())
            return dumped, seen
    raise AssertionError("no attempt succeeded")


@pytest.mark.parametrize("ddl", DDL.values(), ids=DDL.keys())
def test_ddl_between_snapshot_and_dump__costs_an_attempt_and_no_row(
    entry: dict[str, Any], job_folder: Folder, second: ThreadPoolExecutor, ddl: str
) -> None:
    """The DDL waits for us, pg_dump gives up behind it, the DDL goes through, and the next attempt is whole."""
    runner = RunnerWithHook()
    engine = engine_of(entry, runner=runner)
    done = []

    def fire() -> None:
        done.append(second.submit(run, entry, ddl))
        assert eventually(lambda: ddl in waiting_sessions(entry))

    runner.before = fire
    dumped, seen = take_with_retries(engine, job_folder)
    done[0].result(timeout=30)
    report, findings = drill(engine, job_folder, dumped)

    left = {"truncate": 0, "rewrite": ROWS, "drop": None}[next(key for key, value in DDL.items() if value == ddl)]
    assert [ROWS, left] == [rows_of(figures).get("item") for figures in seen]
    assert ([], ()) == (findings, report.errors)


def test_without_the_lock__dump_and_figures_agree_on_a_loss(
    entry: dict[str, Any], job_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is what the locks are for: without them the figures say 0 rows, the dump holds 0 rows, and all is equal."""
    for module in (exporting, snapshot):
        monkeypatch.setattr(module, "lock_statements", lambda _relations: ())
    runner = RunnerWithHook()
    engine = engine_of(entry, runner=runner)
    with connect(entry) as somebody:
        runner.before = lambda: somebody.execute(DDL["rewrite"]) and None
        dumped, _seen = take_with_retries(engine, job_folder)
        rows_now = somebody.execute("SELECT count(*) FROM item").fetchone()
    _report, findings = drill(engine, job_folder, dumped)

    assert (ROWS,) == rows_now
    assert 0 == rows_of(dumped.manifest.figures)["item"]
    assert [] == [finding for finding in findings if finding.kind == "table"]


@pytest.mark.parametrize(
    ("before", "rows"),
    [
        ("TRUNCATE item", {"item": 0, "other": ROWS}),
        ("DROP TABLE item", {"other": ROWS}),
        (DDL["rewrite"], {"item": ROWS, "other": ROWS}),
        ("ALTER TABLE item RENAME TO old; CREATE TABLE item (a int)", {"item": 0, "old": ROWS, "other": ROWS}),
        ("ALTER TABLE item ADD COLUMN more int DEFAULT 5", {"item": ROWS, "other": ROWS}),
    ],
)
def test_ddl_between_list_and_lock__is_in_the_snapshot(
    entry: dict[str, Any], job_folder: Folder, second: ThreadPoolExecutor, before: str, rows: dict[str, int]
) -> None:
    """The lock waits until the other session commits; then the snapshot sees, and the dump holds, what it left."""
    engine = engine_of(entry, lock_timeout=20.0)
    with connect(entry) as somebody:
        with somebody.transaction():
            somebody.execute(before)
            taking = second.submit(take_with_retries, engine, job_folder)
            assert eventually(lambda: any(query.startswith("LOCK TABLE") for query in waiting_sessions(entry)))
        dumped, _seen = taking.result(timeout=60)
    report, findings = drill(engine, job_folder, dumped)

    assert rows == rows_of(dumped.manifest.figures)
    assert ([], ()) == (findings, report.errors)


def test_table_that_stays_locked__is_named_and_not_waited_for(entry: dict[str, Any], job_folder: Folder) -> None:
    """A migration that holds a table costs a short wait and an error that says what to do."""
    engine = engine_of(entry)
    with connect(entry) as somebody, somebody.transaction():
        somebody.execute("LOCK TABLE item")
        with pytest.raises(LockedError) as caught, engine.snapshot(DumpRequest(), job_folder):
            pass

    assert entry["NAME"] in str(caught.value)
    assert "Run it again" in str(caught.value)


def test_circle_of_waits__we_give_way(
    entry: dict[str, Any], job_folder: Folder, second: ThreadPoolExecutor, postgres: Cluster
) -> None:
    """A session that locks two tables in another order than ours is not chosen as a deadlock's victim."""
    engine = engine_of(entry, lock_timeout=20.0)

    def open_snapshot() -> dict[str, int]:
        with engine.snapshot(DumpRequest(), job_folder) as taken:
            return rows_of(taken.figures())

    with postgres.connect(entry["NAME"]) as somebody:
        # It looks for circles before our session would: only giving way sooner than that saves it.
        somebody.execute("SET deadlock_timeout = '700ms'")
        with somebody.transaction():
            somebody.execute("LOCK TABLE other")
            taking = second.submit(open_snapshot)
            assert eventually(lambda: waiting_sessions(entry))
            somebody.execute("LOCK TABLE item")
            was_open = taking.done()
        rows = taking.result(timeout=60)

    assert not was_open
    assert {"item": ROWS, "other": ROWS} == rows


def test_tables_that_come_all_the_time__end_the_attempt(
    entry: dict[str, Any], job_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When each list is out of date before it is locked, that is said instead of tried for ever."""
    made: list[str] = []
    listed = catalog.relations

    def relations(*arguments: Any) -> list[catalog.Table]:
        found = listed(*arguments)
        made.append(f"CREATE TABLE fresh_{len(made)} ()")
        run(entry, made[-1])
        return found

    monkeypatch.setattr(catalog, "relations", relations)
    with (
        pytest.raises(LockedError, match="made and dropped all the time"),
        engine_of(entry).snapshot(DumpRequest(), job_folder),
    ):
        pass

    assert len(made) > 4


def test_sequence_that_goes_on_after_the_dump__is_no_loss(entry: dict[str, Any], job_folder: Folder) -> None:
    """Sequences stand outside of snapshots: the figures are those from before the dump, so it is never behind them."""
    engine = engine_of(entry)
    request = DumpRequest(format="custom")
    with engine.snapshot(request, job_folder) as opened:
        chunks = b"".join(opened.dump())
        run(entry, "SELECT nextval('item_id_seq') FROM generate_series(1, 100)")
        dumped = dump_to(opened, job_folder.path / "late", request, "custom")
    dumped.path.write_bytes(chunks)

    assert [] == drill(engine, job_folder, dumped)[1]
