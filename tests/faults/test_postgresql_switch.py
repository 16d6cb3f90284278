"""A switch on PostgreSQL that is torn off: by SIGKILL, by the server's crash, or watched by clients that never rest."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from erp_backup.core.errors import LockedError
from erp_backup.core.manifest import ArchiveFacts, Manifest
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.postgresql import PostgreSQL
from tests.support import pgbouncer
from tests.support.clients import assert_nobody_reads_old_after_new, clients, counted
from tests.support.machine import Account
from tests.support.pg_engine import connect, engine_of, eventually, job
from tests.support.postgres import Cluster, temporary_database
from tests.support.switching import AT, comment, marker, nothing_left, put, relatives, request, restored
from tests.support.tiers import IS_FULL

KILLS = 200 if IS_FULL else 7
# Moments counted from the end: 2 is after the COMMIT, 3 while it is under way, 4 before it, 11 after the first rename.
LATE = range(2, 26) if IS_FULL else (2, 3, 4, 9, 11)
STOPS = 20 if IS_FULL else 2
CLIENTS = 50 if IS_FULL else 12
DYING = """
    from tests.support.switching import switch_and_die
    switch_and_die(engine, folder, {restore!r}, {fatal})
"""


@pytest.fixture
def live(postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of a live database with the mark `old`; what is put aside is dropped at the end."""
    postgres.start()
    with temporary_database(postgres, owner="erp_owner") as entry, nothing_left(postgres, entry["NAME"]):
        put(entry, "old")
        yield engine_of(entry)


@pytest.fixture
def job_folder(tmp_path: Path) -> Iterator[Folder]:
    """A running job's private folder."""
    with Workspace(tmp_path / "state").folder("test") as folder:
        yield folder


def begin(process: subprocess.Popen[str]) -> None:
    """Let the other process begin to switch, once it is ready."""
    assert process.stdout is not None
    assert process.stdin is not None
    assert "ready\n" == process.stdout.readline(), process.communicate()[1]
    process.stdin.write("\n")
    process.stdin.flush()


def assert_old_or_new(engine: PostgreSQL, cluster: Cluster, restore: str) -> str:
    """Assert that the live database is the one or the other, and that the next run finishes or undoes the switch."""
    entry = engine.database.settings
    before = marker(entry)
    found = engine.recover_switch()
    after = marker(entry)
    if found is not None:
        assert restore == found.restore
        assert found.replaced is not None
        assert "old" == marker(entry, found.replaced.name)
        assert [found.replaced] == engine.list_replaced()
        engine.settle_switch(found)
        engine.release(found.replaced)

    assert before in {"old", after}
    assert after == ("old" if found is None else "new")
    assert engine.recover_switch() is None
    assert eventually(lambda: [*engine.remove_orphans(), *relatives(cluster, entry["NAME"])] == [])
    assert comment(cluster, entry["NAME"]) is None
    put(entry, "old")
    return after


class TestKills:
    """SIGKILL at the moments of the session that switches, and at any time."""

    def test_any_moment__exactly_old_or_new(self, live: PostgreSQL, postgres: Cluster, tmp_path: Path) -> None:
        """Late moments one after the other, from the end; the others at random times."""
        entry = live.database.settings
        with job(entry, tmp_path / "count", DYING.format(restore="whole", fatal=0)) as process:
            begin(process)
            moments = int(process.communicate()[0])
        outcomes = [assert_old_or_new(live, postgres, "whole")]
        chance = random.Random()
        for number in range(KILLS):
            restore = f"restore-{number}"
            fatal = moments - LATE[number] if number < len(LATE) else 0
            with job(entry, tmp_path / restore, DYING.format(restore=restore, fatal=fatal)) as process:
                begin(process)
                if fatal:
                    process.wait()
                else:
                    time.sleep(chance.uniform(0, 0.15))
            assert not fatal or process.returncode == -9
            outcomes.append(assert_old_or_new(live, postgres, restore))

        assert {"old", "new"} == set(outcomes)

    def test_killed_while_the_pooler_waits__the_next_run_lets_it_go_on(
        self, live: PostgreSQL, postgres: Cluster, tmp_path: Path, pooler: pgbouncer.Pooler
    ) -> None:
        """A run that dies between PAUSE and RESUME would leave all clients waiting for ever."""
        script = f"""
            from dataclasses import replace
            from tests.support.switching import switch_and_die
            engine.tools = replace(engine.tools, pooler={pooler.console!r})
            switch_and_die(engine, folder, "restore-1", {{fatal}})
        """
        with job(live.database.settings, tmp_path / "count", script.format(fatal=0)) as process:
            begin(process)
            moments = int(process.communicate()[0])
        assert "new" == assert_old_or_new(live, postgres, "restore-1")
        recovering = engine_of(live.database.settings, pooler=pooler.console)
        for fatal in (moments - 5, moments - 8):  # the COMMIT is under way; not even sent
            with job(live.database.settings, tmp_path / f"{fatal}", script.format(fatal=fatal)) as process:
                begin(process)
                process.wait()
            was_paused = pooler.is_paused()
            assert_old_or_new(recovering, postgres, "restore-1")

            assert was_paused
            assert not pooler.is_paused()


