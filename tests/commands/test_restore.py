"""`dbrestore`, as people use it: what it does, what it refuses, and that a failure leaves the live database alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.content import content_of, rows_of
from tests.support.host import REPOSITORY, Host
from tests.support.postgres import Cluster, temporary_database
from tests.support.restoring import Erp, made
from tests.support.tiers import some

USERS = "from django.contrib.auth import get_user_model as m; U = m(); "


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster
) -> Iterator[Erp]:
    """A demo with one backup, for all tests that restore it or leave it as it was."""
    with made(tmp_path_factory.mktemp("erp"), request.param, postgres) as erp:
        yield erp


@pytest.fixture
def erp(shared: Erp) -> Erp:
    """The shared demo, changed since its backup."""
    shared.change()
    return shared


@pytest.fixture(params=["postgresql", "sqlite"])
def own(request: pytest.FixtureRequest, tmp_path: Path, postgres: Cluster) -> Iterator[Erp]:
    """A demo of the test's own."""
    with made(tmp_path, request.param, postgres) as erp:
        erp.change()
        yield erp


class TestSwitch:
    """The default."""

    def test_restored__is_the_state_of_the_backup_and_back_again(self, erp: Erp) -> None:
        """Rows, definitions, history; then all of it is taken back."""
        before = erp.content
        done = erp.restore(erp.backup, "--json").json()

        assert rows_of(erp.state) == rows_of(erp.content)
        assert (erp.backup, "switch", 0, "passed") == (
            done["backup"],
            done["target"],
            done["exit_code"],
            done["outcome"],
        )
        assert "staff.2@example.com" in done["report"]["revived"]["reactivated"]["first"]
        assert done["safety_backup"] in leftovers.backups(erp.host)
        history = "from erp_backup.models import *; print([(r.name, r.status) for r in Restore.objects.all()])"
        assert f"('{done['restore']}', 'complete')" in erp.run(history)
        erp.assert_nothing_left()

        back = erp.restore("--rollback", "--json").json()

        assert before == erp.content
        noted = erp.run(history)
        assert all(f"('{name}', 'complete')" in noted for name in (done["restore"], back["restore"]))

    def test_sessions_of_the_restored_state__are_ended(self, erp: Erp) -> None:
        """Who was logged in when the backup was taken is not logged in after it comes back."""
        login = (
            USERS + "from django.test import Client; c = Client(); c.force_login(U.objects.get(pk=1)); "
            "print(c.cookies['sessionid'].value)"
        )
        cookie = erp.run(login).splitlines()[-1]
        erp.host.manage("dbbackup", "-q")
        ask = (
            f"from django.test import Client; c = Client(); c.cookies['sessionid'] = '{cookie}'; "
            "print(c.get('/admin/', headers={'host': 'localhost'}).status_code)"
        )
        assert "200" == erp.run(ask).splitlines()[-1]

        result = erp.restore()

        assert "302" == erp.run(ask).splitlines()[-1]
        assert "restored sessions were ended" in result.stdout

    def test_dry_run__changes_nothing(self, erp: Erp) -> None:
        """The plan in words, in order; nothing is written, not even to the history."""
        count = "from erp_backup.models import *; print(Restore.objects.count())"
        before, restores = erp.content, erp.run(count)
        result = erp.host.manage("dbrestore", "--dry-run")

        assert "Nothing was changed." in result.stdout
        assert result.stdout.index("back up the live") < result.stdout.index("switch, in one atomic step")
        assert before == erp.content
        assert restores == erp.run(count)


class TestOtherTargets:
    """Beside the live database, for good."""

    def test_into__stays_and_the_live_one_is_as_it_was(self, erp: Erp) -> None:
        """The runbook's `sme_erp_restored`."""
        before = erp.content
        name = f"restored_{erp.name}"
        result = erp.restore(erp.backup, "--into", name)
        where = {**erp.database, "NAME": name} if isinstance(erp.database, dict) else erp.database.with_name(name)
        try:
            assert before == erp.content
            assert rows_of(erp.state) == rows_of(content_of(where, erp.cluster))
            assert name in result.stdout.splitlines()[-1]
            again = erp.restore("--into", name, check=False)
            assert 9 == again.returncode
            erp.assert_nothing_left()
        finally:
            if erp.cluster is not None:
                erp.cluster.drop_database(name)


