"""Every option of django-dbbackup's `dbrestore`: what it means here, or how it is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import STORAGES, MakeProject
from tests.support.host import Host, write_host_project
from tests.support.postgres import Cluster

RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A foreign project with two backups: `web`, of the server web-1, and the newer one, `plain`."""

    host: Host
    web: dict[str, Any]
    plain: dict[str, Any]

    @property
    def groups(self) -> list[str]:
        """What its live database holds."""
        with contextlib.closing(sqlite3.connect(self.host.folder / "app.db")) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM auth_group ORDER BY name")]

    def add_group(self, name: str) -> None:
        """Change the live database."""
        with contextlib.closing(sqlite3.connect(self.host.folder / "app.db")) as connection, connection:
            connection.execute("INSERT INTO auth_group (name) VALUES (?)", (name,))

    def planned(self, *options: str) -> str:
        """Return which backup would be restored."""
        return str(self.host.manage("dbrestore", "--dry-run", "--json", *options).json()["backup"])

    def restore(self, *options: str) -> None:
        """Restore without a word."""
        self.host.manage("dbrestore", "--noinput", "-q", "--no-safety-backup", *options)


def backed_up(host: Host, *options: str) -> dict[str, Any]:
    """Make a backup and return what the command says of it."""
    [backup] = host.manage("dbbackup", "--json", *options).json()["backups"]
    return dict(backup)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Site]:
    """One site for all tests that choose from its backups, or restore one of them."""
    folder = tmp_path_factory.mktemp("site") / "host"
    texts = STORAGES % (str(folder / "backups"), str(folder / "media"))
    with contextlib.closing(write_host_project(folder, extra_settings=texts)) as host:
        shutil.copy(migrated, folder / "app.db")
        web = backed_up(host, "-s", "web-1")
        yield Site(host=host, web=web, plain=backed_up(host))


def test_restore_noinput__asks_nobody(site: Site) -> None:
    """Without it and without a terminal nothing happens; with it the state comes back."""
    site.add_group("later")
    refused = site.host.manage("dbrestore", "-q", check=False, input="app.db\n")

    assert 9 == refused.returncode
    assert ["later"] == site.groups

    site.restore("--noinput")

    assert [] == site.groups


def test_restore_quiet__says_nothing(site: Site) -> None:
    """A good run is silent on both streams; a bad one is not."""
    result = site.host.manage("dbrestore", "--noinput", "-q", "--no-safety-backup")
    failed = site.host.manage("dbrestore", "--noinput", "-q", "nosuch", check=False)

    assert ("", "") == (result.stdout, result.stderr)
    assert 4 == failed.returncode
    assert "nosuch" in failed.stderr


class TestRestoreDatabase:
    """`-d`: where it goes. Of several none is guessed."""

    @pytest.fixture
    def two(self, project: MakeProject, migrated: Path, tmp_path: Path) -> Host:
        """A project with two databases and a backup of each."""
        entry = {"ENGINE": "django.db.backends.sqlite3"}
        aliases = ("default", "second")
        host = project(databases={alias: {**entry, "NAME": str(tmp_path / f"{alias}.db")} for alias in aliases})
        shutil.copy(migrated, tmp_path / "second.db")
        host.manage("dbbackup", "-q")
        return host

    def test_several__one_is_named_and_gets_its_own(self, two: Host) -> None:
        """A backup of the other one is not put into it."""
        made = {backup["database"]: backup["id"] for backup in two.manage("listbackups", "--json").json()["backups"]}
        unnamed = two.manage("dbrestore", "--dry-run", check=False)
        planned = two.manage("dbrestore", "--dry-run", "--json", "-d", "second").json()
        other = two.manage("dbrestore", "--dry-run", "-d", "second", made["default"], check=False)

        assert (2, made["second"], 9) == (unnamed.returncode, planned["backup"], other.returncode)
        assert "default, second" in unnamed.stderr
        assert "--database default" in other.stderr


def test_restore_input_filename__that_one(site: Site) -> None:
    """The archive's name in its location; one that is not there is nothing else."""
    missing = site.host.manage("dbrestore", "--dry-run", "-i", "nosuch.dump", check=False)

    assert site.web["id"] == site.planned("-i", site.web["archive"]["name"])
    assert 4 == missing.returncode


class TestRestoreInputPath:
    """`-I`: a file that is in no location."""

    def test_path__restored_with_its_manifest(self, site: Site, tmp_path: Path) -> None:
        """What `dbbackup -O` made elsewhere."""
        [path] = backed_up(site.host, "-O", f"{tmp_path}/stick/")["paths"]
        site.add_group("later")
        site.restore("-I", path)

        assert [] == site.groups

    def test_path_without_manifest__to_be_imported(self, site: Site, tmp_path: Path) -> None:
        """Nothing says what it should hold."""
        foreign = tmp_path / "old.sqlite3"
        shutil.copy(site.host.folder / "app.db", foreign)
        refused = site.host.manage("dbrestore", "--noinput", "-I", str(foreign), check=False)
        missing = site.host.manage("dbrestore", "--noinput", "-I", str(tmp_path / "nosuch"), check=False)

        assert 9 == refused.returncode
        assert f"importbackup {foreign}" in refused.stderr
        assert 5 == missing.returncode


