"""A backup's schema against the code's, app by app, and the restored copy brought to it by the host's migrations."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.test import override_settings

from erp_backup.core.errors import MigrationError, VersionError
from erp_backup.core.process import Command, Completed, ProcessRunner
from erp_backup.engines.base import ProcessDatabase
from erp_backup.engines.orm import temporary_alias
from erp_backup.services import migrating
from erp_backup.services.environment import Environment
from erp_backup.services.migrating import AppMigrations, SchemaState, applied_in, compare
from tests.support.environments import environment_in
from tests.support.postgres import Cluster, temporary_database


@pytest.fixture
def applied(db: None) -> list[str]:
    """The migrations of a database that is as new as the code."""
    return list(applied_in("default"))


def only(*found: AppMigrations) -> AppMigrations:
    """Return the one app of these."""
    (app,) = found
    return app


class TestComparing:
    """`compare`."""

    def test_same__neither_ahead_nor_behind(self, applied: list[str]) -> None:
        """Every app of the code is there."""
        found = compare(applied)

        assert {SchemaState.SAME} == {app.state for app in found.apps}
        assert {"erp", "erp_backup", "sessions"} <= {app.app for app in found.apps}
        assert ((), (), (), True) == (found.ahead, found.behind, found.removed, found.is_recorded)

    def test_older__what_would_be_applied(self, applied: list[str]) -> None:
        """Each app's own; an app that is new in the code counts."""
        later = {"auth.0012_alter_user_first_name_max_length", "sessions.0001_initial"}
        found = compare([name for name in applied if name not in later])

        assert ["auth", "sessions"] == [app.app for app in found.behind]
        assert ("0012_alter_user_first_name_max_length",) == found.behind[0].unapplied
        assert () == found.ahead

    def test_newer__what_the_code_does_not_know(self, applied: list[str]) -> None:
        """It was applied after everything that the code has."""
        app = only(*compare([*applied, "erp.0099_later"]).ahead)

        assert ("erp", SchemaState.NEWER, ("0099_later",)) == (app.app, app.state, app.unknown)

    def test_older_and_newer__apart(self, applied: list[str]) -> None:
        """Two branches of one app: it is neither."""
        given = [*(name for name in applied if name != "erp_backup.0002_restores"), "erp_backup.0002_other"]
        found = compare(given)

        assert SchemaState.APART is only(*found.ahead).state
        assert found.ahead == found.behind

    def test_app_not_installed_any_more__noted(self, applied: list[str]) -> None:
        """Its tables are in the backup and hurt nobody."""
        found = compare(["legacy.0001_initial", *applied, "legacy.0002_more"])

        assert AppMigrations(app="legacy", state=SchemaState.REMOVED, forgotten=("0001_initial", "0002_more")) == only(
            *found.removed
        )
        assert ((), ()) == (found.ahead, found.behind)

    def test_unknown_before_known__once_the_codes_own(self, applied: list[str]) -> None:
        """What came before a migration that the code has was squashed away or renamed, and is no news."""
        app = only(*(app for app in compare(["erp.0000_gone", *applied]).apps if app.app == "erp"))

        assert (SchemaState.SAME, ("0000_gone",)) == (app.state, app.forgotten)

    def test_nothing_recorded__not_told(self) -> None:
        """A dump of some tables, or of another program's database."""
        assert not compare([]).is_recorded
        assert () == compare([]).apps

    def test_no_table_of_migrations__none(self, tmp_path: Path, django_db_blocker: Any) -> None:
        """Whatever is asked, nothing is created."""
        entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "empty.db")}
        with django_db_blocker.unblock(), temporary_alias(entry, purpose="test") as alias:
            assert () == applied_in(alias)
            assert [] == connections[alias].introspection.table_names()


_FILE = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    replaces = {replaces!r}
    operations = []
"""


@pytest.fixture
def sessions_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write migrations that stand for those of the app `sessions`."""
    package = tmp_path / "migrations_of_test"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, after: str = "", replaces: tuple[str, ...] = ()) -> None:
        dependencies = [("sessions", after)] if after else []
        text = _FILE.format(dependencies=dependencies, replaces=[("sessions", replaced) for replaced in replaces])
        (package / f"{name}.py").write_text(text)

    with override_settings(MIGRATION_MODULES={"sessions": package.name}):
        yield write
    for module in [module for module in sys.modules if module.startswith(package.name)]:
        del sys.modules[module]


