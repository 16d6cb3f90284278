"""A foreign project that installs the two apps and says nothing more: everything works, and what is wrong is said."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host, write_host_project
from tests.support.postgres import Cluster, temporary_database
from tests.support.programs import fake_program

SQLITE = "django.db.backends.sqlite3"
ROUTER = """
    class Router:
        '''Products live in the database `stock`, everything else in `default`.'''

        def _home(self, app):
            return "stock" if app == "shop" else "default"

        def db_for_read(self, model, **hints):
            return self._home(model._meta.app_label)

        db_for_write = db_for_read

        def allow_migrate(self, db, app_label, **hints):
            return db == self._home(app_label)
"""
PEOPLE = """
    from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
    from django.db import models

    class Manager(BaseUserManager):
        def get_queryset(self):
            return super().get_queryset().filter(left_at=None)

    class Person(AbstractBaseUser):
        '''A user with a key of its own, hidden by its manager when gone.'''

        badge = models.CharField(max_length=20, primary_key=True)
        left_at = models.DateTimeField(null=True)
        is_active = models.BooleanField(default=True)
        objects = Manager()
        USERNAME_FIELD = "badge"
"""
PLAIN_PERSON = """
    from django.db import models

    class Person(models.Model):
        '''A user as Django's documents allow it: no password, nothing of Django's own classes.'''

        login = models.CharField(max_length=20, unique=True)
        is_anonymous = False
        is_authenticated = True
        REQUIRED_FIELDS = []
        USERNAME_FIELD = "login"
"""
# What Django's admin asks of a project; its log is a table with times that every host may have.
ADMIN = """
INSTALLED_APPS += ["django.contrib.admin", "django.contrib.messages", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"context_processors": PROCESSORS}}
]
"""

MakeSite = Callable[..., Host]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MakeSite]:
    """Write a foreign project, with `files` added to it, and return its host; nothing of it is left running."""
    with contextlib.ExitStack() as stack:

        def write(
            settings: str = "",
            *,
            files: Mapping[str, str] | None = None,
            databases: Mapping[str, Mapping[str, Any]] | None = None,
        ) -> Host:
            host = write_host_project(tmp_path / "host", databases=databases, extra_settings=settings)
            stack.enter_context(contextlib.closing(host))
            for name, text in (files or {}).items():
                path = tmp_path / "host" / "site" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text).lstrip())
            return host

        yield write


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Mapping[str, Mapping[str, Any]] | None:
    """The databases of a project of each kind; None is the SQLite file that it has by itself."""
    if request.param == "sqlite":
        return None
    return {"default": request.getfixturevalue("pg_database")}


def state_of(host: Host) -> Path:
    """Where a project that says nothing keeps its state: beside its manage.py."""
    return host.folder / "site" / ".erp_backup"


def manifests(folder: Path) -> list[dict[str, Any]]:
    """Return the manifests in a folder, the oldest first."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.manifest.json")]
    return sorted(found, key=lambda manifest: (manifest["taken_at"], manifest["id"]))