class TestSignals:
    """A signal that asks the run to end."""

    def test_sigterm_while_a_lock_is_waited_for__nothing_changed(
        self, live: PostgreSQL, postgres: Cluster, tmp_path: Path
    ) -> None:
        """The statement is cancelled, the copy dropped, and the sessions are gone at once."""
        name = live.database.name
        script = """
            from erp_backup.core.interrupts import signals_as_exceptions
            from tests.support.switching import switch_and_die
            with signals_as_exceptions():
                switch_and_die(engine, folder, "restore-1", 0)
        """
        waiting = "SELECT 1 FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND pid <> pg_backend_pid()"
        with (
            postgres.connect(name),
            postgres.connect() as admin,
            job(live.database.settings, tmp_path, script) as process,
        ):
            begin(process)
            assert eventually(lambda: admin.execute(waiting, [f'ALTER DATABASE "{name}" RENAME%']).fetchone())
            process.send_signal(signal.SIGTERM)
            said = process.communicate()[1]

            assert set() == relatives(postgres, name)
            assert eventually(lambda: admin.execute(waiting, ["ALTER DATABASE%"]).fetchone() is None)
        assert "Stopped by SIGTERM" in said
        assert "old" == marker(live.database.settings)
        assert live.recover_switch() is None


class TestServerStops:
    """The server crashes in the middle."""

    def test_immediate_stop__exactly_old_or_new(self, crash_cluster: Cluster, tmp_path: Path) -> None:
        """After its recovery the name is there, and the next run finishes or undoes the switch."""
        crash_cluster.create_role("erp", "secret")
        with crash_cluster.connect() as admin:
            admin.execute("GRANT pg_signal_backend TO erp")
        entry = crash_cluster.create_database("erp", owner="erp")
        engine = engine_of(entry)
        put(entry, "old")
        chance = random.Random()
        for number in range(STOPS):
            restore = f"restore-{number}"
            with job(entry, tmp_path / restore, DYING.format(restore=restore, fatal=0)) as process:
                begin(process)
                time.sleep(chance.uniform(0.02, 0.12))
                crash_cluster.stop("immediate")
                process.communicate()
            crash_cluster.start()

            assert_old_or_new(engine, crash_cluster, restore)


