"""The ERP in a process of its own: its functions and its health page, on a copy, and nothing else within reach."""

from __future__ import annotations

import os
import socket
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from erp_backup import model_check
from erp_backup.core.clock import SystemClock
from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.core.process import ProcessRunner
from erp_backup.exceptions import ConfigurationError
from erp_backup.modelchecks.isolated import ProbeAnswer, measure_isolated, probe
from erp_backup.modelchecks.jobs import plain
from erp_backup.modelchecks.registry import Registry
from project.erp.models import Item, Warehouse
from tests.modelchecks import host_functions
from tests.modelchecks.erp import NOW, Erp


@dataclass(frozen=True, kw_only=True)
class Database:
    """What an engine says of a snapshot or a copy."""

    settings: dict[str, Any]
    initial_sql: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Isolated:
    """Runs functions of the ERP in a process of its own."""

    registry: Registry
    settings_module: str = "project.settings"
    runner: ProcessRunner = field(default_factory=lambda: ProcessRunner(SystemClock()))

    def measure(
        self, erp: Erp, *functions: Callable[..., Any], initial_sql: tuple[str, ...] = (), **options: Any
    ) -> dict[str, Measurement]:
        """Return the measurements by the functions' names."""
        for function in functions:
            model_check(function.__name__, time_limit=options.pop("check_limit", None))(function)
        measured = measure_isolated(
            self.runner,
            Database(settings=erp.settings, initial_sql=initial_sql),
            tuple(self.registry),
            alias="default",
            now=NOW,
            settings_module=self.settings_module,
            **options,
        )
        return {measurement.check: measurement for measurement in measured}

    def probe(self, erp: Erp, url: str, **options: Any) -> ProbeAnswer:
        """Ask the ERP's health page."""
        database = Database(settings=erp.settings)
        names: dict[str, Any] = {"alias": "default", "now": NOW, "settings_module": self.settings_module}
        return probe(self.runner, database, url, **names, **options)


