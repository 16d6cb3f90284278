"""Host projects run as users run them: real subprocesses, an environment of their own, folders of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any

from tests.support import prepared

# Settings after which the demo's tables are not the usual ones.
_OWN_TABLES = ("INSTALLED_APPS", "AUTH_USER_MODEL", "DATABASES", "ROUTERS", "USE_TZ", "TIME_ZONE")
REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 180

# Everything else stays outside: a developer's PGHOST or DATABASE_URL would send a test to a real database.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command did: its exit code and what it wrote."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return standard output read as JSON."""
        return json.loads(self.stdout)

    def __str__(self) -> str:
        """Return all of it, for the message of a failing test."""
        command = " ".join(self.args)
        return f"`{command}` ended with {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class CommandFailedError(AssertionError):
    """A command that was expected to succeed did not, or did not end; `result` has what it wrote."""

    def __init__(self, result: Result, reason: str = "") -> None:
        super().__init__(f"{reason}{result}")
        self.result = result


@dataclass(kw_only=True)
class _Project:
    """Where a project's manage.py is, which settings it runs with, and what else is importable."""

    root: Path
    settings: str
    python_path: list[Path] = field(default_factory=list)


class Host:
    """A Django project with `erp_backup` installed, by default the demo ERP on a new SQLite file.

    Below `folder`: `state` (STATE_DIR), `backups` (the local location), `media`, `home`, and `app.db`. Give
    `database_url`, or `databases` (DATABASES entries) for more than one, and `extra_settings` (lines of Python that
    end the settings module) for anything else. `close` ends what `popen` started.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str | None = None,
        *,
        databases: Mapping[str, Mapping[str, Any]] | None = None,
        extra_settings: str = "",
        project: _Project | None = None,
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.backups_dir = folder / "backups"
        self.database_file = folder / "app.db"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "home").mkdir(exist_ok=True)
        self._templates: prepared.Templates | None = None
        self.database_url = database_url or f"sqlite:///{self.database_file}"
        if project is None:
            project = self._demo(databases, extra_settings)
            self._templates = self._prepared(database_url, databases, extra_settings)
        self._project = project
        self._has_only = ""  # what the database holds, as long as nothing else was done to it
        self._started: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The environment its commands run in; nothing of the tests' own but a few harmless names."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = os.pathsep.join(map(str, self._project.python_path))
        own = {
            "DJANGO_SETTINGS_MODULE": self._project.settings,
            "DATABASE_URL": self.database_url,
            "ERP_BACKUP_STATE_DIR": str(self.state_dir),
            "ERP_BACKUP_BACKUPS_DIR": str(self.backups_dir),
            "MEDIA_ROOT": str(self.folder / "media"),
            "HOME": str(self.folder / "home"),
        }
        return inherited | own | ({"PYTHONPATH": path} if path else {})

    def manage(
        self,
        *args: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002 - subprocess.run's own word
        timeout: float = TIMEOUT_SECONDS,
    ) -> Result:
        """Run `manage.py ARGS` to its end; raises CommandFailedError when it fails (unless `check` is off) or hangs.

        `env` is added to the environment. Without `input`, standard input is empty and no terminal.
        """
        process = self.popen(*args, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            self._kill(process)
            stdout, stderr = process.communicate()
            late = Result(args=args, returncode=process.returncode, stdout=stdout, stderr=stderr)
            raise CommandFailedError(late, f"Not ended in {timeout:g} s: ") from None
        finally:
            self._started.remove(process)
        result = Result(args=args, returncode=process.returncode, stdout=stdout, stderr=stderr)
        if check and result.returncode != 0:
            raise CommandFailedError(result)
        return result

    def popen(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start `manage.py ARGS` and return the process, leader of a process group, with its output in pipes."""
        self._has_only = ""
        process = subprocess.Popen(
            [sys.executable, "manage.py", *args],
            cwd=self._project.root,
            env=self.environment | dict(env or {}),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def migrate(self) -> None:
        """Create the tables: by the command once, by a copy of what that has made for further hosts."""
        templates = self._templates if self._templates is not None and self._templates.is_ordinary else None
        if templates is None or not templates.bring("migrated"):
            self.manage("migrate", "--verbosity=0")
            if templates is not None:
                templates.keep("migrated")
        self._has_only = "migrated" if templates is not None else ""

    def seed(self, *, users: int = 5, items: int = 20, transactions: int = 100) -> None:
        """Fill the demo ERP's tables, in the same way."""
        counts = {"users": users, "items": items, "transactions": transactions}
        templates = self._templates if self._has_only == "migrated" else None
        name = f"seeded_{users}_{items}_{transactions}"
        if templates is not None and templates.bring(name):
            prepared.bring_folder(name, self.folder / "media")
            return
        self.manage("seed_demo", "--verbosity=0", *(f"--{name}={count}" for name, count in counts.items()))
        if templates is not None:
            templates.keep(name)
            prepared.keep_folder(name, self.folder / "media")

    def close(self) -> None:
        """End, with their groups, the processes that a test left running, and close all pipes."""
        for process in self._started:
            self._kill(process)
            process.communicate()
        self._started.clear()

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _prepared(
        self, database_url: str | None, databases: Mapping[str, Mapping[str, Any]] | None, extra_settings: str
    ) -> prepared.Templates | None:
        """Where this host has the demo's tables and no others, in one ordinary database."""
        if database_url is not None or any(word in extra_settings for word in _OWN_TABLES):
            return None
        if databases is None:
            return prepared.SqliteTemplates(self.database_file)
        (entry, *others) = databases.values()
        is_plain = set(entry) == {"ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT"}
        if others or not is_plain or entry["USER"] != "erp_owner":
            return None
        return prepared.PostgresTemplates(entry)

    def _demo(self, databases: Mapping[str, Mapping[str, Any]] | None, extra_settings: str) -> _Project:
        if databases is None and not extra_settings:
            return _Project(root=REPOSITORY, settings="project.settings")
        lines = ["from project.settings import *"]
        if databases is not None:
            lines.append(f"DATABASES = {_literal(databases)}")
        _write(self.folder / "host_settings.py", "\n".join([*lines, textwrap.dedent(extra_settings)]))
        return _Project(root=REPOSITORY, settings="host_settings", python_path=[self.folder])


def write_host_project(
    folder: Path,
    *,
    databases: Mapping[str, Mapping[str, Any]] | None = None,
    extra_settings: str = "",
    package: Path = REPOSITORY,
) -> Host:
    """Write a foreign project below `folder`, with nothing of the demo's, and return it.

    It has `django.contrib.contenttypes` and `auth`, our two apps and one of its own (`shop`, with the model `Product`
    and its migration); its language is not English and it has no admin. Without `databases` it has one SQLite file.
    `package` is the folder that `erp_backup` is imported from.
    """
    root = folder / "site"
    default = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "app.db")}}
    for name, text in _FOREIGN_FILES.items():
        _write(root / name, textwrap.dedent(text).lstrip())
    with (root / "hostsite" / "settings.py").open("a") as settings:
        settings.write(f"DATABASES = {_literal(databases or default)}\n{textwrap.dedent(extra_settings)}\n")
    return Host(folder, project=_Project(root=root, settings="hostsite.settings", python_path=[package]))


def _literal(databases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the entries as Python source."""
    plain = {
        alias: {key: str(value) if isinstance(value, Path) else value for key, value in entry.items()}
        for alias, entry in databases.items()
    }
    return pformat(plain)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


_FOREIGN_FILES = {
    "manage.py": """
        import sys
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
        """,
    "hostsite/__init__.py": "",
    "hostsite/settings.py": """
        SECRET_KEY = "host"
        INSTALLED_APPS = [
            "erp_backup", "dbbackup", "django.contrib.contenttypes", "django.contrib.auth", "shop",
        ]
        ROOT_URLCONF = "hostsite.urls"
        LANGUAGE_CODE = "de"
        TIME_ZONE = "Asia/Kathmandu"
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
        """,
    "hostsite/urls.py": """
        urlpatterns = []
        """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Product(models.Model):
            name = models.CharField(max_length=100)
            price = models.DecimalField(max_digits=9, decimal_places=2)
        """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            initial = True
            dependencies = []
            operations = [
                migrations.CreateModel(
                    name="Product",
                    fields=[
                        (
                            "id",
                            models.AutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        ("name", models.CharField(max_length=100)),
                        ("price", models.DecimalField(decimal_places=2, max_digits=9)),
                    ],
                ),
            ]
        """,
}
