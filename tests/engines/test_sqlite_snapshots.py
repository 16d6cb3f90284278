"""Snapshots of a database that is written all the time, by a real process, in every journal mode."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.base import DumpRequest
from tests.contracts.engine import compare_with, dump_to
from tests.support.host import REPOSITORY
from tests.support.sqlite import create, engine_of, run

ACCOUNTS = 200
SCRIPT = f"""
    CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL);
    CREATE TABLE transfer (id integer PRIMARY KEY AUTOINCREMENT, note text);
    CREATE TABLE counter (transfers integer NOT NULL);
    CREATE INDEX by_balance ON account (balance);
    INSERT INTO account (balance) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
        SELECT 1000 FROM n;
    INSERT INTO transfer (note) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
        SELECT hex(zeroblob(50)) FROM n;
    INSERT INTO counter VALUES (40000);
"""

# Moves money as fast as it can, one transaction for each transfer, and says when it has begun.
WRITER = f"""
import itertools, random, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("PRAGMA synchronous=OFF")
for number in itertools.count():
    giver, taker = random.sample(range(1, {ACCOUNTS} + 1), 2)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE account SET balance = balance - 7 WHERE id = ?", [giver])
    connection.execute("UPDATE counter SET transfers = transfers + 1")
    connection.execute("INSERT INTO transfer (note) VALUES (?)", [f"transfer {{number}}"])
    connection.execute("UPDATE account SET balance = balance + 7 WHERE id = ?", [taker])
    connection.execute("COMMIT")
    if number == 10:
        print("begun", flush=True)
"""


@pytest.fixture(autouse=True)
def _databases_allowed(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Let Django open the aliases of snapshots and scratch databases."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django's own object
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A running job's folder."""
    with Workspace(tmp_path / "state").folder("test") as folder:
        yield folder


@contextmanager
def busy_writer(path: Path) -> Iterator[None]:
    """Let a process write to the database at ``path`` until the end of the context."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    with writer:
        assert writer.stdout is not None
        assert "begun" == writer.stdout.readline().strip()
        try:
            yield
            assert writer.poll() is None, "the writer has died"
        finally:
            writer.kill()


@pytest.mark.parametrize("journal_mode", ["wal", "delete", "truncate"])
def test_snapshots_under_a_busy_writer__are_whole_and_restore_equal(
    tmp_path: Path, folder: Folder, journal_mode: str
) -> None:
    """Four rounds in two formats: no half transaction, dump and figures agree, and time moves on between rounds."""
    path = create(tmp_path / "live.db", SCRIPT, journal_mode=journal_mode)
    engine = engine_of(path, lock_timeout=60.0)
    findings = []
    totals = set()
    seen = []

    with busy_writer(path):
        for round_number in range(4):
            for format_name in engine.formats:
                request = DumpRequest(format=format_name)
                with engine.snapshot(request, folder) as snapshot:
                    dumped = dump_to(snapshot, folder.path / f"dump-{round_number}", request, format_name)
                with engine.scratch(dumped.manifest.database, folder) as scratch:
                    report = scratch.load(dumped.path, dumped.manifest)
                    findings += [*report.errors, *compare_with(scratch, dumped.manifest.figures, dumped.manifest)]
                    findings += scratch.integrity_errors()
                    copy = Path(scratch.name)
                    (counted,) = run(copy, "SELECT transfers FROM counter")[0]
                    (rows,) = run(copy, "SELECT count(*) FROM transfer")[0]
                    totals |= set(run(copy, "SELECT sum(balance), count(*) FROM account"))
                    findings += [] if counted == rows else [f"{counted} transfers counted, {rows} there"]
                    seen.append(counted)

    assert [] == findings
    assert {(1000 * ACCOUNTS, ACCOUNTS)} == totals
    assert seen == sorted(seen)
    assert seen[-1] > seen[0] > 40000


def test_dump_and_figures_at_once__agree(tmp_path: Path, folder: Folder) -> None:
    """Measuring in one thread while another dumps gives what each gives alone."""
    engine = engine_of(create(tmp_path / "live.db", SCRIPT), jobs=2)
    results = []

    with engine.snapshot(DumpRequest(format="sql"), folder) as snapshot:
        thread = threading.Thread(target=lambda: results.append(snapshot.figures()))
        thread.start()
        beside = b"".join(snapshot.dump())
        thread.join()
        alone = b"".join(snapshot.dump())
        figures = snapshot.figures()

    assert [figures] == results
    assert alone == beside


def test_dump_that_is_given_up__leaves_nothing_open(tmp_path: Path, folder: Folder) -> None:
    """A reader that stops early closes the file and the connection beneath (an open one would be a warning)."""
    engine = engine_of(create(tmp_path / "live.db", SCRIPT))

    for format_name in engine.formats:
        with engine.snapshot(DumpRequest(format=format_name), folder) as snapshot:
            dump = snapshot.dump()
            next(dump)
            dump.close()  # type: ignore[attr-defined]  # it is a generator

    assert ["owner.lock"] == [entry.name for entry in folder.path.iterdir()]


MEASURE_MEMORY = """
import sys
from pathlib import Path
import django
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}})
django.setup()
from erp_backup.core.workspace import Workspace
from erp_backup.engines.base import DumpRequest
from tests.contracts.engine import compare_with, take_dump
from tests.support.sqlite import engine_of
engine = engine_of(Path(sys.argv[1]))
with Workspace(Path(sys.argv[2])).folder("memory") as folder:
    for format_name in engine.formats:
        dumped = take_dump(engine, folder, DumpRequest(format=format_name))
        engine.list_archive(dumped.path, format_name)
        with engine.scratch(dumped.manifest.database, folder) as scratch:
            assert not scratch.load(dumped.path, dumped.manifest).errors
            assert not compare_with(scratch, dumped.manifest.figures, dumped.manifest)
# Not getrusage: its maximum begins with what the process that started this one had.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""


def peak_memory(tmp_path: Path, megabytes: int) -> int:
    """Return the peak memory, in bytes, of a process that backs up and restores a database of that size."""
    folder = tmp_path / str(megabytes)
    folder.mkdir()
    script = f"""
        CREATE TABLE t (id integer PRIMARY KEY, a text, b blob, c real);
        CREATE INDEX i ON t (c);
        INSERT INTO t (a, b, c)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {megabytes * 1000})
            SELECT hex(zeroblob(200)) || i, randomblob(400), i / 7.0 FROM n;
    """
    path = create(folder / "live.db", script)
    assert path.stat().st_size > megabytes * 800_000
    result = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, str(path), str(folder / "state")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == result.returncode, result.stderr
    return int(result.stdout) * 1024


@pytest.mark.slow
def test_large_database__needs_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """Twenty times the data: snapshot, figures, dump, listing and restore stay within 150 MB, and nearly the same."""
    small = peak_memory(tmp_path, 10)
    large = peak_memory(tmp_path, 200)

    assert large < 150 * 1000 * 1000
    assert large - small < 30 * 1000 * 1000