def values(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the model checks of a manifest with their figures; an error is one too."""
    return {found["check"]: found.get("error") or found.get("value") for found in manifest["measurements"]}


def add_products(host: Host, *names: str) -> None:
    """Put rows into the host's own table."""
    code = f"from shop.models import Product; [Product.objects.create(name=n, price='9.90') for n in {names!r}]"
    host.manage("shell", "--no-imports", "-c", code)


def prove(host: Host) -> dict[str, Any]:
    """Back up, verify by a drill, list; return the manifest."""
    [backup] = host.manage("dbbackup", "--json").json()["backups"]
    [verification] = host.manage("verifybackup", "--json").json()["verifications"]
    [listed] = host.manage("listbackups", "--json").json()["backups"]

    assert ("passed", "models", backup["id"]) == tuple(verification[key] for key in ("outcome", "reached", "backup"))
    assert (backup["id"], "drilled") == (listed["id"], listed["proof"])
    [manifest] = manifests(state_of(host) / "backups")
    return manifest


class TestNothingSaid:
    """Two apps in INSTALLED_APPS and nothing else."""

    def test_first_day__everything_works(
        self, site: MakeSite, databases: Mapping[str, Mapping[str, Any]] | None
    ) -> None:
        """Checks, migrations, backup, drill, list; the host's own table is in it."""
        host = site(databases=databases)
        checked = host.manage("check", "--database", "default")
        host.migrate()
        add_products(host, "Schraube", "Mutter")
        manifest = prove(host)

        rows = {table["name"]: table["rows"] for table in manifest["figures"]["tables"]}
        assert "no issues" in checked.stdout
        assert 2 == rows["shop_product"]
        assert "0" == values(manifest)["erp_backup.orphans"]
        assert "0" == values(manifest)["erp_backup.unapplied_migrations"]

    def test_migrations__are_complete_for_any_host(self, site: MakeSite) -> None:
        """A host's DEFAULT_AUTO_FIELD and language make no new migration of ours."""
        host = site("DEFAULT_AUTO_FIELD = 'django.db.models.SmallAutoField'\nLANGUAGE_CODE = 'ar'")

        assert "No changes" in host.manage("makemigrations", "--check", "--dry-run", "erp_backup").stdout

    def test_started_anywhere__same_state(self, site: MakeSite, tmp_path: Path) -> None:
        """Cron starts commands in another folder than people do."""
        host = site()
        host.migrate()
        host.manage("dbbackup", "-q")
        elsewhere = [sys.executable, host.folder / "site" / "manage.py", "dbbackup", "-q"]
        subprocess.run(elsewhere, cwd=tmp_path, env=host.environment, check=True, capture_output=True)

        assert [1, 2] == [manifest["number"] for manifest in manifests(state_of(host) / "backups")]
        assert not (tmp_path / ".erp_backup").exists()

    def test_before_migrate__no_traceback(self, site: MakeSite, pg_database: dict[str, Any]) -> None:
        """The tables of the history are missing: the backup is made, and the run says what it could not write."""
        host = site(databases={"default": pg_database})
        for app in ("auth", "contenttypes", "shop"):
            host.manage("migrate", "-v0", app)

        made = host.manage("dbbackup", check=False)
        verified = host.manage("verifybackup", check=False)
        listed = host.manage("listbackups")

        assert 3 == made.returncode
        assert "The history could not be written" in made.stderr
        assert 0 == verified.returncode
        assert "history could not be written" in verified.stderr
        assert manifests(state_of(host) / "backups")[0]["id"] in listed.stdout
        assert "Traceback" not in made.stderr + verified.stderr + listed.stderr


class TestUsers:
    """Whoever the host's users are, or if there are none."""

    def test_no_auth_at_all__works(self, site: MakeSite) -> None:
        """Neither users nor content types nor permissions."""
        host = site("INSTALLED_APPS = ['erp_backup', 'dbbackup', 'shop']")
        host.migrate()
        add_products(host, "Schraube")
        manifest = prove(host)

        tables = {table["name"] for table in manifest["figures"]["tables"]}
        assert not {name for name in tables if name.startswith(("auth_", "django_content"))}
        assert "erp_backup.active_users" not in values(manifest)

    @pytest.mark.parametrize(("model", "key", "active"), [(PEOPLE, "badge", "2"), (PLAIN_PERSON, "login", None)])
    def test_own_user_model__is_counted(self, site: MakeSite, model: str, key: str, active: str | None) -> None:
        """With another key, a manager that hides rows, or not even a password; without `is_active` none is active."""
        files = {"people/__init__.py": "", "people/migrations/__init__.py": "", "people/models.py": model}
        host = site("INSTALLED_APPS.append('people')\nAUTH_USER_MODEL = 'people.Person'", files=files)
        host.manage("makemigrations", "-v0", "people")
        host.migrate()
        gone = ", left_at='2020-01-01T00:00Z'" if key == "badge" else ""
        code = f"from people.models import Person as P; P({key}='a').save(); P({key}='b'{gone}).save()"
        host.manage("shell", "--no-imports", "-c", code)
        manifest = prove(host)

        assert active == values(manifest).get("erp_backup.active_users")
        rows = next(found["rows"] for found in manifest["measurements"] if found["check"] == "erp_backup.rows")
        assert "2" == rows["people.Person"]


class TestPlaces:
    """Languages, time zones, formats of numbers."""

    @pytest.mark.parametrize(
        "settings",
        [
            "LANGUAGE_CODE = 'ar'\nTIME_ZONE = 'America/St_Johns'\nUSE_THOUSAND_SEPARATOR = True",
            "LANGUAGE_CODE = 'tr'\nTIME_ZONE = 'Pacific/Apia'\nUSE_TZ = False",
        ],
    )
    def test_elsewhere__same_figures_in_utc(
        self, site: MakeSite, databases: Mapping[str, Mapping[str, Any]] | None, settings: str
    ) -> None:
        """Output is English, times are UTC, and "the last seven days" are the same at the drill."""
        checks = "from erp_backup import Recent\nRecent('log.recent', 'admin.LogEntry', 'action_time', days=7)\n"
        host = site(ADMIN + settings, files={"shop/backup_checks.py": checks}, databases=databases)
        host.migrate()
        code = """
from datetime import timedelta
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone
user = User.objects.create(username="a")
for hours in (1, 6 * 24, 9 * 24):
    entry = LogEntry.objects.create(user=user, object_repr="x", action_flag=1)
    LogEntry.objects.filter(pk=entry.pk).update(action_time=timezone.now() - timedelta(hours=hours))
"""
        host.manage("shell", "--no-imports", "-c", code)
        manifest = prove(host)
        said = host.manage("dbbackup").stdout

        assert "2" == values(manifest)["log.recent"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", manifest["taken_at"])
        assert said.startswith("Backed up default as ")


class TestSeveralDatabases:
    """Each is backed up, whatever becomes of the others."""

    settings = "DATABASE_ROUTERS = ['hostsite.router.Router']"
    files = {"hostsite/router.py": ROUTER}  # noqa: RUF012 - never changed

    def make(self, site: MakeSite, databases: Mapping[str, Mapping[str, Any]], settings: str = "") -> Host:
        """A project whose products live in `stock`, with its tables."""
        host = site(f"{self.settings}\n{settings}", files=self.files, databases=databases)
        for alias in ("default", "stock"):
            host.manage("migrate", "-v0", "--database", alias)
        add_products(host, "Schraube", "Mutter")
        return host

    def of_sqlite(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Two files."""
        return {alias: {"ENGINE": SQLITE, "NAME": str(folder / f"{alias}.db")} for alias in ("default", "stock")}

    def test_router__each_has_its_own_models(self, site: MakeSite, tmp_path: Path, pg_database: dict[str, Any]) -> None:
        """One of each kind: both are proven, and each manifest has the rows of its own models only."""
        databases = {"default": pg_database, "stock": {"ENGINE": SQLITE, "NAME": str(tmp_path / "stock.db")}}
        host = self.make(site, databases)
        host.manage("dbbackup", "-q")
        verified = host.manage("verifybackup", "--json").json()["verifications"]

        assert ["passed", "passed"] == [result["outcome"] for result in verified]
        found = {manifest["database"]["alias"]: manifest for manifest in manifests(state_of(host) / "backups")}
        models = {
            alias: next(m["rows"] for m in manifest["measurements"] if m["check"] == "erp_backup.rows")
            for alias, manifest in found.items()
        }
        assert {"shop.Product": "2"} == models["stock"]
        assert "shop.Product" not in models["default"]
        assert (1, 1) == (found["default"]["number"], found["stock"]["number"])

    @pytest.mark.parametrize("broken", ["default", "stock"])
    def test_one_fails__the_other_is_backed_up(self, site: MakeSite, tmp_path: Path, broken: str) -> None:
        """Exit 3, whichever comes first; the message names the one that failed."""
        host = self.make(site, self.of_sqlite(tmp_path))
        (other,) = {"default", "stock"} - {broken}
        (tmp_path / f"{broken}.db").unlink()

        result = host.manage("dbbackup", "--json", check=False)

        data = result.json()
        assert 3 == result.returncode
        assert [other] == [backup["database"] for backup in data["backups"]]
        assert [23] == [error["exit_code"] for error in data["errors"]]
        assert f"{broken}.db" in data["errors"][0]["message"]

    def test_all_fail__the_first_ones_code(self, site: MakeSite, tmp_path: Path) -> None:
        """A file that is gone is 23, one that is no database 20; nothing is backed up."""
        host = self.make(site, self.of_sqlite(tmp_path))
        (tmp_path / "default.db").unlink()
        (tmp_path / "stock.db").write_text("no database at all, whatever its name says\n" * 100)

        result = host.manage("dbbackup", check=False)

        assert 23 == result.returncode
        assert "default.db" in result.stderr
        assert "stock.db" in result.stderr
        assert [] == manifests(state_of(host) / "backups")

    def test_fault_of_ours__costs_no_other_database(self, site: MakeSite, tmp_path: Path) -> None:
        """What nobody expected is raised as it is, after the others have had their turn."""
        settings = """
import erp_backup.engines.sqlite.engine as e
def fails(self, request, folder, original=e.SQLite.snapshot):
    if self.database.alias == "default":
        raise ZeroDivisionError("a fault")
    return original(self, request, folder)
e.SQLite.snapshot = fails
"""
        host = self.make(site, self.of_sqlite(tmp_path), settings)
        result = host.manage("dbbackup", "-q", check=False)

        assert 1 == result.returncode
        assert "ZeroDivisionError: a fault" in result.stderr
        assert ["stock"] == [manifest["database"]["alias"] for manifest in manifests(state_of(host) / "backups")]

    def test_empty_default__is_left_out(self, site: MakeSite, tmp_path: Path) -> None:
        """As Django's documents have it for projects where every model lives in a database of its own."""
        router = ROUTER.replace('"stock" if app == "shop" else "default"', '"stock"')
        databases = {"default": {}, "stock": {"ENGINE": SQLITE, "NAME": str(tmp_path / "stock.db")}}
        host = site(self.settings, files={"hostsite/router.py": router}, databases=databases)
        host.manage("migrate", "-v0", "--database", "stock")

        assert "stock" == prove(host)["database"]["alias"]


class TestModelChecks:
    """The host's own, in an app or in the settings."""

    module = """
        from decimal import Decimal
        from erp_backup import Count, Invariant, Total, model_check
        from shop.models import Product

        Count("shop.products", "shop.Product")
        Count("shop.dear", Product, price__gt=Decimal("10"))

        @model_check("shop.named")
        def named(using: str) -> Invariant:
            return Invariant(Product.objects.using(using).filter(name=""))

        @model_check("shop.own_function")
        def own_function() -> int:
            return Product.objects.count()
    """
    declared = """
ERP_BACKUP = {
    "MODEL_CHECKS": [
        {"kind": "count", "name": "settings.products", "model": "shop.Product"},
        {"kind": "total", "name": "settings.worth", "model": "shop.Product", "amount": "price"},
        "shop.functions.nameless",
    ],
}
"""
    function = """
        from shop.models import Product

        def nameless(using):
            return Product.objects.using(using).filter(name="")
    """

    def test_module_of_an_app__is_found(
        self, site: MakeSite, databases: Mapping[str, Mapping[str, Any]] | None
    ) -> None:
        """Declarations and functions, with and without `using`; equal at the drill."""
        host = site(files={"shop/backup_checks.py": self.module}, databases=databases)
        host.migrate()
        add_products(host, "Schraube", "Mutter", "")
        manifest = prove(host)

        own = {name: value for name, value in values(manifest).items() if name.startswith("shop.")}
        assert {"shop.products": "3", "shop.dear": "0", "shop.named": "1", "shop.own_function": "3"} == own

    def test_settings_only__no_code_in_the_host(self, site: MakeSite) -> None:
        """Dictionaries, and the path of a function that was there anyway."""
        host = site(self.declared, files={"shop/functions.py": self.function})
        host.migrate()
        add_products(host, "Schraube", "Mutter")
        found = values(prove(host))

        assert ("2", "19.80") == (found["settings.products"], found["settings.worth"])
        assert "0" == found["shop.functions.nameless"]

    def test_unknown_model__said_by_check(self, site: MakeSite) -> None:
        """Before the first backup, with the place of the declaration."""
        module = "from erp_backup import Count\nCount('shop.goods', 'shop.Produkt')\n"
        host = site(files={"shop/backup_checks.py": module})

        result = host.manage("check", check=False)

        assert 1 == result.returncode
        assert "(erp_backup.E006) Model check 'shop.goods'" in result.stderr
        assert "shop/backup_checks.py" in result.stderr or "shop.backup_checks" in result.stderr
        assert "Did you mean 'shop.Product'?" in result.stderr


class TestSystemChecks:
    """What is wrong is said by `manage.py check`, with the documented id, and never with a traceback."""

    def said(self, host: Host, *options: str, **more: Any) -> str:
        """Return what `check` says, errors and warnings alike."""
        result = host.manage("check", *options, check=False, **more)
        assert "Traceback" not in result.stderr, str(result)
        return result.stdout + result.stderr

    def test_wrong_order__error_and_nothing_runs_silently(self, site: MakeSite) -> None:
        """Django would run the other package's command; its own checks keep it from that."""
        host = site("INSTALLED_APPS = ['dbbackup', 'erp_backup', *INSTALLED_APPS[2:]]")

        result = host.manage("dbbackup", check=False)

        assert "(erp_backup.E001)" in self.said(host)
        assert 1 == result.returncode
        assert "(erp_backup.E001)" in result.stderr

    @pytest.mark.parametrize(
        ("settings", "hint"),
        [
            ("{'LOCATION': {}}", "HINT: Did you mean 'LOCATIONS'?"),
            ("{'encryption': {}}", "HINT: Did you mean 'ENCRYPTION'?"),
            ("{'RETENTION': {'keep': 3}}", "HINT: Did you mean 'keep_last'?"),
            ("{'DATABASES': {'defualt': {}}}", "HINT: Did you mean 'default'?"),
            ("{'DATABASES': ['default']}", "ERP_BACKUP['DATABASES'] is not a dictionary"),
            ("{'COMPRESSION': {'LEVEL': 99}}", "HINT: Write a whole number from 1 to 22."),
            ("['LOCATIONS']", "ERP_BACKUP is not a dictionary"),
        ],
    )
    def test_settings_that_mean_nothing__did_you_mean(self, site: MakeSite, settings: str, hint: str) -> None:
        """By `check`, by every other command of the host, and by ours with exit code 2."""
        host = site(f"ERP_BACKUP = {settings}")

        said = self.said(host)
        ran = host.manage("dbbackup", check=False)

        assert "(erp_backup.E002)" in said
        assert hint in said
        assert 2 == ran.returncode
        assert "Traceback" not in ran.stderr

    def test_open_state_folder__error_and_refusal(self, site: MakeSite) -> None:
        """Others could read the signing key; the hint is the command that helps."""
        host = site()
        host.migrate()
        host.manage("dbbackup", "-q")
        state_of(host).chmod(0o755)

        said, ran = self.said(host), host.manage("dbbackup", check=False)
        state_of(host).chmod(0o700)

        assert "(erp_backup.E004)" in said
        assert f"HINT: Run: chmod 700 {state_of(host)}" in said
        assert 9 == ran.returncode
        assert "no issues" in self.said(host)

    def test_missing_programs__warning_without_a_database(self, site: MakeSite, pg_database: dict[str, Any]) -> None:
        """Both are named, with the package; no connection is made for it."""
        hide = "import erp_backup.engines.postgresql.programs as p; p._VERSIONED = ()"
        host = site(hide, databases={"default": {**pg_database, "PORT": "1"}})

        said = self.said(host, env={"PATH": str(host.folder)})

        assert ["pg_dump", "pg_restore"] == re.findall(r"\(erp_backup\.W010\) (\w+) is not installed", said)
        assert 2 == said.count("apt-get install postgresql-client")

    def test_sqlite__needs_no_program(self, site: MakeSite) -> None:
        """Nothing is missing where nothing is needed."""
        assert "no issues" in self.said(site(), env={"PATH": "/nowhere"})

    def test_old_client__warning_with_the_database(
        self, site: MakeSite, tmp_path: Path, pg_database: dict[str, Any]
    ) -> None:
        """Only the server knows its version, so only `check --database` can tell."""
        for name in ("pg_dump", "pg_restore"):
            folder = fake_program(tmp_path / "old", name, Path("/bin/false"), "")
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 12.3'\n")
        settings = (
            "import erp_backup.engines.postgresql.programs as p; p._VERSIONED = ()\n"
            f"ERP_BACKUP = {{'PROGRAM_DIRS': [{str(tmp_path / 'old')!r}]}}"
        )
        host = site(settings, databases={"default": pg_database})
        here = {"PATH": str(tmp_path / "old")}

        assert "no issues" in self.said(host, env=here)
        said = self.said(host, "--database", "default", env=here)
        assert "(erp_backup.W011) Database 'default': pg_dump 12.3 is older than the server" in said

    def test_unreachable_database__no_traceback(self, site: MakeSite, pg_database: dict[str, Any]) -> None:
        """What is away is another check's business; ours do not end `migrate` or a deployment."""
        host = site(databases={"default": {**pg_database, "PORT": "1"}})

        assert "no issues" in self.said(host, "--database", "default")

    def test_deployment__unencrypted_is_a_warning(self, site: MakeSite) -> None:
        """Only there: in development nobody needs it."""
        host = site()

        assert "erp_backup.W005" not in self.said(host)
        assert "(erp_backup.W005) Backups are not encrypted" in self.said(host, "--deploy")


class TestHostsPeculiarities:
    """What other hosts do to their databases."""

    def test_table_without_a_model__is_backed_up(self, site: MakeSite) -> None:
        """Whatever stands in the database belongs to the business, whether an app knows it or not."""
        host = site()
        host.migrate()
        with contextlib.closing(sqlite3.connect(host.folder / "app.db")) as connection, connection:
            connection.execute("CREATE TABLE legacy (id INTEGER, note TEXT)")
            connection.execute("INSERT INTO legacy VALUES (1, 'x')")
        manifest = prove(host)

        assert 1 == {table["name"]: table["rows"] for table in manifest["figures"]["tables"]}["legacy"]

    def test_model_without_a_table__costs_nothing(self, site: MakeSite, postgres: Cluster) -> None:
        """A view behind an unmanaged model, a proxy, an app whose migration was never run."""
        models = """
            from django.db import models

            class Product(models.Model):
                name = models.CharField(max_length=100)
                price = models.DecimalField(max_digits=9, decimal_places=2)

            class Cheap(Product):
                class Meta:
                    proxy = True

            class Names(models.Model):
                name = models.CharField(max_length=100, primary_key=True)

                class Meta:
                    managed = False
                    db_table = "names"

            class NotYet(models.Model):
                name = models.CharField(max_length=100)
        """
        with temporary_database(postgres, owner="erp_owner") as entry:
            host = site(files={"shop/models.py": models}, databases={"default": entry})
            host.migrate()
            with postgres.connect(entry["NAME"], user=entry["USER"]) as connection:
                connection.execute("CREATE VIEW names AS SELECT name FROM shop_product")
            manifest = prove(host)

        assert not [error for m in manifest["measurements"] if (error := m.get("error"))]
