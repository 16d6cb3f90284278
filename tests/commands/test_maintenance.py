"""`maintenance on|off|status`, as an administrator uses it: a served ERP, with and without its database."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host

_SERVER = """
from wsgiref.simple_server import WSGIRequestHandler, make_server
from django.core.wsgi import get_wsgi_application
class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments): pass
server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, kw_only=True)
class Served:
    """An ERP that answers."""

    port: int

    def get(self, path: str, accept: str = "text/html") -> tuple[int, Message, str]:
        """Return the status, the headers and the body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


def serve(host: Host) -> Served:
    """Start the ERP; it ends with the host."""
    process = host.popen("shell", "--no-imports", "-c", _SERVER, env={"ALLOWED_HOSTS": "127.0.0.1"})
    assert process.stdout is not None
    return Served(port=int(process.stdout.readline()))


@pytest.fixture
def pg_host_without_server(tmp_path: Path) -> Iterator[Host]:
    """The demo on a PostgreSQL server that is stopped: nobody listens on its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "NAME": "erp", "HOST": "127.0.0.1"}
    entry |= {"USER": "erp", "PORT": str(port)}
    with contextlib.closing(Host(tmp_path / "host", databases={"default": entry})) as host:
        yield host


class TestServedErp:
    """Real processes."""

    def test_on__503_without_the_database_and_off_works_again(self, host: Host) -> None:
        """The database's file goes away and comes back while the ERP is closed."""
        host.migrate()
        erp = serve(host)
        before = erp.get("/health")[0]
        result = host.manage("maintenance", "on", "--reason", "Back at ten.")
        away = host.database_file.rename(host.folder / "away.db")
        closed, headers, page = erp.get("/health")
        as_json = erp.get("/admin/", "application/json")
        status = host.manage("maintenance", "status", "--json").json()
        there = host.database_file.exists()
        away.rename(host.database_file)
        off = host.manage("maintenance", "off")

        assert (200, 503, 503) == (before, closed, as_json[0])
        assert "Back at ten." in page
        assert ("120", "no-store") == (headers["Retry-After"], headers["Cache-Control"])
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert '"error": "maintenance"' in as_json[2]
        assert result.stdout.startswith("Maintenance mode is on since ")
        assert ("on", "Back at ten.", False) == (status["maintenance"], status["reason"], status["stale"])
        assert not there
        assert "Maintenance mode is off: the ERP is open.\n" == off.stdout
        assert 200 == erp.get("/health")[0]

    def test_server_stopped__closed_and_opened(self, pg_host_without_server: Host) -> None:
        """Neither the command nor the page asks the server."""
        host = pg_host_without_server
        erp = serve(host)
        host.manage("maintenance", "on")
        closed = erp.get("/admin/")[0]
        host.manage("maintenance", "off", "--quiet")

        assert 503 == closed
        assert "unavailable" in erp.get("/health")[2]


class TestCommand:
    """What it says."""

    def test_status__off_at_first(self, host: Host) -> None:
        """The exit code is 0 either way."""
        assert "Maintenance mode is off: the ERP is open.\n" == host.manage("maintenance", "status").stdout
        assert {"maintenance": "off"} == host.manage("maintenance", "off", "--json").json()

    def test_file_in_no_folder__exit_2(self, tmp_path: Path) -> None:
        """The setting is named."""
        extra = f"ERP_BACKUP = {{**ERP_BACKUP, 'MAINTENANCE': {{'FILE': {str(tmp_path / 'no' / 'file')!r}}}}}"
        with contextlib.closing(Host(tmp_path / "host", extra_settings=extra)) as host:
            result = host.manage("maintenance", "on", check=False)

        assert 2 == result.returncode
        assert "ERP_BACKUP['MAINTENANCE']['FILE']" in result.stderr
        assert "Traceback" not in result.stderr
