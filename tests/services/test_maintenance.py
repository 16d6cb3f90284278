"""Maintenance mode: who closes the ERP, who may open it again, and what a request meets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import RequestFactory, override_settings

from erp_backup.conf import MaintenanceConfig
from erp_backup.core.errors import UsageError
from erp_backup.core.identity import ProcessIdentity, this_process
from erp_backup.middleware import MaintenanceMiddleware
from erp_backup.services import maintenance
from erp_backup.services.environment import Environment
from erp_backup.services.maintenance import Maintenance
from tests.services.conftest import Listener, MakeEnvironment
from tests.support.samples import NOON


def file_of(environment: Environment) -> Path:
    """Return where the file is."""
    return environment.config.maintenance.file


def leave_behind(environment: Environment) -> None:
    """Let a run die that had closed the ERP."""
    entered = maintenance.enter(environment, reason="A restore.", owner="r1")
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    assert entered.process is not None
    gone = replace(entered, process=replace(entered.process, pid=dead.pid))
    file_of(environment).write_bytes(maintenance._bytes_of(gone))


class TestState:
    """`enter`, `leave`, `state`."""

    def test_never_entered__open(self, environment: Environment) -> None:
        """There is no file."""
        assert maintenance.state(environment.config) is None
        assert maintenance.leave(environment) is None

    def test_entered_by_a_person__stays_until_left(self, environment: Environment) -> None:
        """It outlives the command that has set it, and says who, when and why."""
        until = NOON + timedelta(hours=1)
        entered = maintenance.enter(environment, reason="Moving house.", until=until)
        found = maintenance.state(environment.config)

        assert Maintenance(reason="Moving house.", since=NOON, until=until, by="tester") == found == entered
        assert not entered.is_stale
        assert 0o600 == stat.S_IMODE(file_of(environment).stat().st_mode)
        assert entered == maintenance.leave(environment)
        assert maintenance.state(environment.config) is None

    def test_file_named_on_purpose__others_can_read_it(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Web processes of another user need to."""
        shared = MaintenanceConfig(file=tmp_path / "maintenance.json", is_shared=True)
        environment = make_environment(maintenance=shared)
        before = os.umask(0o077)
        try:
            maintenance.enter(environment, reason="x")
        finally:
            os.umask(before)

        assert 0o644 == stat.S_IMODE(shared.file.stat().st_mode)

    def test_run_of_this_process__not_stale(self, environment: Environment) -> None:
        """Whoever has closed it lives."""
        assert not maintenance.enter(environment, reason="A restore.", owner="r1").is_stale
        assert maintenance.leave_stale(environment) is None
        assert maintenance.state(environment.config) is not None

    def test_run_that_died__stale_said_and_ended_by_the_next(
        self, environment: Environment, listener: Listener
    ) -> None:
        """It stays closed until somebody has looked after what the run did."""
        leave_behind(environment)
        found = maintenance.state(environment.config)

        assert found is not None
        assert found.is_stale
        assert "It belongs to r1, a run that died." in maintenance.warning_about(found)
        assert found == maintenance.leave_stale(environment)
        assert maintenance.state(environment.config) is None
        assert ["Ended the maintenance mode of r1, a run that died."] == listener.notes

    def test_person_before_the_run__stays_a_persons(self, environment: Environment) -> None:
        """A restore neither replaces nor ends what an administrator has set."""
        before = maintenance.enter(environment, reason="Moving house.")
        with maintenance.closed(environment, reason="A restore.", owner="r1") as held:
            assert before == held

        assert before == maintenance.state(environment.config)

    def test_person_during_the_run__stays(self, environment: Environment) -> None:
        """Whoever closes it during a restore wants it closed afterwards, too."""
        with maintenance.closed(environment, reason="A restore.", owner="r1"):
            after = maintenance.enter(environment, reason="Not yet.")

        assert after == maintenance.state(environment.config)

    def test_run_that_fails__opened(self, environment: Environment) -> None:
        """The live database is as it was: people go on."""
        with pytest.raises(UsageError), maintenance.closed(environment, reason="A restore.", owner="r1"):
            raise UsageError("x")

        assert maintenance.state(environment.config) is None

    @pytest.mark.parametrize("content", [b"", b"closed", b"[]", b'{"reason": 5}', b"\xff", b"x" * 200_000])
    def test_file_of_somebody_elses__closed(self, environment: Environment, content: bytes) -> None:
        """`touch` closes the ERP, too; a damaged file does not open it."""
        file_of(environment).write_bytes(content)

        assert Maintenance() == maintenance.state(environment.config)
        maintenance.enter(environment, reason="Now.")
        assert "Now." == (maintenance.state(environment.config) or Maintenance()).reason

    def test_folder_missing__said(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Nothing is made in a folder of somebody else's."""
        environment = make_environment(maintenance=MaintenanceConfig(file=tmp_path / "no" / "closed"))

        with pytest.raises(UsageError, match="cannot be changed: No such file or directory") as caught:
            maintenance.enter(environment, reason="x")
        assert "ERP_BACKUP['MAINTENANCE']['FILE']" in caught.value.remedy
        assert maintenance.state(environment.config) is None


class TestIdentity:
    """Whose process has died."""

    def test_this_one__lives(self) -> None:
        """It asks."""
        assert not this_process().is_gone

    @pytest.mark.parametrize("change", [{"boot": "another"}, {"started": "1"}, {"pid": 2**22 + 1}])
    def test_other_start_of_machine_or_process__gone(self, change: dict[str, Any]) -> None:
        """A number that another process has now means nothing."""
        assert replace(this_process(), **change).is_gone

    def test_other_machine__nobody_knows(self) -> None:
        """A state folder may be shared."""
        assert not ProcessIdentity(host="elsewhere", boot="x", pid=1, started="1").is_gone

    def test_killed__gone(self) -> None:
        """SIGKILL leaves no word."""
        code = "import sys; from erp_backup.core.identity import this_process as p; i = p()\n"
        code += "print(i.host, i.boot, i.pid, i.started, flush=True); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            host, boot, pid, started = process.stdout.readline().decode().split()
            identity = ProcessIdentity(host=host, boot=boot, pid=int(pid), started=started)

            assert not identity.is_gone
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert identity.is_gone


Ask = Callable[..., HttpResponse]


@pytest.fixture
def ask(environment: Environment) -> Any:
    """Ask the middleware of an ERP whose maintenance file is the environment's."""
    raw = {"MAINTENANCE": {"FILE": file_of(environment), "RETRY_AFTER": 90, "ALLOW": ["/health", "/static/"]}}
    middleware = MaintenanceMiddleware(lambda _request: HttpResponse("the ERP"))

    def get(path: str = "/", *, accept: str = "text/html", **headers: str) -> HttpResponseBase:
        answer = middleware(RequestFactory().get(path, headers={"accept": accept, **headers}))
        assert isinstance(answer, HttpResponse)
        return answer

    with override_settings(ERP_BACKUP=raw):
        yield get


class TestMiddleware:
    """What a request meets."""

    def test_open__the_erp(self, ask: Ask) -> None:
        """Nothing is in the way."""
        assert (200, b"the ERP") == (ask().status_code, ask().content)

    def test_closed__503_with_a_page(self, ask: Ask, environment: Environment) -> None:
        """The page says why, and is whole without anything from elsewhere."""
        maintenance.enter(environment, reason="<b>Back soon & safe</b>")
        answer = ask()
        page = answer.content.decode()

        assert 503 == answer.status_code
        assert ("90", "no-store") == (answer["Retry-After"], answer["Cache-Control"])
        assert "text/html; charset=utf-8" == answer["Content-Type"]
        assert '<html lang="en" dir="ltr">' in page
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
        assert "&lt;b&gt;Back soon &amp; safe&lt;/b&gt;" in page
        assert not any(word in page for word in ("<script", "<style", "style=", "<link", "src=", "http"))

    def test_json_asked_for__json(self, ask: Ask, environment: Environment) -> None:
        """Programs are told in their own way."""
        maintenance.enter(environment, reason="Back soon.")
        answer = ask(accept="application/json")

        assert 503 == answer.status_code
        assert {"error": "maintenance", "reason": "Back soon.", "retry_after": 90} == json.loads(answer.content)
        assert ("90", "no-store") == (answer["Retry-After"], answer["Cache-Control"])

    @pytest.mark.parametrize("accept", ["", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "image/png"])
    def test_anything_else_asked_for__page(self, ask: Ask, environment: Environment, accept: str) -> None:
        """There are two answers."""
        maintenance.enter(environment, reason="x")

        assert "text/html; charset=utf-8" == ask(accept=accept)["Content-Type"]

    def test_left__the_erp_again(self, ask: Ask, environment: Environment) -> None:
        """From the next request on; and its reason is always the last one."""
        maintenance.enter(environment, reason="first")
        first = ask().content
        maintenance.enter(environment, reason="second")
        second = ask().content
        maintenance.leave(environment)

        assert b"first" in first
        assert b"second" in second
        assert b"the ERP" == ask().content

    def test_end_given__retry_after_it(self, environment: Environment) -> None:
        """An end that has passed says nothing."""
        entered = maintenance.enter(environment, reason="x", until=NOON + timedelta(minutes=10))

        assert 600 == entered.retry_after(NOON, 90)
        assert 90 == entered.retry_after(NOON + timedelta(hours=1), 90)

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/health", 200),
            ("/health/", 200),
            ("/health/db", 200),
            ("/static/a.css", 200),
            ("/healthy", 503),
            ("/", 503),
            ("/admin/health", 503),
        ],
    )
    def test_allowed_paths__go_on(self, ask: Ask, environment: Environment, path: str, status: int) -> None:
        """Whole parts of a path are compared."""
        maintenance.enter(environment, reason="x")

        assert status == ask(path).status_code

    def test_unreadable_file__closed_without_a_reason(self, ask: Ask, environment: Environment) -> None:
        """That it is there is enough."""
        file_of(environment).write_bytes(b"?")

        assert 503 == ask().status_code

    def test_folder_hidden__open_and_logged_once(
        self, ask: Ask, environment: Environment, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A link that leads to itself stands for whatever the system refuses to this user."""
        file_of(environment).symlink_to(file_of(environment))

        assert [200, 200] == [ask().status_code for _ in range(2)]
        assert 1 == caplog.text.count("Whether maintenance mode is on cannot be seen")

    def test_settings_mean_nothing__open_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """A mistake in the settings of backups does not close an ERP."""
        middleware = MaintenanceMiddleware(lambda _request: HttpResponse("the ERP"))
        with override_settings(ERP_BACKUP={"JOBS": 0}):
            answers = [middleware(RequestFactory().get("/")) for _ in range(2)]

        assert [200, 200] == [answer.status_code for answer in answers if isinstance(answer, HttpResponse)]
        assert 1 == caplog.text.count("ERP_BACKUP['JOBS']")

    @pytest.mark.parametrize("templates", [[], [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]])
    def test_host_without_our_templates__page_all_the_same(
        self, ask: Ask, environment: Environment, templates: list[dict[str, Any]]
    ) -> None:
        """A host may have other template engines, or none."""
        maintenance.enter(environment, reason="Back soon.")
        with override_settings(TEMPLATES=templates):
            assert "Back soon." in ask().content.decode()

    def test_template_of_the_host__shown(self, ask: Ask, environment: Environment, tmp_path: Path) -> None:
        """The host's own page comes first; a mistake in it is not the last word."""
        own = tmp_path / "templates" / "erp_backup" / "503.html"
        own.parent.mkdir(parents=True)
        own.write_text("ours: {{ maintenance.reason }}")
        maintenance.enter(environment, reason="Back soon.")
        engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(tmp_path / "templates")]}
        with override_settings(TEMPLATES=[engine]):
            good = ask().content
        own.write_text("{% nonsense %}")
        with override_settings(TEMPLATES=[engine]):
            bad = ask().content

        assert b"ours: Back soon." == good
        assert b"<h1>The system is being maintained</h1>" in bad

    def test_async__the_same(self, ask: Ask, environment: Environment) -> None:
        """An ERP under ASGI is closed and opened alike."""

        async def erp(_request: HttpRequest) -> HttpResponseBase:
            return HttpResponse("the ERP")

        middleware = MaintenanceMiddleware(erp)

        async def asked() -> int:
            answer = middleware(RequestFactory().get("/"))
            assert not isinstance(answer, HttpResponseBase)
            return (await answer).status_code

        opened = asyncio.run(asked())
        maintenance.enter(environment, reason="x")

        assert (200, 503) == (opened, asyncio.run(asked()))
        assert iscoroutinefunction(middleware)
