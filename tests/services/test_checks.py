"""System checks: one test for each id, and one that proves that `manage.py check` runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

from erp_backup import Count
from erp_backup.checks import CHECKS, DEPLOY_CHECKS
from erp_backup.modelchecks.registry import register_temporarily
from tests.support.host import REPOSITORY, Host, write_host_project
from tests.support.postgres import Cluster

IDS = re.compile(r"erp_backup\.[EW]\d{3}")


def found(*, deploy: bool = False, databases: list[str] | None = None) -> list[checks.CheckMessage]:
    """Our messages of a run of all system checks."""
    messages = checks.run_checks(include_deployment_checks=deploy, databases=databases)
    return [message for message in messages if message.id and message.id.startswith("erp_backup.")]


def ids_of(host: Host, *arguments: str) -> set[str]:
    """The ids of ours that a real `manage.py check` names."""
    result = host.manage("check", *arguments, check=False)
    return set(IDS.findall(result.stderr + result.stdout))


def only(messages: list[checks.CheckMessage]) -> checks.CheckMessage:
    """The one message there is."""
    [message] = messages
    return message


class TestInProcess:
    """Those that need nothing but settings."""

    def test_nothing_wrong__silent(self) -> None:
        """A set-up that works is not complained of."""
        assert [] == found()

    @pytest.mark.django_db
    def test_e002__setting_that_means_nothing(self) -> None:
        """Each thing that is wrong is a message of its own, with its hint."""
        with override_settings(ERP_BACKUP={"LOCATION": {}, "JOBS": 0}):
            first, second = found(deploy=True, databases=["default"])

        assert ("erp_backup.E002", "ERP_BACKUP has an unknown key 'LOCATION'.", "Did you mean 'LOCATIONS'?") == (
            first.id,
            first.msg,
            first.hint,
        )
        assert "erp_backup.E002" == second.id
        assert first.is_serious(checks.ERROR)

    @pytest.mark.parametrize(
        "storage",
        [{"BACKEND": "django.core.files.storage.InMemoryStorage"}, {"BACKEND": "no.such.Storage"}],
        ids=["forgetful", "missing"],
    )
    def test_e003__storage_that_keeps_no_archives(self, storage: dict[str, str]) -> None:
        """Found when the project starts, and not in the night."""
        raw = {**settings.ERP_BACKUP, "LOCATIONS": {"away": {}, "backups": {}}}
        with override_settings(STORAGES={**settings.STORAGES, "away": storage}, ERP_BACKUP=raw):
            message = only(found())

        assert "erp_backup.E003" == message.id
        assert "'away'" in message.msg
        assert message.hint

    @pytest.mark.parametrize("other", [{"STORAGE": "backups"}, {"STORAGE": "linked"}])
    def test_e003__two_locations_in_one_place(self, tmp_path: Path, other: dict[str, str]) -> None:
        """A copy beside itself is none, whatever name or link leads there."""
        folder = settings.STORAGES["backups"]["OPTIONS"]["location"]
        (tmp_path / "link").symlink_to(folder)
        linked = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "link"}}
        raw = {**settings.ERP_BACKUP, "LOCATIONS": {"local": {"STORAGE": "backups"}, "offsite": other}}
        with override_settings(STORAGES={**settings.STORAGES, "linked": linked}, ERP_BACKUP=raw):
            message = only(found())

        assert ("erp_backup.E003", "The locations 'local' and 'offsite' are one place.") == (message.id, message.msg)
        assert message.hint

    def test_e004__state_folder_open_to_others(self, tmp_path: Path) -> None:
        """The signing key is in it; the hint is the command."""
        tmp_path.chmod(0o755)
        with override_settings(ERP_BACKUP={"STATE_DIR": tmp_path}):
            message = only(found())
        tmp_path.chmod(0o700)

        assert ("erp_backup.E004", f"Run: chmod 700 {tmp_path}") == (message.id, message.hint)
        with override_settings(ERP_BACKUP={"STATE_DIR": tmp_path}):
            assert [] == found()

    def test_w005__no_encryption(self) -> None:
        """Only where it is deployed."""
        message = only(found(deploy=True))

        assert "erp_backup.W005" == message.id
        assert not message.is_serious()
        assert message.hint
        assert [] == found(deploy=False)

    def test_w005__encrypted__silent(self) -> None:
        """With somebody to encrypt to, nothing is said."""
        with override_settings(ERP_BACKUP={**settings.ERP_BACKUP, "ENCRYPTION": {"RECIPIENTS": ["age1x"]}}):
            assert [] == found(deploy=True)

    def test_e006__model_check_of_a_model_that_does_not_exist(self) -> None:
        """A declaration that would fail at two in the morning fails now, with its place."""
        with register_temporarily(empty=True):
            Count("items", "erp.Itme")
            message = only(found())

        assert "erp_backup.E006" == message.id
        assert "'items'" in message.msg
        assert "test_checks" in message.msg

    @pytest.mark.django_db
    def test_w013__exclude_that_matches_nothing(self) -> None:
        """A table that is called otherwise is not left out, though somebody thinks so."""
        raw = {**settings.ERP_BACKUP, "DATABASES": {"default": {"EXCLUDE_TABLES": ["no_such_table"]}}}
        with override_settings(ERP_BACKUP=raw):
            message = only(found(databases=["default"]))
            silent = found(databases=[])

        assert "erp_backup.W013" == message.id
        assert "Database 'default'" in message.msg
        assert "no_such_table" in message.msg
        assert [] == silent

    @pytest.mark.django_db
    def test_broken_settings__said_once(self) -> None:
        """One mistake in the settings does not make every other check complain, or crash."""
        with override_settings(ERP_BACKUP="nonsense"):
            assert ["erp_backup.E002"] == [message.id for message in found(deploy=True, databases=["default"])]

    def test_registered__all_of_them(self) -> None:
        """No check is written and forgotten: django-dbbackup's never run."""
        registered = checks.registry.registry.registered_checks
        deployment = checks.registry.registry.deployment_checks

        assert CHECKS.keys() <= registered
        assert DEPLOY_CHECKS.keys() <= deployment

    def test_tags__narrow_a_run(self) -> None:
        """`check --tag` finds them by Django's own tags."""
        with override_settings(ERP_BACKUP={"JOBS": 0}):
            assert ["erp_backup.E002"] == [message.id for message in checks.run_checks(tags=["compatibility"])]


