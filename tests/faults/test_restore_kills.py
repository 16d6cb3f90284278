"""`dbrestore` that is killed: the live database is exactly the old or the new one, and the next run makes it whole."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import leftovers
from tests.support.content import rows_of
from tests.support.host import REPOSITORY, Result
from tests.support.pg_engine import eventually
from tests.support.postgres import Cluster
from tests.support.restoring import Erp, made
from tests.support.tiers import IS_FULL
from tests.support.told import Told, assert_nothing_lost_or_doubled, told

RANDOM_KILLS = 200 if IS_FULL else 1
STOPS = 20 if IS_FULL else 1
# The phases in CI; all moments in full.
PHASES = ("safety backup", "switch", "switched", "settled")
# System calls of CI, counted from the end: after the notes, after the switch, around it.
LATE = (12, 60)
SYSTEM_CALLS = (
    "fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,ftruncate,"
    "write,pwrite64,copy_file_range,sendto"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A restore that got through."""

    names: list[str]  # what the reporter was told
    seconds: float
    calls: int  # that change or send something, of the process itself: each process counts for itself


def _calls_of_first(lines: list[str]) -> int:
    first = lines[0].split()[0]
    return sum(line.startswith(f"{first} ") and "resumed>" not in line for line in lines)


@dataclass(slots=True)
class Scene:
    """An ERP that is restored again and again."""

    erp: Erp
    followers: Iterator[tuple[str, ...]] = field(init=False)  # what comes next, in turn
    seen: list[list[str]] = field(default_factory=list)  # rows of all states that were live
    number: int = 0
    outcomes: set[str] = field(default_factory=set)
    known: Whole | None = None

    def __post_init__(self) -> None:
        self.seen.append(rows_of(self.erp.state))
        rollback = ("dbrestore", "--rollback", "--noinput", "--json")
        self.followers = itertools.cycle([("dbbackup", "--json"), rollback, self.restore])

    @property
    def restore(self) -> tuple[str, ...]:
        """The command that is killed."""
        return ("dbrestore", self.erp.backup, "--noinput", "--json")

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start the restore in a process that may die by itself."""
        return subprocess.Popen(
            [*before, sys.executable, "-m", "tests.support.crashing", *arguments],
            cwd=REPOSITORY,
            env={
                **self.erp.host.environment,
                "PYTHONPATH": f"{self.erp.host.folder}:{REPOSITORY}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def change(self) -> tuple[str, Told]:
        """Make the live database another one than the backup, with somebody logged in; return what it holds."""
        self.number += 1
        self.erp.change()
        self.erp.log_in(f"session-{self.number}")
        before = self.erp.content
        self.seen.append(rows_of(before))
        return before, told(self.erp)

    def whole(self) -> Whole:
        """Let a restore get through, the first time that this is asked; return what it was like."""
        if self.known is None:
            before = self.change()
            with tempfile.NamedTemporaryFile() as file:
                strace = ("strace", "-f", "-qq", "-o", file.name, "-e", f"trace={SYSTEM_CALLS}")
                begin = time.monotonic()
                process = self.start("count", *self.restore, before=strace)
                said = process.communicate()
                seconds = time.monotonic() - begin
                assert 0 == process.returncode, said
                calls = _calls_of_first(Path(file.name).read_text(errors="replace").splitlines())
            self.assert_exact(*before)
            self.known = Whole(names=json.loads(said[0].splitlines()[-1]), seconds=seconds, calls=calls)
        return self.known

    def run_next(self, *arguments: str) -> Result:
        """Run a command; the session of a run that was killed may hold its locks for an instant longer."""
        results: list[Result] = []

        def ends() -> bool:
            results.append(self.erp.host.manage(*arguments, check=False))
            return results[-1].returncode != 7

        eventually(ends)
        return results[-1]

    def assert_exact(self, before: str, history: Told, said: str = "") -> None:
        """Assert all that must hold after a kill, before and after the next run."""
        content = self.erp.content
        follower = next(self.followers)
        if content != before:
            assert rows_of(self.erp.state) == rows_of(content), said
            assert [(0,)] == self.erp.sql("SELECT count(*) FROM django_session")
        result = self.run_next(*follower)
        after = told(self.erp)

        assert 0 == result.returncode, f"{said}\n{result}"
        assert_nothing_lost_or_doubled(history, after)
        own = after.restores.keys() - history.restores.keys() - {result.json().get("restore")}
        self.assert_told_right(before, content, follower, [after.restores[name][0] for name in own])
        self.assert_nothing_left(after)

    def assert_told_right(self, before: str, content: str, follower: tuple[str, ...], statuses: list[str]) -> None:
        """Assert that what the history says of the restore that was killed is so."""
        status = "".join(statuses)
        rows = rows_of(self.erp.content)

        assert status in {"", "failed", "complete"}
        assert content == before or status == "complete"
        self.outcomes.add(status)
        if follower[0] == "dbbackup":
            assert rows == rows_of(self.erp.state if status == "complete" else before)
        elif "--rollback" not in follower:
            assert rows == rows_of(self.erp.state)
        elif status == "complete":
            assert rows == rows_of(before)
        else:
            assert rows in self.seen

    def assert_nothing_left(self, after: Told) -> None:
        """Assert that there is no file, database or process that nobody knows."""
        erp = self.erp
        entry = erp.database if isinstance(erp.database, dict) else None
        archives = {name for name in os.listdir(erp.host.backups_dir) if not name.endswith(".manifest.json")}

        assert after.archives == archives
        assert set() == leftovers.in_state(erp.host.state_dir)
        assert [] == leftovers.processes_of(erp.host)
        assert leftovers.replaced(erp.host, erp.cluster, entry) <= after.kept
        if erp.cluster is not None:
            assert set() == leftovers.scratch_databases(erp.cluster)


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster
) -> Iterator[Scene]:
    """An ERP on either kind of database."""
    postgres.start()
    with made(tmp_path_factory.mktemp("erp"), request.param, postgres) as erp:
        yield Scene(erp)


class TestKills:
    """SIGKILL."""

    def test_moments_of_the_run__old_or_new_and_the_next_run_makes_it_whole(self, scene: Scene) -> None:
        """At what the reporter is told: in CI at the beginning of the phases that matter most."""
        names = scene.whole().names
        moments: list[object] = [*range(1, len(names) + 1)] if IS_FULL else [*PHASES]
        scene.outcomes.clear()
        for moment in moments:
            before = scene.change()
            process = scene.start(str(moment), str(int(signal.SIGKILL)), *scene.restore)
            said = process.communicate()
            # How many chunks there are depends on the pipe: the last numbers may be none.
            assert process.returncode == -signal.SIGKILL or isinstance(moment, int), said
            scene.assert_exact(*before, f"{moment} of {names}")

        assert {"failed", "complete"} <= scene.outcomes

    def test_at_random__old_or_new_and_the_next_run_makes_it_whole(self, scene: Scene) -> None:
        """At any time: 200 times in full."""
        chance = random.Random()
        duration = scene.whole().seconds
        for _ in range(RANDOM_KILLS):
            before = scene.change()
            process = scene.start("count", *scene.restore)
            seconds = chance.uniform(0, duration)
            time.sleep(seconds)
            process.kill()
            process.communicate()

            scene.assert_exact(*before, f"after {seconds:.3f} of {duration:.3f} s")

    def test_system_calls__old_or_new_and_the_next_run_makes_it_whole(self, scene: Scene) -> None:
        """At calls that write, rename, unlink, bring to the disk or send to the server: every one in full."""
        calls = scene.whole().calls
        numbers = range(1, calls + 1) if IS_FULL else [calls - late for late in LATE]
        for number in numbers:
            before = scene.change()
            inject = f"inject={SYSTEM_CALLS}:signal=KILL:when={number}"
            strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYSTEM_CALLS}", "-e", inject)
            said = scene.start("count", *scene.restore, before=strace).communicate()

            scene.assert_exact(*before, f"call {number} of {calls}: {said}")

    def test_rollback__is_completed_by_the_next_one_and_not_done_twice(self, scene: Scene) -> None:
        """Who sees it die runs it again: that must not take back what was just taken back."""
        before, history = scene.change()
        scene.erp.restore(scene.erp.backup)
        rollback = ("dbrestore", "--rollback", "--noinput", "--json")
        process = scene.start("switched", str(int(signal.SIGKILL)), *rollback)
        said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
        taken = scene.erp.content
        result = scene.run_next(*rollback)
        after = told(scene.erp)
        own = [after.restores[name][0] for name in after.restores.keys() - history.restores.keys()]

        assert before == taken == scene.erp.content
        assert 0 == result.returncode, str(result)
        assert result.json()["notes"]
        assert ["complete", "complete"] == own
        assert_nothing_lost_or_doubled(history, after)
        scene.assert_nothing_left(after)

    def test_tables_written__said_in_the_same_transaction(self, scene: Scene) -> None:
        """Killed right after the rows were committed: the history knows."""
        _before, history = scene.change()
        arguments = ("dbrestore", scene.erp.backup, "--tables", "users", "--noinput", "-q")
        said = scene.start("tables written", str(int(signal.SIGKILL)), *arguments).communicate()
        result = scene.run_next("dbbackup", "-q")
        after = told(scene.erp)
        own = [after.restores[name][0] for name in after.restores.keys() - history.restores.keys()]

        assert 0 == result.returncode, str(result)
        assert ["complete"] == own, said
        assert [(0,)] == scene.erp.sql("SELECT count(*) FROM users WHERE id = 2 AND NOT is_active")
        assert_nothing_lost_or_doubled(history, after)
        scene.assert_nothing_left(after)


class TestServerStops:
    """The server crashes."""

    def test_immediate_stop__old_or_new_and_the_next_run_makes_it_whole(
        self, crash_cluster: Cluster, tmp_path: Path
    ) -> None:
        """After the switch, and at any time in full; the run says that the server is away, or gets through."""
        crash_cluster.create_role("erp_owner", "secret")
        with crash_cluster.connect() as admin:
            admin.execute("GRANT pg_signal_backend TO erp_owner")
        chance = random.Random()
        with made(tmp_path, "postgresql", crash_cluster) as erp:
            scene = Scene(erp)
            duration = scene.whole().seconds if STOPS > 1 else 0
            for number in range(STOPS):
                before = scene.change()
                if number:
                    process = scene.start("count", *scene.restore)
                    time.sleep(duration * chance.uniform(0.2, 1))
                    crash_cluster.stop("immediate")
                else:
                    process = scene.start("after the switch", str(int(signal.SIGSTOP)), *scene.restore)
                    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                    crash_cluster.stop("immediate")
                    process.send_signal(signal.SIGCONT)
                said: Any = process.communicate()
                crash_cluster.start()

                assert process.returncode in ({0, 3, 20, 23} if number else {23}), said
                assert "Traceback" not in said[1], said
                scene.assert_exact(*before, str(said))
        assert "complete" in scene.outcomes