def test_restore_servername__only_those_with_it(site: Site) -> None:
    """The newest of that server, as `dbbackup` was told of it; of an unknown one there is none."""
    unknown = site.host.manage("dbrestore", "--dry-run", "-s", "db-9", check=False)

    assert site.web["id"] == site.planned("-s", "web-1")
    assert site.plain["id"] == site.planned()
    assert 4 == unknown.returncode


def test_restore_decrypt__the_key_is_in_the_settings(project: MakeProject) -> None:
    """An encrypted archive is decrypted anyway; without its key the option does not help."""
    host = project(f"ERP_BACKUP = {{'ENCRYPTION': {{'RECIPIENTS': [{RECIPIENT!r}]}}}}")
    backed_up(host)
    codes = [host.manage("dbrestore", "--dry-run", *options, check=False).returncode for options in ((), ("-c",))]

    assert [8, 8] == codes


def test_restore_passphrase__refused_and_not_repeated(site: Site) -> None:
    """Whoever lists the processes would read it."""
    result = site.host.manage("dbrestore", "--noinput", "-p", "canary-phrase", check=False)

    assert 9 == result.returncode
    assert "can be read by every user" in result.stderr
    assert "canary-phrase" not in result.stdout + result.stderr


def test_restore_uncompress__done_whenever_it_is_needed(site: Site) -> None:
    """The archive is compressed; with the option and without it the state is restored."""
    assert ["zstd"] == site.plain["archive"]["codecs"]

    for options in ((), ("-z",)):
        site.add_group("later")
        site.restore(*options)

        assert [] == site.groups


class TestRestoreSchema:
    """`-n`: the tables of one schema, the others as they are."""

    def test_postgresql__only_that_one(
        self, project: MakeProject, pg_database: dict[str, Any], postgres: Cluster
    ) -> None:
        """In the live database, in one transaction."""
        host = project(databases={"default": pg_database})
        with postgres.connect(pg_database["NAME"], user=pg_database["USER"]) as connection:
            for schema in ("a", "b"):
                connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (x int PRIMARY KEY)")
                connection.execute(f"INSERT INTO {schema}.t VALUES (1)")
        backed_up(host)
        with postgres.connect(pg_database["NAME"], user=pg_database["USER"]) as connection:
            connection.execute("INSERT INTO a.t VALUES (2); INSERT INTO b.t VALUES (2)")
        done = host.manage("dbrestore", "--noinput", "--json", "--no-safety-backup", "-n", "a").json()
        missing = host.manage("dbrestore", "--noinput", "-n", "nope", check=False)

        with postgres.connect(pg_database["NAME"]) as connection:
            kept = [[x for (x,) in connection.execute(f"SELECT x FROM {schema}.t ORDER BY x")] for schema in "ab"]
        assert [[1], [1, 2]] == kept
        assert {"a.t": {"deleted": 1, "changed": 0, "inserted": 0, "rows": 1}} == done["report"]["tables"]
        assert 2 == missing.returncode
        assert "has no schema nope" in missing.stderr

    def test_sqlite__refused(self, site: Site) -> None:
        """It has no schemas; all of it is not what was asked for."""
        result = site.host.manage("dbrestore", "--noinput", "-n", "public", check=False)

        assert 2 == result.returncode
        assert "has no schema public" in result.stderr


def test_restore_no_drop__nothing_ever_is(site: Site) -> None:
    """With the option and without it, what was live is kept as a whole, with what was written since."""
    for options in ((), ("-r",)):
        site.add_group("later")
        site.restore(*options)
        newest = json.loads(site.host.manage("dbrestore", "--replaced", "--json").stdout)["replaced"][0]

        assert [] == site.groups
        with contextlib.closing(sqlite3.connect(newest["name"])) as connection:
            assert [("later",)] == connection.execute("SELECT name FROM auth_group").fetchall()


@pytest.mark.parametrize(
    ("options", "code"),
    [("--if-exists --no-owner", 0), ("-x -1", 0), ("--data-only", 9), ("--dbname=postgres", 9), ("-n public", 9)],
)
def test_restore_pg_options__harmless_or_refused(site: Site, options: str, code: int) -> None:
    """What changes nothing of the result is taken; what would is refused, and named."""
    result = site.host.manage("dbrestore", "--dry-run", f"--pg-options={options}", check=False)

    assert code == result.returncode, str(result)
    assert (code == 9) == (f"--pg-options {options.split(maxsplit=1)[0]} is not taken" in result.stderr)
