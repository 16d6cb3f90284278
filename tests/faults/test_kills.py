"""A backup that is killed, at any moment: no backup or a whole one, and nothing of it after the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import leftovers
from tests.support.host import REPOSITORY, Host
from tests.support.postgres import Cluster, temporary_database
from tests.support.tiers import IS_FULL

# All moments in `make faults`; in CI every fifth one, others for each of the two signals.
EVERY = 1 if IS_FULL else 5
SYSTEM_CALLS = "fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,ftruncate"


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def killed_host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster
) -> Iterator[Host]:
    """A demo with one good backup, on either kind of database."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        databases = {"default": entry} if request.param == "postgresql" else None
        host = Host(tmp_path_factory.mktemp("killed"), databases=databases)
        host.migrate()
        host.seed(transactions=300)
        host.manage("dbbackup", "-q")
        yield host
        host.close()


def run(host: Host, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the backup that dies."""
    return subprocess.run(
        [*before, sys.executable, "-m", "tests.support.crashing", *arguments],
        cwd=REPOSITORY,
        env={**host.environment, "PYTHONPATH": f"{host.folder}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_none_or_whole(host: Host, cluster: Cluster, before: dict[str, str]) -> None:
    """Assert that what any command finds is whole, and that the next run leaves nothing else behind."""
    added = leftovers.backups(host).keys() - before.keys()

    assert len(added) <= 1
    for name in added:
        host.manage("verifybackup", name, "-q")
    host.manage("dbbackup", "-q")
    leftovers.assert_nothing_left(host, cluster)


class TestKills:
    """Signals at every moment that the reporter hears of."""

    @pytest.mark.parametrize(("number", "offset"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
    def test_any_moment__no_backup_or_a_whole_one(
        self, killed_host: Host, postgres: Cluster, number: signal.Signals, offset: int
    ) -> None:
        """Each moment is tried; the exit code is the signal's until the backup exists."""
        moments = int(run(killed_host, "count").stdout)

        assert moments >= 6
        for moment in range(offset if EVERY > 1 else 1, moments + 1, EVERY):
            before = leftovers.backups(killed_host)
            died = run(killed_host, str(moment), str(int(number)))
            if died.returncode == 0 and int(died.stdout) < moment:
                break  # how many chunks a dump has depends on the pipe: this run had fewer moments

            assert died.returncode == (-number if number is signal.SIGKILL else 128 + number), died.stderr
            assert_none_or_whole(killed_host, postgres, before)

    def test_sigterm__leaves_nothing_at_once(self, killed_host: Host, postgres: Cluster) -> None:
        """A signal that can be caught is cleaned up after by the run itself, not only by the next one."""
        died = run(killed_host, "4", str(int(signal.SIGTERM)))

        assert 143 == died.returncode
        leftovers.assert_nothing_left(killed_host, postgres)

    def test_every_system_call_that_changes_files__no_backup_or_a_whole_one(
        self, killed_host: Host, postgres: Cluster
    ) -> None:
        """SIGKILL at the N-th such call, by strace, until a run gets through."""
        step = 1 if EVERY == 1 else 13
        for number in range(1, 400, step):
            before = leftovers.backups(killed_host)
            inject = f"inject={SYSTEM_CALLS}:signal=KILL:when={number}"
            trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYSTEM_CALLS}", "-e", inject)
            died = run(killed_host, "count", before=trace)
            assert_none_or_whole(killed_host, postgres, before)
            if died.returncode == 0:
                break
        else:
            pytest.fail("No run ever got through.")

        assert number > 1
