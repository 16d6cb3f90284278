"""`dbrestore --in-place`: the live database itself, in one transaction, for servers that forbid the switch."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from tests.commands.test_restore import Erp, made
from tests.support import leftovers
from tests.support.content import rows_of
from tests.support.pg_engine import connect, eventually, run
from tests.support.postgres import Cluster

HISTORY = (
    "from erp_backup.models import *; "
    "print([(r.name, r.status, r.exit_code) for r in Restore.objects.all()], Backup.objects.count())"
)
LOGIN = (
    "from django.contrib.auth import get_user_model as m; from django.test import Client; c = Client(); "
    "c.force_login(m().objects.get(pk=1)); print(c.cookies['sessionid'].value)"
)


@pytest.fixture(scope="module")
def erp(tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[Erp]:
    """A demo on PostgreSQL whose backup has a session of somebody who was logged in."""
    with made(tmp_path_factory.mktemp("erp"), "postgresql", postgres) as made_erp:
        made_erp.run(LOGIN)
        made_erp.backup = made_erp.host.manage("dbbackup", "--json").json()["backups"][0]["id"]
        assert isinstance(made_erp.database, dict)
        run(made_erp.database, "DELETE FROM django_session")
        made_erp.state = made_erp.content
        yield made_erp


@contextlib.contextmanager
def may_not_create(cluster: Cluster) -> Iterator[None]:
    """A server that lets us create no database."""
    with cluster.connect() as admin:
        admin.execute("ALTER ROLE erp_owner NOCREATEDB")
        try:
            yield
        finally:
            admin.execute("ALTER ROLE erp_owner CREATEDB")


def add_newer_table(erp: Erp) -> None:
    """A later release's table, which refers to a restored one."""
    assert isinstance(erp.database, dict)
    run(erp.database, "CREATE TABLE newer (id int PRIMARY KEY, user_id bigint REFERENCES users)")


def sessions(erp: Erp) -> int:
    """How many there are in the live database."""
    assert isinstance(erp.database, dict)
    with connect(erp.database) as connection:
        row = connection.execute("SELECT count(*) FROM django_session").fetchone()
    assert row is not None
    return int(row[0])


def test_restored__verified_beside_first_and_the_history_is_complete(erp: Erp) -> None:
    """Rows and definitions as in the backup, a newer table gone, sessions ended, who came back is named."""
    erp.change()
    add_newer_table(erp)
    databases = erp.cluster and erp.cluster.databases()
    plan = erp.host.manage("dbrestore", erp.backup, "--in-place", "--dry-run")
    assert "Drops table public.newer, which the backup does not have." in plan.stdout
    assert "everybody waits while that runs" in plan.stdout

    done = erp.restore(erp.backup, "--in-place", "--json").json()

    assert ("in place", 0, "passed", []) == (done["target"], done["exit_code"], done["outcome"], done["differences"])
    assert rows_of(erp.state) == rows_of(erp.content)
    assert "newer" not in erp.content
    assert 0 == sessions(erp)
    assert done["report"]["sessions"]["ended"] >= 1
    assert ["staff.2@example.com"] == done["report"]["revived"]["reactivated"]["first"]
    assert databases == (erp.cluster and erp.cluster.databases())
    history = erp.run(HISTORY)
    assert f"('{done['restore']}', 'complete', 0)" in history
    assert done["safety_backup"] in leftovers.backups(erp.host)
    erp.assert_nothing_left()


def test_no_database_may_be_created__read_before_and_compared_after(erp: Erp, postgres: Cluster) -> None:
    """All there is is said: it was not verified beside, and who came back was not compared."""
    erp.change()
    with may_not_create(postgres):
        refused = erp.restore(erp.backup, check=False)
        result = erp.restore(erp.backup, "--in-place")

    assert 9 == refused.returncode
    assert rows_of(erp.state) == rows_of(erp.content)
    assert "was restored into" in result.stdout
    assert "only read, not restored beside" in result.stdout
    assert "was not compared" in result.stdout


def test_without_a_safety_backup__refused(erp: Erp) -> None:
    """There would be no way back."""
    before = erp.content
    refused = erp.restore(erp.backup, "--in-place", "--no-safety-backup", check=False)

    assert 9 == refused.returncode
    assert before == erp.content


def test_killed_in_the_middle__old_state_and_the_next_run_says_so(erp: Erp) -> None:
    """A reader keeps it waiting inside its transaction when it is killed."""
    assert isinstance(erp.database, dict)
    erp.change()
    before = erp.content
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%erp_backup$%'"
    anybody = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connect(erp.database) as reader, connect(erp.database) as watcher:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM users")
        process = erp.host.popen("dbrestore", "--noinput", erp.backup, "--in-place")
        assert eventually(lambda: watcher.execute(waiting).fetchone() == (1,), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reader.execute("ROLLBACK")
        assert eventually(lambda: watcher.execute(anybody).fetchone() == (1,))

    assert before == erp.content

    erp.restore(erp.backup, "--in-place")

    assert rows_of(erp.state) == rows_of(erp.content)
    assert "'failed', 1)" in erp.run(HISTORY)
    erp.assert_nothing_left()


def test_sqlite__is_the_switch(tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> None:
    """It is in place already: the plan is that of --switch."""
    with made(tmp_path_factory.mktemp("erp"), "sqlite", postgres) as lite:
        planned = lite.host.manage("dbrestore", "--in-place", "--dry-run", "--json").json()

        assert "switch" == planned["target"]
