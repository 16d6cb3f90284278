"""The pages for bad nights, carried out: every command on them, in order, on a database in the state they speak of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.damage import damage_header, damage_heap
from tests.support.host import REPOSITORY, Host, Result
from tests.support.postgres import Cluster, temporary_database

COMMAND = re.compile(r"^\s*\$ python manage\.py (.+)$", re.MULTILINE)
ASKING = {"dbrestore", "recoverrows"}


def carry_out(host: Host, page: str, *, from_: str = "") -> list[Result]:
    """Run the page's commands; whoever is asked agrees."""
    text = (REPOSITORY / "docs" / "how-to" / page).read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in COMMAND.findall(text)]
    assert commands
    return [host.manage(*words, *(["--noinput"] if words[0] in ASKING else [])) for words in commands]


def users(host: Host) -> str:
    """Who there is, by the ERP's own model."""
    code = (
        "from django.contrib.auth import get_user_model as m; "
        "print(list(m().objects.order_by('pk').values_list('email')))"
    )
    return host.manage("shell", "-c", code, check=False).stdout


class TestDamagedDatabase:
    """Scenario 1."""

    @pytest.mark.parametrize("filler", [b"\0", b"garbage!"], ids=["zeros", "garbage"])
    def test_postgresql__restored_and_the_damaged_one_kept(
        self, tmp_path: Path, postgres: Cluster, filler: bytes
    ) -> None:
        """Pages of the heap are overwritten: zeros look like no rows, anything else cannot be read, nor dumped."""
        with temporary_database(postgres, owner="erp_owner") as entry:
            host = Host(tmp_path / "host", databases={"default": entry})
            host.migrate()
            host.seed()
            before = users(host)
            host.manage("dbbackup", "-q")
            damage_heap(postgres, entry, "users", filler=filler)

            assert before != users(host)
            carry_out(host, "damaged-database.md")

            assert before == users(host)
            kept = host.manage("dbrestore", "--replaced", "--json").json()["replaced"]
            assert 1 == len(kept)
            host.manage("dbrestore", "--release", kept[0]["name"], "--noinput")

    def test_sqlite_header__restored_and_the_damaged_one_kept(self, host: Host) -> None:
        """The file is no database any more."""
        host.migrate()
        host.seed()
        before = users(host)
        host.manage("dbbackup", "-q")
        damage_header(host.database_file)
        damaged = host.database_file.read_bytes()

        carry_out(host, "damaged-database.md")

        assert before == users(host)
        (kept,) = host.manage("dbrestore", "--replaced", "--json").json()["replaced"]
        assert damaged == Path(kept["name"]).read_bytes()


class TestLostServer:
    """Scenario 3."""

    @pytest.fixture
    def second(self) -> Iterator[Cluster]:
        """Another server, with nothing on it."""
        with Cluster() as cluster:
            cluster.create_role("erp_owner", "its own password")
            yield cluster

    def test_postgresql__runs_on_a_new_server_with_its_history(
        self, tmp_path: Path, postgres: Cluster, second: Cluster
    ) -> None:
        """Only the settings, the location and the key are left."""
        with temporary_database(postgres, owner="erp_owner") as entry:
            lost = Host(tmp_path / "lost", databases={"default": entry})
            lost.migrate()
            lost.seed()
            before = users(lost)
            for _ in range(2):
                lost.manage("dbbackup", "-q")
            history = names(lost)
            found = Host(tmp_path / "found", databases={"default": elsewhere(entry, second)})
            bring(lost, found)

        carry_out(found, "lost-server.md")

        assert before == users(found)
        assert history < names(found)

    def test_sqlite__file_gone(self, tmp_path: Path) -> None:
        """The same on a new machine with no file."""
        lost = Host(tmp_path / "lost")
        lost.migrate()
        lost.seed()
        before = users(lost)
        lost.manage("dbbackup", "-q")
        history = names(lost)
        found = Host(tmp_path / "found")
        bring(lost, found)

        carry_out(found, "lost-server.md")

        assert before == users(found)
        assert history < names(found)


def bring(lost: Host, found: Host) -> None:
    """Bring what survives a server: the location and the key."""
    lost.backups_dir.rename(found.backups_dir)
    found.state_dir.mkdir(mode=0o700)
    (lost.state_dir / "signing.key").rename(found.state_dir / "signing.key")


def elsewhere(entry: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
    """The same database at another server, where it does not exist."""
    return {**entry, **cluster.entry(entry["NAME"], user="erp_owner")}


def names(host: Host) -> set[str]:
    """The backups that the history knows, as the admin would show them."""
    code = (
        "from erp_backup.models import Backup; "
        "print(sorted(Backup.objects.filter(status='complete').values_list('name', flat=True)))"
    )
    return set(re.findall(r"'([^']+)'", host.manage("shell", "-c", code).stdout))
