"""The page "Import old backups", followed: the runbook's own commands make the files, the page's commands take them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo import runbook
from tests.support.host import REPOSITORY, Host, Result
from tests.support.postgres import Cluster, temporary_database

PAGE = REPOSITORY / "docs" / "how-to" / "import-old-backups.md"
ROWS = {"stock_transactions": 40, "items": 8, "users": 3}


def commands(*words: str) -> list[str]:
    """Return the arguments of the one command of the page that has all of these words."""
    lines = [line.partition(" manage.py ")[2] for line in PAGE.read_text().splitlines() if " manage.py " in line]
    [found] = [line for line in map(shlex.split, lines) if set(words) <= set(line) and len(line) == len(words) + 1]
    return found


def follow(host: Host, words: tuple[str, ...], argument: str, *more: str) -> Result:
    """Type a command of the page with another file or backup in the place of the page's."""
    typed = [argument if "sme_erp" in word else word for word in commands(*words)]
    return host.manage(*typed, *more, "--json", check=False)


def name_of(result: Result) -> str:
    """Return the name of what was imported."""
    assert 0 == result.returncode, str(result)
    [done] = result.json()["imports"]
    assert "imported" == done["outcome"]
    return str(done["id"])


def judge(result: Result, *, schema: str) -> None:
    """See that it could not be verified, and that what was found is what the ERP holds."""
    [verified] = result.json()["verifications"]
    assert (3, "could not verify", "models") == (result.returncode, verified["outcome"], verified["reached"]), str(
        result
    )
    assert ROWS == {name: verified["rows_found"][f"{schema}{name}"] for name in ROWS}
    figures = {measured["check"]: measured["value"] for measured in verified["measurements"]}
    assert str(ROWS["users"]) == figures["users.active"]
    assert any("Could not compare: no manifest" in finding["message"] for finding in verified["findings"])


def shell(text: str, folder: Path, **environment: str) -> None:
    """Type what the runbook says."""
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
    )


@pytest.fixture
def creator(postgres: Cluster) -> Iterator[str]:
    """A database user that may create databases and roles."""
    name = f"admin_{secrets.token_hex(4)}"
    postgres.create_role(name, secrets.token_urlsafe(12))
    with postgres.connect() as connection:
        connection.execute(f"ALTER ROLE {name} CREATEROLE")
    yield name
    postgres.drop_role(name)


@pytest.fixture
def entry(postgres: Cluster, creator: str) -> Iterator[dict[str, Any]]:
    """Production's entry of DATABASES."""
    with temporary_database(postgres, owner=creator) as entry:
        yield entry


def test_postgresql__every_file_of_the_runbook(tmp_path: Path, postgres: Cluster, entry: dict[str, Any]) -> None:
    """SQL, SQL in gzip and -Fc are imported, restored, and shown with all their rows; nothing is left at the server."""
    before = postgres.databases()
    typed = runbook.block("PostgreSQL", "Full Database Backup").text
    typed = typed.replace("<hostname>", entry["HOST"]).replace("<username>", entry["USER"])
    path = f"{postgres.bin_dir}{os.pathsep}{os.environ['PATH']}"
    with contextlib.closing(Host(tmp_path / "host", databases={"default": entry})) as host:
        host.migrate()
        host.seed(users=ROWS["users"], items=ROWS["items"], transactions=ROWS["stock_transactions"])
        shell(
            typed.replace("sme_erp_prod", entry["NAME"]),
            tmp_path,
            PATH=path,
            PGPORT=entry["PORT"],
            PGPASSWORD=entry["PASSWORD"],
        )
        files = {"".join(file.suffixes): file for file in tmp_path.glob("sme_erp_backup_*")}
        names = {
            suffix: name_of(follow(host, (PAGED_FILE,), str(files[suffix]))) for suffix in (".sql", ".sql.gz", ".dump")
        }

        plain = follow(host, (PAGED_NAME,), names[".sql"], "--allow-old-client")
        sql = follow(host, (PAGED_NAME, "--quarantine"), names[".sql"], "--allow-old-client")
        custom = follow(host, (PAGED_NAME, "--allow-old-client"), names[".dump"], "--quarantine")
        listed = host.manage("listbackups").stdout

    [refusal] = plain.json()["verifications"]
    assert (9, "readable") == (plain.returncode, refusal["reached"])
    assert "--quarantine" in refusal["error"]["remedy"]
    judge(sql, schema="public.")
    judge(custom, schema="public.")
    assert 3 == len(re.findall("imported, no figures", listed))
    assert before == postgres.databases()
    with postgres.connect() as connection:
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'erp_backup%'").fetchall()
    assert [] == roles


def test_sqlite__every_file_of_the_runbook_and_a_whole_folder(tmp_path: Path) -> None:
    """Copy, .backup and .dump are taken one by one and from a storage; each shows what the ERP holds."""
    old = tmp_path / "old"
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(old)}}
    settings = f"STORAGES = {{**STORAGES, 'dbbackup': {storage!r}}}"
    with contextlib.closing(Host(tmp_path / "host", extra_settings=settings)) as host:
        host.migrate()
        host.seed(users=ROWS["users"], items=ROWS["items"], transactions=ROWS["stock_transactions"])
        old.mkdir()
        copy, online, text = runbook.block("SQLite", "Backup Commands").lines
        for number, command in enumerate((copy, online, text)):
            # In the same second they would write under the same name.
            shell(command.replace("app_backup", f"{old}/app_{number}_backup"), host.folder)
        single = name_of(follow(host, (PAGED_FILE,), str(next(old.glob("app_0_*")))))

        whole = host.manage(*commands("--from", "dbbackup"), "--json").json()["imports"]
        verified = [
            follow(host, (PAGED_NAME,), name) for name in (single, *(done["id"] for done in whole if done["id"]))
        ]

    assert ["imported", "imported", "skipped"] == sorted(done["outcome"] for done in whole)
    assert 3 == len(verified)
    for result in verified:
        judge(result, schema="")


PAGED_FILE = "/var/backups/sme_erp_backup_20260105_120000.sql.gz"
PAGED_NAME = "sme_erp_imported_20261122_101500_k3x9qa"