@pytest.fixture
def isolated(registered: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Isolated:
    """Isolated processes of the demo, whose own settings name a database that does not exist."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'nowhere' / 'live.db'}")
    return Isolated(registry=registered)


@pytest.fixture
def host_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Isolated) -> Callable[[str], None]:
    """Give the ERP settings of the test's own, which end with these lines."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(lines: str) -> None:
        text = "from project.settings import *\n" + textwrap.dedent(lines)
        (tmp_path / "settings_of_test.py").write_text(text)
        isolated.settings_module = "settings_of_test"

    return write


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Another machine, as it were; its port is told to the ERP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("ERP_TEST_PORT", str(server.getsockname()[1]))
        yield server


class TestMeasuring:
    """`measure_isolated`."""

    def test_functions_without_using__read_the_copy(self, isolated: Isolated, erp: Erp) -> None:
        """The ERP's default database is the copy; what it prints disturbs nothing; one failure is one result."""
        bad = erp.item("bad", on_hand="-1")
        functions = host_functions.count_items, host_functions.negative_stock, host_functions.stock

        measured = isolated.measure(erp, host_functions.raises, *functions)

        assert "1" == measured["count_items"].value
        assert {str(bad.pk): "SKU-1 bad"} == measured["negative_stock"].rows
        assert MeasurementKind.INVARIANT is measured["negative_stock"].kind
        assert {"bad": "2026"} == measured["stock"].rows
        assert "ValueError: it is broken" == measured["raises"].error

    def test_function_that_takes_too_long__ends_and_the_others_run(self, isolated: Isolated, erp: Erp) -> None:
        """Each has its limit inside the one process."""
        measured = isolated.measure(erp, host_functions.sleeps, host_functions.count_items, check_limit=0.3)

        assert (True, "") == (measured["sleeps"].timed_out, measured["sleeps"].value)
        assert "0" == measured["count_items"].value

    def test_process_that_dies__is_the_error_of_each(self, isolated: Isolated, erp: Erp) -> None:
        """Nothing is left without a result."""
        measured = isolated.measure(erp, host_functions.count_items, host_functions.ends_the_process)

        assert all("ended with status 7" in measurement.error for measurement in measured.values())
        assert ["count_items", "ends_the_process"] == list(measured)

    def test_process_that_does_not_start__says_why(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """An ERP that cannot start here is named as such."""
        host_settings("raise RuntimeError('no licence')")

        [measured] = isolated.measure(erp, host_functions.count_items).values()

        assert "The ERP did not start in a process of its own: RuntimeError: no licence" == measured.error

    def test_process_that_never_starts__is_killed(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """The start has a limit of its own."""
        host_settings("import time; time.sleep(600)")

        [measured] = isolated.measure(erp, host_functions.count_items, start_limit=1.0, time_limit=1.0).values()

        assert measured.timed_out
        assert "was stopped" in measured.error

    def test_function_that_cannot_be_imported__says_so(self, isolated: Isolated, erp: Erp) -> None:
        """A function inside a function has no name for another process."""

        def local() -> int:
            return 1

        [measured] = isolated.measure(erp, local).values()

        assert "another process cannot import" in measured.error


class TestSandbox:
    """What an isolated process cannot reach."""

    @pytest.mark.parametrize(
        "function",
        [
            host_functions.connects,
            host_functions.connects_by_hand,
            host_functions.sends_a_datagram,
            host_functions.connects_to_a_socket_file,
            host_functions.looks_up,
        ],
    )
    def test_network__is_refused(
        self, isolated: Isolated, erp: Erp, listener: socket.socket, function: Callable[[], int]
    ) -> None:
        """Neither this machine nor another is reached."""
        [measured] = isolated.measure(erp, function).values()

        assert measured.error.startswith("NetworkRefusedError: The network is refused")
        with pytest.raises(BlockingIOError):
            listener.accept()

    def test_start_of_the_erp__reaches_nothing_either(
        self, isolated: Isolated, erp: Erp, listener: socket.socket, host_settings: Callable[[str], None]
    ) -> None:
        """The refusal holds from the first line of the settings."""
        host_settings("""
            import os, socket
            try:
                socket.create_connection(("127.0.0.1", int(os.environ["ERP_TEST_PORT"])))
            except OSError:
                pass
        """)

        [measured] = isolated.measure(erp, host_functions.count_items).values()

        assert ("0", "") == (measured.value, measured.error)
        with pytest.raises(BlockingIOError):
            listener.accept()

    def test_mail_and_cache__go_nowhere(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """Mails are dropped, caches are the process's own."""
        host_settings("""
            MANAGERS = ["boss@example.org"] if DEBUG is None else [("Boss", "boss@example.org")]
            EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
            CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://r"}}
        """)

        measured = isolated.measure(erp, host_functions.mails, host_functions.caches)

        assert {"django.core.mail.backends.dummy": "1"} == measured["mails"].rows
        assert {"django.core.cache.backends.locmem.LocMemCache": "1"} == measured["caches"].rows

    def test_other_databases__are_refused_but_for_replicas(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """Only the copy is there, also under the name of its mirror."""
        host_settings("""
            DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/other.db"}
            DATABASES["replica"] = {**DATABASES["other"], "TEST": {"MIRROR": "default"}}
        """)
        erp.item("a")

        measured = isolated.measure(erp, host_functions.reads_another_database, host_functions.reads_a_replica)

        assert "It used the database 'other'" in measured["reads_another_database"].error
        assert "1" == measured["reads_a_replica"].value

    def test_secrets_of_the_job__stand_in_no_argument(self, isolated: Isolated, erp: Erp) -> None:
        """A repr or a command line shows no password."""
        database = Database(settings={**erp.settings, "PASSWORD": "hush-hush"})
        seen: list[tuple[str, ...]] = []

        class Watching(ProcessRunner):
            def run(self, command: Any, **options: Any) -> Any:
                seen.append((*command.argv, repr(command)))
                return super().run(command, **options)

        model_check("count")(host_functions.count_items)
        names: dict[str, Any] = {"alias": "default", "now": NOW, "settings_module": "project.settings"}
        [measured] = measure_isolated(Watching(SystemClock()), database, tuple(isolated.registry), **names)

        assert "0" == measured.value
        assert "hush-hush" not in str(seen)

    def test_settings_that_json_has_not__are_refused_by_name(self) -> None:
        """The key is named, the value is not shown."""
        with pytest.raises(ConfigurationError, match=r"\['OPTIONS'\]\['init'\] is function"):
            plain({"OPTIONS": {"init": lambda: "secret"}})


@pytest.fixture
def exported(pg_erp: Erp) -> Iterator[tuple[str, ...]]:
    """The SQL that joins a snapshot in which there is one item; there are two by now."""
    pg_erp.item("before")
    entry = pg_erp.settings
    address = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "password": entry["PASSWORD"]}
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    with psycopg.connect(dbname=entry["NAME"], autocommit=True, **address) as holder:
        holder.execute(begin)
        [name] = holder.execute("SELECT pg_export_snapshot()").fetchone() or [""]
        pg_erp.item("after")
        yield begin, f"SET TRANSACTION SNAPSHOT '{name}'"


class TestSnapshot:
    """An isolated process joins the snapshot, and stays in it."""

    def test_functions__see_the_snapshot(self, isolated: Isolated, pg_erp: Erp, exported: tuple[str, ...]) -> None:
        """What was committed later is not there, also within savepoints and server-side cursors."""
        functions = host_functions.count_items, host_functions.uses_savepoints, host_functions.time_of_transaction

        measured = isolated.measure(pg_erp, *functions, initial_sql=exported)

        assert 2 == Item.objects.using(pg_erp.alias).count()
        assert {"1"} == {measurement.value for measurement in measured.values()}
        assert {""} == {measurement.error for measurement in measured.values()}

    @pytest.mark.parametrize(
        "function",
        [
            host_functions.commits,
            host_functions.writes,
            host_functions.writes_in_spite,
        ],
    )
    def test_leaving_the_snapshot__is_an_error(
        self, isolated: Isolated, pg_erp: Erp, exported: tuple[str, ...], function: Callable[[], int]
    ) -> None:
        """Nothing is measured outside it, and nothing is written to what may be the live database."""
        [measured] = isolated.measure(pg_erp, function, initial_sql=exported).values()

        assert measured.error
        assert 0 == Warehouse.objects.using(pg_erp.alias).count()

    def test_reconnecting__never_reads_another_state(
        self, isolated: Isolated, pg_erp: Erp, exported: tuple[str, ...]
    ) -> None:
        """A connection that was closed is an error, or joins the snapshot again."""
        [measured] = isolated.measure(pg_erp, host_functions.reconnects, initial_sql=exported).values()

        assert measured.error or "1" == measured.value

    def test_slow_statement__is_ended_and_the_snapshot_goes_on(
        self, isolated: Isolated, pg_erp: Erp, exported: tuple[str, ...]
    ) -> None:
        """The savepoint of the late one is rolled back, not the snapshot."""
        functions = host_functions.sleeps, host_functions.count_items

        measured = isolated.measure(pg_erp, *functions, initial_sql=exported, check_limit=0.3)

        assert (True, "1") == (measured["sleeps"].timed_out, measured["count_items"].value)

    def test_server_by_name__is_found(self, isolated: Isolated, pg_erp: Erp) -> None:
        """The driver looks the copy's server up, and only that."""
        by_name = Erp(alias=pg_erp.alias, settings={**pg_erp.settings, "HOST": "localhost"})

        measured = isolated.measure(by_name, host_functions.count_items, host_functions.looks_up)

        assert ("0", "") == (measured["count_items"].value, measured["count_items"].error)
        assert measured["looks_up"].error.startswith("NetworkRefusedError")


class TestProbe:
    """`probe`."""

    def test_health_page__answers_from_the_copy(self, isolated: Isolated, erp: Erp) -> None:
        """The ERP's own database does not even exist."""
        answer = isolated.probe(erp, "/health")

        assert (200, '{"status": "ok"}', "", True) == (answer.status, answer.body, answer.problem, answer.is_healthy)

    def test_production_settings__do_not_stand_in_the_way(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """Host names and HTTPS are the web server's business, which is not there."""
        host_settings("""
            DEBUG = False
            ALLOWED_HOSTS = ["erp.example.org"]
            SECURE_SSL_REDIRECT = True
        """)

        assert isolated.probe(erp, "https://erp.example.org/health?full=1").is_healthy

    def test_empty_copy__is_not_healthy(self, isolated: Isolated, erp: Erp, tmp_path: Path) -> None:
        """The page reads a table, which is not there."""
        empty = Erp(alias=erp.alias, settings={**erp.settings, "NAME": str(tmp_path / "empty.db")})

        answer = isolated.probe(empty, "/health")

        assert (503, False, "Its health page /health answered 503.") == (
            answer.status,
            answer.is_healthy,
            answer.problem,
        )

    def test_login_in_front__is_told_apart_from_health(self, isolated: Isolated, erp: Erp) -> None:
        """A redirect names where it leads and what to do."""
        answer = isolated.probe(erp, "/admin/")

        assert (302, False) == (answer.status, answer.is_healthy)
        assert answer.location.startswith("/admin/login/")
        assert "a redirect to /admin/login/" in answer.problem
        assert "Exempt the page from the login" in answer.problem

    def test_erp_that_does_not_start__says_why(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None]
    ) -> None:
        """Nothing answered, and the reason is the ERP's own."""
        host_settings("WSGI_APPLICATION = 'nowhere.application'")

        answer = isolated.probe(erp, "/health")

        assert 0 == answer.status
        assert "The ERP did not start: ImproperlyConfigured: WSGI application 'nowhere.application'" in answer.problem

    def test_page_that_hangs__is_not_waited_for(
        self, isolated: Isolated, erp: Erp, host_settings: Callable[[str], None], tmp_path: Path
    ) -> None:
        """The answer has a limit, and the process is gone afterwards."""
        host_settings(f"""
            import os, pathlib
            pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
            ROOT_URLCONF = "hanging_urls"
        """)
        (tmp_path / "hanging_urls.py").write_text(
            "import time; from django.urls import path\n"
            "urlpatterns = [path('health', lambda request: time.sleep(600))]\n"
        )

        answer = isolated.probe(erp, "/health", probe_limit=1.0)

        assert "did not answer" in answer.problem
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