class TestTables:
    """Only some of the live database's tables: the runbook's partial restore."""

    def test_users_and_items__are_as_they_were_and_the_next_row_gets_a_free_key(self, erp: Erp) -> None:
        """Nothing else has changed, and nothing that refers to them is lost."""
        erp.run(USERS + "from project.erp.models import Item; Item.objects.update(name='gone')")
        result = erp.restore(erp.backup, "--tables", "users,items", "--json").json()

        assert rows_of(erp.state) == rows_of(erp.content)
        assert {"users", "items"} == {name.rpartition(".")[2] for name in result["report"]["tables"]}
        made = "u = U.objects.create(email='next@example.com'); print(u.pk > 5); u.delete()"
        assert "True" == erp.run(USERS + made).splitlines()[-1]
        erp.assert_nothing_left()

    def test_rows_that_others_refer_to__refused_with_the_list(self, erp: Erp) -> None:
        """A user who is newer than the backup has written something since."""
        before_all = erp.content
        newer = (
            USERS
            + "from django.contrib.admin.models import LogEntry as L; u = U.objects.create(email='newer@example.com'); "
            "L.objects.create(user=u, object_repr='x', action_flag=1)"
        )
        erp.run(newer)
        before = erp.content
        result = erp.restore(erp.backup, "--tables", "users", check=False)

        assert 9 == result.returncode, str(result)
        assert "django_admin_log" in result.stderr
        assert before == erp.content != before_all
        erp.run(USERS + "from django.contrib.admin.models import LogEntry as L; L.objects.all().delete(); "
            "U.objects.filter(email='newer@example.com').delete()")  # fmt: skip


class TestSuperuser:
    """A restore runs what the archive holds, with the rights of who restores."""

    def test_superuser__refused_unless_told_why(self, tmp_path: Path, postgres: Cluster) -> None:
        """The reason is in the history."""
        with temporary_database(postgres, owner="postgres") as entry:
            host = Host(tmp_path / "host", databases={"default": entry})
            host.migrate()
            host.manage("dbbackup", "-q")

            refused = host.manage("dbrestore", "--noinput", check=False)
            assert (9, True) == (refused.returncode, "--as-superuser" in refused.stderr)

            host.manage("dbrestore", "--noinput", "--as-superuser", "there is no other user yet")
            said = "from erp_backup.models import Event; print(Event.objects.get(kind='risk taken').message)"
            assert "there is no other user yet" in host.manage("shell", "--no-imports", "-c", said).stdout
            for kept in host.manage("dbrestore", "--replaced", "--json").json()["replaced"]:
                postgres.drop_database(kept["name"])


@pytest.mark.parametrize("shared", some(["sqlite", "postgresql"], 2), indirect=True)
class TestAsking:
    """Enter is no."""

    @pytest.mark.parametrize("answer", ["", "y", "wrong"])
    def test_anything_but_the_name__nothing_happens(self, erp: Erp, answer: str) -> None:
        """At a real terminal."""
        before = erp.content
        code, said = at_a_terminal(erp.host, ["dbrestore"], answer)

        assert 9 == code
        assert "Nothing was done" in said
        assert before == erp.content

    def test_the_name__goes_on(self, erp: Erp) -> None:
        """As it is called at the server, or as the file is called."""
        code, said = at_a_terminal(erp.host, ["dbrestore", erp.backup], erp.name)

        assert 0 == code, said
        assert rows_of(erp.state) == rows_of(erp.content)

    def test_no_terminal__refused(self, erp: Erp) -> None:
        """A script says --noinput."""
        before = erp.content
        result = erp.host.manage("dbrestore", check=False, input=f"{erp.name}\n")

        assert 9 == result.returncode
        assert "--noinput" in result.stderr
        assert before == erp.content


