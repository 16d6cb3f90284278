"""The tests' own ground: clusters and host projects do what fixtures promise, and leave nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage
import psycopg
import pytest

from project.database_url import parse_database_url
from tests.support.host import REPOSITORY, CommandFailedError, Host, write_host_project
from tests.support.machine import BIN_DIR_VARIABLE, find_bin_dir
from tests.support.postgres import Cluster

OWNED_BY_A_DYING_PROCESS = """
import signal, sys
from tests.support.postgres import Cluster
cluster = Cluster()
print(cluster.pid, cluster.folder, flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of these tests' own, which they stop and start."""
    with Cluster() as cluster:
        yield cluster


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return whether `condition` came true before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def exists(pid: int) -> bool:
    """Return whether a process with this id runs; one that ended but was not waited for does not."""
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


class TestCluster:
    """A cluster is a real server that nobody else shares."""

    def test_new_cluster__answers_with_the_parameters_that_tests_rely_on(self, cluster: Cluster) -> None:
        """A new cluster takes a hundred sessions, decodes its log, stores UTF-8 and is not durable."""
        cluster.start()
        names = ["max_connections", "wal_level", "server_encoding", "fsync", "password_encryption"]
        with cluster.connect() as connection:
            found = [connection.execute(f"SHOW {name}").fetchone() for name in names]

        assert [("100",), ("logical",), ("UTF8",), ("off",), ("scram-sha-256",)] == found

    def test_crash_cluster__is_durable(self, crash_cluster: Cluster) -> None:
        """A commit survives a server that ends without any clean-up, on the same port."""
        port = crash_cluster.port
        with crash_cluster.connect() as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")

        crash_cluster.stop("immediate")
        stopped = crash_cluster.is_running
        crash_cluster.start()

        with crash_cluster.connect() as connection:
            assert (1,) == connection.execute("SELECT n FROM kept").fetchone()
            assert ("on",) == connection.execute("SHOW fsync").fetchone()
        assert not stopped
        assert port == crash_cluster.port

    def test_wrong_password__is_refused_over_tcp_and_socket(self, cluster: Cluster) -> None:
        """No way in is trusted: forgetting the password is an error that tests see."""
        cluster.start()
        for host in (cluster.host, str(cluster.socket_dir)):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(host=host, port=cluster.port, user="postgres", password="wrong", dbname="postgres")

    def test_odd_names__come_back_from_url_and_entry(self, cluster: Cluster) -> None:
        """Role, password and database with every odd character connect through the URL, read as the demo reads it."""
        cluster.start()
        name, role, password = "sme erp's?db/ü", "o:w@n/er", "p%40:/?#&='ß"
        cluster.create_role(role, password)
        entry = cluster.create_database(name, owner=role)
        parsed = parse_database_url(cluster.url(name, role), base_dir=Path("/"))

        with cluster.connect(parsed["NAME"], user=parsed["USER"]) as connection:
            found = connection.execute("SELECT current_database(), current_user").fetchone()

        assert (name, role) == found
        assert entry == {key: parsed[key] for key in entry}
        assert name in cluster.databases()

    def test_options__reach_create_database(self, cluster: Cluster) -> None:
        """Encoding, locale and connection limit can be chosen for tests of ugly sources."""
        cluster.start()
        cluster.create_database("latin", encoding="LATIN1", locale="C", template="template0", connection_limit=3)
        statement = """
            SELECT pg_encoding_to_char(encoding), datcollate, datconnlimit FROM pg_database WHERE datname = 'latin'
            """
        with cluster.connect() as connection:
            found = connection.execute(statement).fetchone()

        assert ("LATIN1", "C", 3) == found

    def test_ordinary_role__may_create_databases_but_is_no_superuser(self, cluster: Cluster) -> None:
        """A role has the rights that an ERP's role has."""
        cluster.start()
        cluster.create_role("plain", "secret")
        with cluster.connect() as connection:
            found = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'plain'").fetchone()

        assert (False, True) == found

    def test_two_clusters__do_not_meet(self, cluster: Cluster) -> None:
        """Parallel workers have servers, ports and folders of their own."""
        cluster.start()
        with Cluster() as other:
            other.create_database("elsewhere")

            assert "elsewhere" not in cluster.databases()
            assert "elsewhere" in other.databases()

    def test_taken_port__another_is_used(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """A port that somebody took between choosing and listening is not the end."""
        cluster.start()
        ports = iter([cluster.port, *range(cluster.port + 1, cluster.port + 20)])
        monkeypatch.setattr("tests.support.postgres.free_port", lambda: next(ports))

        with Cluster() as other:
            assert other.is_running
            assert cluster.port != other.port

    def test_closed__leaves_no_process_and_no_folder(self) -> None:
        """At the end there is nothing to clean up by hand."""
        with Cluster() as closed:
            pid = closed.pid

        assert not exists(pid)
        assert not closed.folder.exists()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_owner_dies__server_and_folder_go_too(self, number: signal.Signals) -> None:
        """A killed test run leaves no server behind, whatever killed it."""
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNED_BY_A_DYING_PROCESS],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with owner:
            assert owner.stdout is not None
            pid, folder = owner.stdout.readline().split()
            lived = exists(int(pid))
            owner.send_signal(number)

        assert lived
        assert within(20, lambda: not exists(int(pid)) and not Path(folder).exists())

    def test_missing_server__fails_and_names_the_way_out(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without PostgreSQL a test fails; it is not skipped."""
        monkeypatch.setenv(BIN_DIR_VARIABLE, str(tmp_path))

        with pytest.raises(pytest.fail.Exception, match="tools/system-packages"):
            find_bin_dir()

    def test_failing_start__fails_with_the_log(self) -> None:
        """A server that does not start says why, and nothing of it stays."""
        with pytest.raises(pytest.fail.Exception, match="no_such_library"):
            Cluster(shared_preload_libraries="no_such_library")

    def test_password__is_not_in_its_repr(self, cluster: Cluster) -> None:
        """A failing test prints its cluster, not its cluster's password."""
        assert cluster.password not in repr(cluster)


class TestDatabaseFixture:
    """`pg_database` is an empty database of an ordinary role."""

    def test_entry__is_an_empty_database_of_an_ordinary_role(
        self, postgres: Cluster, pg_database: dict[str, Any]
    ) -> None:
        """The entry connects, owns its database, and is no superuser."""
        statement = "SELECT usesuper, pg_get_userbyid(datdba) FROM pg_user, pg_database"
        statement += " WHERE usename = current_user AND datname = current_database()"
        with postgres.connect(pg_database["NAME"], user=pg_database["USER"]) as connection:
            found = connection.execute(statement).fetchone()
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

        assert (False, pg_database["USER"]) == found
        assert (0,) == tables


class TestHost:
    """A host project is run as users run it."""

    def test_environment__holds_nothing_of_ours(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """A developer's own connection variables do not reach a host project."""
        monkeypatch.setenv("PGHOST", "production.example")
        monkeypatch.setenv("DATABASE_URL", "postgresql://production.example/erp")
        code = "import os, json; print(json.dumps(dict(os.environ)))"

        found = host.manage("shell", "--no-imports", "-c", code).json()

        assert "PGHOST" not in found
        assert str(host.database_file) in found["DATABASE_URL"]
        assert str(host.state_dir) == found["ERP_BACKUP_STATE_DIR"]

    def test_demo_on_sqlite__migrates_into_its_own_file(self, host: Host) -> None:
        """The demo's tables are made in the host's own file, not in the tree."""
        host.migrate()

        assert host.database_file.stat().st_size > 0

    def test_demo_on_postgresql__migrates_into_its_own_database(
        self, pg_host: Host, postgres: Cluster, pg_database: dict[str, Any]
    ) -> None:
        """The demo's tables are made in the fresh database."""
        pg_host.migrate()

        with postgres.connect(pg_database["NAME"]) as connection:
            assert (True,) == connection.execute("SELECT to_regclass('django_migrations') IS NOT NULL").fetchone()

    def test_extra_settings__end_the_settings_module(self, tmp_path: Path) -> None:
        """A test changes any setting with a line of Python."""
        host = Host(tmp_path, extra_settings="LANGUAGE_CODE = 'eo'")

        found = host.manage(
            "shell", "--no-imports", "-c", "from django.conf import settings; print(settings.LANGUAGE_CODE)"
        )

        assert "eo\n" == found.stdout

    def test_failing_command__raises_with_all_it_wrote(self, host: Host) -> None:
        """A command that fails unexpectedly fails the test and shows its standard error."""
        with pytest.raises(CommandFailedError, match="no_such_command") as raised:
            host.manage("no_such_command")

        assert 1 == raised.value.result.returncode

    def test_expected_failure__is_returned(self, host: Host) -> None:
        """With check off, the exit code is the test's business."""
        result = host.manage("shell", "--no-imports", "-c", "raise SystemExit(6)", check=False)

        assert 6 == result.returncode

    def test_hanging_command__is_killed_and_raises(self, host: Host) -> None:
        """A command that waits for ever costs its time limit and not the test run."""
        with pytest.raises(CommandFailedError, match="Not ended in 2 s"):
            host.manage("shell", "--no-imports", "-c", "import signal; signal.pause()", timeout=2)

    def test_input__reaches_the_command(self, host: Host) -> None:
        """What a test types is what the command reads."""
        result = host.manage("shell", "--no-imports", "-c", "print(input())", input="erp\n")

        assert "erp" in result.stdout

    def test_left_running__close_ends_it_and_its_children(self, host: Host) -> None:
        """A process that a test forgot is gone with its children when the fixture closes."""
        code = "import subprocess; print(subprocess.Popen(['sleep', '300']).pid, flush=True); input()"
        process = host.popen("shell", "--no-imports", "-c", code, stdin=subprocess.PIPE)
        assert process.stdout is not None
        child = int(process.stdout.readline())

        host.close()

        assert -signal.SIGKILL == process.returncode
        assert within(10, lambda: not exists(child))


class TestForeignProject:
    """A project with nothing of the demo's runs our two apps."""

    def test_foreign_project__migrates_and_passes_its_checks(self, tmp_path: Path) -> None:
        """The written project is whole: its tables are made and no migration is missing."""
        host = write_host_project(tmp_path)
        host.migrate()

        host.manage("check")
        host.manage("makemigrations", "--check", "--dry-run", "shop")
        code = "from shop.models import Product; print(Product.objects.count())"
        assert "0\n" == host.manage("shell", "--no-imports", "-c", code).stdout

    def test_foreign_project__knows_nothing_of_the_demo(self, tmp_path: Path) -> None:
        """None of the demo's modules is imported."""
        host = write_host_project(tmp_path)
        code = "import sys; print([name for name in sys.modules if name.split('.')[0] == 'project'])"

        assert "[]\n" == host.manage("shell", "--no-imports", "-c", code).stdout

    def test_settings__are_private(self, tmp_path: Path, pg_database: dict[str, Any]) -> None:
        """A settings module with a database's password is for its owner only."""
        host = write_host_project(tmp_path, databases={"default": pg_database})
        host.migrate()

        assert 0o600 == (tmp_path / "site" / "hostsite" / "settings.py").stat().st_mode & 0o777


class TestCoverage:
    """Lines that only a subprocess runs count as covered."""

    def test_host_command__its_lines_are_measured(self, tmp_path: Path) -> None:
        """What a host project's command imports is in the data of the run that started it."""
        script = tmp_path / "script.py"
        script.write_text(
            "import sys; from pathlib import Path; from tests.support.host import Host\n"
            "Host(Path(sys.argv[1])).manage('shell', '--no-imports', '-c', 'import erp_backup.core.names')\n"
        )
        data_file = tmp_path / "coverage"
        command = [sys.executable, "-m", "coverage", "run", "--rcfile=pyproject.toml", f"--data-file={data_file}"]
        subprocess.run(
            [*command, str(script), str(tmp_path / "host")],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
            check=True,
        )

        measured = coverage.Coverage(data_file=str(data_file), config_file=str(REPOSITORY / "pyproject.toml"))
        measured.combine([str(tmp_path)])
        lines = measured.get_data().lines(str(REPOSITORY / "erp_backup" / "core" / "names.py"))
        measured.get_data().close()

        # Files of the package that nobody imported are listed too, without lines.
        assert lines