class TestSquashed:
    """Migrations that replace others."""

    @pytest.fixture(autouse=True)
    def _squashed(self, sessions_migrations: Callable[..., None]) -> None:
        """Two migrations, one that stands for both, and one after it."""
        sessions_migrations("0001_a")
        sessions_migrations("0002_b", after="0001_a")
        sessions_migrations("0001_squashed", replaces=("0001_a", "0002_b"))
        sessions_migrations("0003_c", after="0002_b")

    @pytest.mark.parametrize(
        ("names", "unapplied"),
        [
            (["0001_a", "0002_b", "0003_c"], ()),
            (["0001_a", "0002_b", "0001_squashed", "0003_c"], ()),
            (["0001_a", "0002_b"], ("0003_c",)),
            (["0001_a"], ("0002_b", "0003_c")),
        ],
    )
    def test_replaced_ones_applied__as_django_has_it(
        self, applied: list[str], names: list[str], unapplied: tuple[str, ...]
    ) -> None:
        """What stands for applied migrations is applied; half of them go on by themselves."""
        others = [name for name in applied if not name.startswith("sessions.")]
        found = compare([*others, *(f"sessions.{name}" for name in names)])

        assert unapplied == tuple(name for app in found.behind for name in app.unapplied)
        assert () == found.ahead

    def test_none_applied__the_squashed_one(self, applied: list[str]) -> None:
        """A new database gets one migration instead of two."""
        found = compare([name for name in applied if not name.startswith("sessions.")])

        assert ("0001_squashed", "0003_c") == only(*found.behind).unapplied

    def test_half_applied_and_the_files_gone__impossible(self, applied: list[str], tmp_path: Path) -> None:
        """Django cannot go on from there; neither do we pretend."""
        for name in ("0001_a", "0002_b"):
            (tmp_path / "migrations_of_test" / f"{name}.py").unlink()
        others = [name for name in applied if not name.startswith("sessions.")]

        with pytest.raises(VersionError, match="do not fit those of the backup"):
            compare([*others, "sessions.0001_a"])


_SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "ledger"]
DATABASES = {databases!r}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
_MODELS = """
from django.db import models
class Entry(models.Model):
    amount = models.IntegerField()
"""
_MIGRATION = """
from django.db import connections, migrations, models
def fill(apps, schema_editor):
    {fill}
class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [{operations}]
"""
_CREATE = """migrations.CreateModel(name="Entry", fields=[
    ("id", models.BigAutoField(primary_key=True)), ("amount", models.IntegerField())])"""
_ADD = """migrations.AddField("entry", "note", models.TextField(default="new")),
    migrations.RunPython(fill)"""