def at_a_terminal(host: Host, arguments: list[str], answer: str) -> tuple[int, str]:
    """Run a command at a terminal of its own and give one answer; return its exit code and what was on the screen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=REPOSITORY,
        env={**host.environment, "PYTHONPATH": str(host.folder)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    screen = bytearray()
    try:
        while chunk := os.read(ours, 65536):
            screen += chunk
    except OSError:  # the terminal's other side is closed
        pass
    finally:
        os.close(ours)
    return process.wait(60), screen.decode(errors="replace")


class TestFailures:
    """Before the switch: each with its own code, the live database as it was, nothing left."""

    def test_damaged_archive__exit_5(self, erp: Erp) -> None:
        """One byte of it."""
        path = erp.host.backups_dir / leftovers.backups(erp.host)[erp.backup]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 1
        path.write_bytes(damaged)
        try:
            erp.assert_refused(5, path.name, erp.backup)
        finally:
            path.write_bytes(whole)

    def test_no_backup_before_that_time__exit_4(self, erp: Erp) -> None:
        """Nor is a newer one taken instead."""
        erp.assert_refused(4, "no good full backup", "--before", "2001-01-01")

    def test_unknown_backup__exit_4(self, erp: Erp) -> None:
        """A name that does not exist."""
        erp.assert_refused(4, "nosuch", "nosuch")

    def test_no_space__exit_31(self, erp: Erp, tmp_path: Path) -> None:
        """A state folder on a disk that is too small."""
        small = tmp_path / "small"
        small.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k,mode=0700", "tmpfs", small], check=True)
        try:
            for path in erp.host.state_dir.glob("*.*"):
                (small / path.name).write_bytes(path.read_bytes())
                (small / path.name).chmod(0o600)
            erp.assert_refused(31, "small", env={"ERP_BACKUP_STATE_DIR": str(small)})
        finally:
            subprocess.run(["umount", small], check=True)

    def test_two_targets__exit_2(self, erp: Erp) -> None:
        """It goes to one place."""
        erp.assert_refused(2, "one place", "--switch", "--into", "other")

    def test_passphrase_on_the_command_line__refused(self, erp: Erp) -> None:
        """And not repeated."""
        erp.assert_refused(9, "can be read by every user", "--passphrase", "hunter2")


class TestSchemas:
    """Backups of other releases."""

    def test_older__refused_then_migrated(self, own: Erp, tmp_path: Path) -> None:
        """The release of today has one migration more."""
        before = own.content
        newer = newer_release(tmp_path, "migrations.AddField('item', 'shade', models.IntegerField(null=True))")
        refused = own.restore(check=False, env=newer)

        assert 9 == refused.returncode
        assert "--migrate" in refused.stderr
        assert before == own.content

        done = own.restore("--migrate", env=newer)

        assert "9999_newer" in own.run(APPLIED, newer)
        assert "is live" in done.stdout
        assert "shade" in own.content

    def test_failing_migration__live_one_as_it_was(self, own: Erp, tmp_path: Path) -> None:
        """It fails on the copy."""
        before = own.content
        failing = newer_release(tmp_path, "migrations.RunSQL('SELECT nonsense FROM nowhere')")
        result = own.restore("--migrate", check=False, env=failing)

        assert 20 == result.returncode, str(result)
        assert "nowhere" in result.stderr
        assert before == own.content
        own.assert_nothing_left()

    def test_newer__refused(self, own: Erp, tmp_path: Path) -> None:
        """A backup that a later release has made."""
        newer = newer_release(tmp_path, "migrations.RunPython(migrations.RunPython.noop)")
        own.host.manage("migrate", "-v0", env=newer)
        own.host.manage("dbbackup", "-q", env=newer)
        before = own.content
        result = own.restore("--migrate", check=False)

        assert 22 == result.returncode, str(result)
        assert "9999_newer" in result.stderr
        assert before == own.content


APPLIED = (
    "from django.db.migrations.recorder import MigrationRecorder as m; "
    "print(list(m.Migration.objects.values_list('name', flat=True)))"
)


def newer_release(folder: Path, operation: str) -> dict[str, str]:
    """Return the environment of a release of the demo that has one migration more."""
    package = folder / "release" / "newer_migrations"
    package.mkdir(parents=True)
    ours = REPOSITORY / "project" / "erp" / "migrations"
    for path in ours.glob("0*.py"):
        (package / path.name).write_text(path.read_text())
    last = max(path.stem for path in ours.glob("0*.py"))
    (package / "__init__.py").write_text("")
    (package / "9999_newer.py").write_text(
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('erp', '{last}')]\n    operations = [{operation}]\n"
    )
    return {"NEWER_RELEASE": str(package.parent)}


@pytest.mark.parametrize("shared", some(["sqlite", "postgresql"], 2), indirect=True)
def test_json__is_one_document(erp: Erp) -> None:
    """Also of an error."""
    result = erp.restore("nosuch", "--json", check=False)

    assert "error" == json.loads(result.stdout)["outcome"]
