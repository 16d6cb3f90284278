"""The health page and the settings it runs with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from tests.support.host import REPOSITORY, Host

ASK = (
    "from django.test import Client; response = Client(SERVER_NAME='localhost').get('/health');"
    "print(response.status_code, response.content.decode())"
)


@pytest.mark.django_db
def test_health__is_ok(client: Client) -> None:
    """With a database that has the ERP's tables it answers 200, and no cache keeps the answer."""
    response = client.get("/health")

    assert (200, {"status": "ok"}) == (response.status_code, response.json())
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_health__takes_no_post(client: Client) -> None:
    """It can only be read."""
    assert client.post("/health").status_code == 405


def test_health_of_an_empty_database__is_unavailable(host: Host) -> None:
    """A database that answers but has none of the ERP's tables is not healthy."""
    assert host.manage("shell", "--no-imports", "-c", ASK).stdout == '503 {"status": "unavailable"}\n'


def test_health_without_a_server__is_unavailable(tmp_path: Path) -> None:
    """A database that cannot be reached is told as 503, without details."""
    host = Host(tmp_path, "postgresql://user:secret@127.0.0.1:1/erp")

    assert host.manage("shell", "--no-imports", "-c", ASK).stdout == '503 {"status": "unavailable"}\n'


def test_wsgi_application__answers(host: Host) -> None:
    """The entry point for web servers serves the health page."""
    host.migrate()
    script = (
        "from wsgiref.util import setup_testing_defaults as defaults; from project.wsgi import application;"
        "environ = {'PATH_INFO': '/health', 'HTTP_HOST': 'localhost'}; defaults(environ);"
        "print(b''.join(application(environ, lambda status, headers: print(status))).decode())"
    )

    assert host.manage("shell", "--no-imports", "-c", script).stdout == '200 OK\n{"status": "ok"}\n'


@pytest.mark.parametrize("debug", ["0", "false", "off"])
def test_production_without_a_secret_key__is_refused(debug: str) -> None:
    """Only the demo gets a key by itself."""
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "DEBUG": debug},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert "SECRET_KEY is empty" in result.stderr


def test_project__passes_its_own_checks(host: Host) -> None:
    """No system check complains and no migration is missing."""
    host.migrate()

    assert "no issues" in host.manage("check").stdout
    assert "No changes" in host.manage("makemigrations", "--check", "--dry-run").stdout