@dataclass(kw_only=True)
class Ledger:
    """A host with one app of its own, a live database, and a restored copy of it."""

    folder: Path
    live: dict[str, Any]
    copy: dict[str, Any]
    settings_module: str = field(default="ledger_settings")

    def __post_init__(self) -> None:
        """Write the host, with its first migration."""
        migrations = self.folder / "ledger" / "migrations"
        migrations.mkdir(parents=True, exist_ok=True)
        (self.folder / "ledger" / "__init__.py").touch()
        (migrations / "__init__.py").touch()
        (self.folder / "ledger" / "models.py").write_text(_MODELS)
        databases = {"default": self.live, "archive": self.live}
        (self.folder / "ledger_settings.py").write_text(_SETTINGS.format(databases=databases))
        self.migration("0001_initial", _CREATE)

    def migration(self, name: str, operations: str, *, fill: str = "pass", after: str = "") -> None:
        """Write a migration."""
        dependencies = [("ledger", after)] if after else []
        text = _MIGRATION.format(fill=fill, operations=operations, dependencies=dependencies)
        (self.folder / "ledger" / "migrations" / f"{name}.py").write_text(text)

    def second(self, fill: str) -> None:
        """Write the second migration, which adds a column and runs `fill`."""
        self.migration("0002_note", _ADD, fill=fill, after="0001_initial")

    def writable_process_settings(self) -> ProcessDatabase:
        """Return how another process writes the copy."""
        return ProcessDatabase(settings=self.copy)

    def ask(self, entry: dict[str, Any], query: str) -> list[tuple[Any, ...]]:
        """Return what one of the databases answers."""
        if "sqlite" in entry["ENGINE"]:
            with contextlib.closing(sqlite3.connect(entry["NAME"])) as connection:
                return connection.execute(query).fetchall()
        url = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "password": entry["PASSWORD"]}
        with psycopg.connect(dbname=entry["NAME"], **url) as session:
            return session.execute(query).fetchall()

    def state_of_live(self) -> object:
        """Return something that changes when the live database does."""
        if "sqlite" in self.live["ENGINE"]:
            return hashlib.sha256(Path(self.live["NAME"]).read_bytes()).hexdigest()
        return self.ask(self.live, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment of a host whose settings are the ledger's."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return environment_in(tmp_path / "environment", settings_module="ledger_settings")


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an SQLite file with the ledger's first migration is kept."""
    return tmp_path_factory.mktemp("migrating") / "first.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, environment: Environment, migrated_file: Path
) -> Iterator[Ledger]:
    """The host on each engine: the copy has the first migration and a row, the live database nothing at all."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            entries = [
                {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / f"{name}.db")}
                for name in ("live", "copy")
            ]
            Path(entries[0]["NAME"]).touch()
        else:
            cluster: Cluster = request.getfixturevalue("postgres")
            entries = [stack.enter_context(temporary_database(cluster, owner="erp_owner")) for _ in range(2)]
        made = Ledger(folder=tmp_path / "site", live=entries[0], copy=entries[1])
        if request.param == "sqlite":
            # Made by the first test that needs it; each child process takes a second.
            if not migrated_file.exists():
                migrating.migrate(environment, replace(made, copy={**made.copy, "NAME": str(migrated_file)}), "default")
            shutil.copy(migrated_file, made.copy["NAME"])
        else:
            migrating.migrate(environment, made, "default")
        yield made


class TestMigrating:
    """`migrate`."""

    def test_older_copy__migrated_and_the_live_one_untouched(self, ledger: Ledger, environment: Environment) -> None:
        """Its rows stay, the new column has its default, and what apps do after migrations is done, too."""
        live = ledger.state_of_live()
        # No `using` anywhere: it is the host's default database that it means.
        ledger.second("apps.get_model('ledger', 'Entry').objects.create(amount=5)")
        said = migrating.migrate(environment, ledger, "default")

        assert [(5, "new")] == ledger.ask(ledger.copy, "SELECT amount, note FROM ledger_entry")
        assert "Applying ledger.0002_note... OK" in said
        kinds = "SELECT count(*) FROM django_content_type WHERE app_label = 'ledger'"
        assert [(1,)] == ledger.ask(ledger.copy, kinds)
        assert live == ledger.state_of_live()

    def test_migration_that_names_default__hits_the_copy(self, ledger: Ledger, environment: Environment) -> None:
        """It asks for the connection by name, as many do."""
        live = ledger.state_of_live()
        ledger.second(
            "connections['default'].cursor().execute('INSERT INTO ledger_entry (amount, note) VALUES (7, 1)')"
        )
        migrating.migrate(environment, ledger, "default")

        assert [(7,)] == ledger.ask(ledger.copy, "SELECT amount FROM ledger_entry")
        assert live == ledger.state_of_live()

    def test_migration_that_fails__said_and_the_live_one_untouched(
        self, ledger: Ledger, environment: Environment
    ) -> None:
        """Which one, why, and what to do."""
        live = ledger.state_of_live()
        ledger.second("raise ValueError('the unit of item 7 is unknown')")

        with pytest.raises(MigrationError) as caught:
            migrating.migrate(environment, ledger, "default")
        assert 20 == caught.value.exit_code
        assert "ValueError: the unit of item 7 is unknown" in caught.value.message
        assert "Applying ledger.0002_note..." in caught.value.message
        assert caught.value.remedy.startswith("The live database is untouched.")
        assert live == ledger.state_of_live()

    @pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
    @pytest.mark.parametrize(
        ("fill", "message"),
        [
            ("connections['archive'].cursor()", "It used the database 'archive'"),
            ("import socket; socket.create_connection(('192.0.2.1', 80))", "The network is refused"),
            ("import os; os._exit(3)", "ended with status 3"),
            ("import sys; sys.exit(0)", "its process ended without a result"),
        ],
    )
    def test_migration_that_leaves_its_place__stopped(
        self, ledger: Ledger, environment: Environment, fill: str, message: str
    ) -> None:
        """Another database, another machine, and the end of the process are failures like any other."""
        ledger.second(fill)

        with pytest.raises(MigrationError, match=message):
            migrating.migrate(environment, ledger, "default")

    @pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
    def test_other_alias_than_default__the_copy_is_that_one(self, ledger: Ledger, environment: Environment) -> None:
        """The database that is restored has the name that the host gives it; its default is out of reach."""
        ledger.second("connections['default'].cursor()")

        with pytest.raises(MigrationError, match="It used the database 'default'"):
            migrating.migrate(environment, ledger, "archive")

    @pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
    def test_migration_without_end__stopped(
        self, ledger: Ledger, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has a limit, a generous one."""
        monkeypatch.setattr(migrating, "MIGRATE_LIMIT", 3.0)
        ledger.second("import time; time.sleep(600)")

        with pytest.raises(MigrationError, match="was stopped"):
            migrating.migrate(environment, ledger, "default")

    @pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
    def test_command_line__has_nothing_of_the_database(self, ledger: Ledger, environment: Environment) -> None:
        """Every user of the machine can read it."""
        ledger.second("pass")
        seen: list[Command] = []

        class Watching(ProcessRunner):
            def run(self, command: Command, **options: Any) -> Completed:
                seen.append(command)
                return super().run(command, **options)

        migrating.migrate(replace(environment, runner=Watching(environment.clock)), ledger, "default")

        assert [(sys.executable, "-P", "-m", "erp_backup.modelchecks.child")] == [command.argv for command in seen]