class TestRealCommand:
    """`manage.py check`, as people run it."""

    def test_e001__wrong_order_of_apps(self, tmp_path: Path) -> None:
        """The app that stands first has the commands: Django says nothing of it, so we do."""
        host = Host(
            tmp_path,
            extra_settings="""
            INSTALLED_APPS = ["dbbackup", "erp_backup", *(a for a in INSTALLED_APPS if "backup" not in a)]
            """,
        )
        result = host.manage("check", check=False)

        assert 1 == result.returncode
        assert "erp_backup.E001" in result.stderr
        assert "Put 'erp_backup' before 'dbbackup'." in result.stderr

    def test_foreign_project__silent_and_runs_without_a_database(self, tmp_path: Path) -> None:
        """A project with nothing but the two apps is complained of by nobody, and no file is made."""
        host = write_host_project(tmp_path)

        assert set() == ids_of(host)
        assert not (tmp_path / "app.db").exists()
        assert not (tmp_path / "site" / ".erp_backup").exists()

    def test_checks_are_bound(self, tmp_path: Path) -> None:
        """With everything wrong, the real command names every id that needs no server."""
        (tmp_path / "state").mkdir(mode=0o755)
        (tmp_path / "state").chmod(0o755)
        host = Host(
            tmp_path,
            extra_settings="""
            STORAGES["memory"] = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
            ERP_BACKUP |= {
                "LOCATIONS": {"memory": {}},
                "MODEL_CHECKS": ["nonsense"],
                "DATABASES": {"default": {"EXCLUDE_TABLES": ["no_such_table"]}},
            }
            """,
        )
        host.manage("migrate", "--skip-checks", "--verbosity=0")
        every = {f"erp_backup.{number}" for number in ("E003", "E004", "E006")}

        assert every == ids_of(host)
        assert every | {"erp_backup.W005"} == ids_of(host, "--deploy")
        assert every | {"erp_backup.W013"} == ids_of(host, "--database", "default")


class TestPrograms:
    """Those that look for programs: this process sees none but those it is given."""

    @staticmethod
    def without_programs(host: Host, *arguments: str) -> str:
        """What `manage.py check` says where PostgreSQL's programs are not installed.

        In a mount namespace of its own an empty folder hides them; no other process notices.
        """
        hide = 'mount -t tmpfs tmpfs /usr/lib/postgresql && exec "$@"'
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        result = subprocess.run(
            ["unshare", "--mount", *user, "sh", "-c", hide, "-", sys.executable, "manage.py", "check", *arguments],
            cwd=REPOSITORY,
            env={**host.environment, "PATH": f"{host.folder}/bin:/usr/sbin:/sbin:{host.folder}/mount"},
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout + result.stderr

    @pytest.fixture
    def small_path(self, pg_host: Host) -> Host:
        """A host whose PATH has the program `mount`, `sh` and nothing of PostgreSQL."""
        folder = pg_host.folder / "bin"
        folder.mkdir()
        for name in ("mount", "sh", "unshare"):
            (folder / name).symlink_to(f"/usr/bin/{name}")
        return pg_host

    def test_w010__program_missing(self, small_path: Host) -> None:
        """What is not installed is said without asking the database; the hint is the command."""
        said = self.without_programs(small_path)

        assert "(erp_backup.W010) pg_dump is not installed." in said
        assert "(erp_backup.W010) pg_restore is not installed." in said
        assert "HINT: Install it: apt-get install postgresql-client" in said

    def test_w011__program_too_old(self, small_path: Host) -> None:
        """A client older than its server cannot dump it."""
        for name in ("pg_dump", "pg_restore"):
            script = small_path.folder / "bin" / name
            script.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n")
            script.chmod(0o755)
        said = self.without_programs(small_path, "--database", "default")

        assert "(erp_backup.W011) Database 'default':" in said
        assert "9.6" in said
        assert "erp_backup.W010" not in said

    def test_w012__table_that_may_not_be_read(
        self, pg_host: Host, postgres: Cluster, pg_database: dict[str, Any]
    ) -> None:
        """A backup that would fail for a missing right is said beforehand, and `migrate` still works."""
        pg_host.migrate()
        with psycopg.connect(postgres.url(pg_database["NAME"]), autocommit=True) as connection:
            connection.execute("CREATE TABLE payroll (id integer)")
        result = pg_host.manage("check", "--database", "default")

        assert "(erp_backup.W012) Database 'default':" in result.stderr
        assert "payroll" in result.stderr
        pg_host.migrate()

    def test_database_that_cannot_be_reached__not_this_commands_business(self, tmp_path: Path) -> None:
        """Whatever runs before the database is there must not be stopped by a check of backups."""
        host = Host(tmp_path, database_url="postgresql://nobody@127.0.0.1:1/nothing")

        assert set() == ids_of(host, "--database", "default")