class TestClients:
    """Those who write while it happens."""

    def test_reconnecting_writers__no_acknowledged_write_is_lost(
        self, live: PostgreSQL, job_folder: Folder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nobody reads the old database after the first new read; each acknowledged row is in the one it was told."""
        entry = dict(live.database.settings)
        with connect(entry) as connection:
            connection.execute("CREATE TABLE log (client integer, value text)")
        with restored(live, job_folder) as scratch:
            with connect(entry, scratch.name) as connection:
                connection.execute("CREATE TABLE log (client integer, value text)")
            with clients(lambda: connect(entry), CLIENTS) as found:
                switched = live.switch(scratch, request())
        gap = assert_nobody_reads_old_after_new(found)
        acknowledged = [value for client in found for _begin, _end, value in client.seen]
        with capsys.disabled():
            sys.stdout.write(f" [{CLIENTS} clients: no commit for {gap * 1000:.0f} ms] ")

        assert switched.replaced is not None
        # One more per client may have been committed before its line was cut.
        lost = counted(entry, switched.replaced.name, "old") - acknowledged.count("old")
        assert 0 <= lost <= sum(client.errors for client in found)
        assert 0 <= counted(entry, entry["NAME"], "new") - acknowledged.count("new") <= len(found)

    def test_through_a_pooler__no_client_has_an_error(
        self,
        live: PostgreSQL,
        job_folder: Folder,
        pooler: pgbouncer.Pooler,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """With PAUSE and RESUME around the switch all of them only wait."""
        entry = dict(live.database.settings)
        engine = engine_of(entry, pooler=pooler.console)
        with connect(entry) as connection:
            connection.execute("CREATE TABLE log (client integer, value text)")
        with restored(engine, job_folder) as scratch:
            with connect(entry, scratch.name) as connection:
                connection.execute("CREATE TABLE log (client integer, value text)")
            with clients(pooler.connect, CLIENTS) as found:
                engine.switch(scratch, request())
        gap = assert_nobody_reads_old_after_new(found)
        with capsys.disabled():
            sys.stdout.write(f" [{CLIENTS} clients through pgbouncer: no commit for {gap * 1000:.0f} ms] ")

        assert 0 == sum(client.errors for client in found)
        assert not pooler.is_paused()

    def test_preflight__knows_whether_it_can_pause(self, live: PostgreSQL, pooler: pgbouncer.Pooler) -> None:
        """Its admin may; somebody who may only look is named as a failure; a pause of somebody else's is noted."""
        looker = pooler.console.replace("user=admin", "user=looker")
        found = [
            list(_pooler_problems(engine_of(live.database.settings, pooler=one))) for one in (pooler.console, looker)
        ]
        with psycopg.connect(pooler.console, autocommit=True) as console:
            console.execute(f"PAUSE {pooler.name}")
            paused = list(_pooler_problems(engine_of(live.database.settings, pooler=pooler.console)))
            console.execute(f"RESUME {pooler.name}")

        assert [] == found[0]
        assert ["The pooler's console lets us look, but not pause."] == found[1]
        assert [f"Somebody has paused {pooler.name} in the pooler: it will stay paused."] == paused

    def test_long_transaction_behind_the_pooler__locked_and_everything_goes_on(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster, pooler: pgbouncer.Pooler
    ) -> None:
        """PAUSE waits for it only so long; then nothing has changed and nobody is left waiting."""
        engine = engine_of(live.database.settings, pooler=pooler.console)
        with contextlib.closing(pooler.connect()) as client:
            client.execute("BEGIN")
            client.execute("SELECT value FROM mark")
            with (
                pytest.raises(LockedError, match=r"could not pause .* within 0\.5 s"),
                restored(engine, job_folder) as scratch,
            ):
                engine.switch(scratch, request(limit=0.5))
            row = client.execute("SELECT value FROM mark").fetchone()
            client.execute("COMMIT")
            again = client.execute("SELECT value FROM mark").fetchone()

        assert ("old",) == row == again
        assert not pooler.is_paused()
        assert comment(postgres, live.database.name) is None
        assert set() == relatives(postgres, live.database.name)


def _pooler_problems(engine: PostgreSQL) -> Iterator[str]:
    manifest = Manifest(
        id="any",
        number=1,
        database=engine.facts(),
        kind="full",
        format="custom",
        taken_at=AT,
        finished_at=AT,
        archive=ArchiveFacts(name="any", size=0, sha256=""),
    )
    for problem in engine.restore_preflight(manifest, switch=True):
        if "pooler" in problem.message:
            yield problem.message


@pytest.fixture
def pooler(live: PostgreSQL) -> Iterator[pgbouncer.Pooler]:
    """A pgbouncer in front of the live database."""
    # A folder that the account of servers can reach, too.
    with tempfile.TemporaryDirectory(prefix="pgb-") as name:
        Account.for_servers().own(Path(name))
        with pgbouncer.running(live.database.settings, Path(name)) as found:
            yield found
