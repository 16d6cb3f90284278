"""What is compared: steps, each a program with its surroundings; and the folders and environment they share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.host import REPOSITORY, Host

_DBBACKUP_SETTINGS = '''
"""A project with django-dbbackup alone: in the demo, ours has taken the name of its commands."""

import os
from pathlib import Path

from project.database_url import parse_database_url

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["dbbackup"]
DATABASES = {"default": parse_database_url(os.environ["DATABASE_URL"], base_dir=Path())}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "dbbackup": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": os.environ["BENCHMARK_OUTPUT"]},
    },
}
'''


def _nothing() -> None:
    """Prepare nothing, tidy nothing up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One program to run and measure.

    Its result is all that lies in ``output`` at the end (unless ``has_result`` is off); its temporary files are what
    appears meanwhile in the folders ``scratch``, or has no name. ``prepare`` and ``finish`` run before and after it,
    unmeasured.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    output: Path
    scratch: tuple[Path, ...]
    has_result: bool = True
    is_ours: bool = False
    prepare: Callable[[], None] = _nothing
    finish: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The folders of one engine's comparison, and the environment every step gets."""

    folder: Path
    host: Host
    env: Mapping[str, str] = field(repr=False)

    @property
    def output(self) -> Path:
        """Where the others write their results."""
        return self.folder / "output"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files (TMPDIR) of all steps."""
        return self.folder / "tmp"

    def shell(
        self, name: str, script: str, *, prepare: Callable[[], None] = _nothing, finish: Callable[[], None] = _nothing
    ) -> Step:
        """Return a step of a shell: what a careful administrator types. ``$OUTPUT`` is an empty folder."""

        def begin() -> None:
            make_empty(self.output, self.temporary)
            prepare()

        def end() -> None:
            make_empty(self.output)
            finish()

        return Step(
            name=name,
            argv=("bash", "-e", "-o", "pipefail", "-c", script),
            env=self._environment(OUTPUT=str(self.output)),
            cwd=self.folder,
            output=self.output,
            scratch=(self.temporary,),
            prepare=begin,
            finish=end,
        )

    def dbbackup(self, name: str, *options: str) -> Step:
        """Return a step of django-dbbackup's own command."""
        (self.folder / "dbbackup_alone.py").write_text(_DBBACKUP_SETTINGS)
        env = self._environment(
            DJANGO_SETTINGS_MODULE="dbbackup_alone",
            PYTHONPATH=f"{self.folder}:{REPOSITORY}",
            BENCHMARK_OUTPUT=str(self.output),
        )
        return Step(
            name=name,
            argv=(sys.executable, "-m", "django", "dbbackup", "--noinput", *options),
            env=env,
            cwd=self.folder,
            output=self.output,
            scratch=(self.temporary,),
            prepare=lambda: make_empty(self.output, self.temporary),
            finish=lambda: make_empty(self.output),
        )

    def backup(self, name: str, *options: str) -> Step:
        """Return a step of our ``dbbackup``, as on a new installation; its backup stays for the steps that follow."""
        return self._ours(name, "dbbackup", *options, has_result=True, prepare=self._forget_backups)

    def verify(self, name: str, *options: str, finish: Callable[[], None] = _nothing) -> Step:
        """Return a step of our ``verifybackup`` of the newest backup."""
        return self._ours(name, "verifybackup", *options, finish=finish)

    def _ours(
        self,
        name: str,
        *arguments: str,
        has_result: bool = False,
        prepare: Callable[[], None] = _nothing,
        finish: Callable[[], None] = _nothing,
    ) -> Step:
        return Step(
            name=name,
            argv=(sys.executable, str(REPOSITORY / "manage.py"), *arguments),
            env=self._environment(),
            cwd=self.folder,
            output=self.host.backups_dir,
            scratch=(self.host.state_dir, self.temporary),
            has_result=has_result,
            is_ours=True,
            prepare=prepare,
            finish=finish,
        )

    def _forget_backups(self) -> None:
        make_empty(self.temporary)
        shutil.rmtree(self.host.state_dir, ignore_errors=True)
        shutil.rmtree(self.host.backups_dir, ignore_errors=True)

    def _environment(self, **own: str) -> dict[str, str]:
        return {**self.host.environment, "TMPDIR": str(self.temporary), **self.env, **own}


def make_empty(*folders: Path) -> None:
    """Leave the folders there, and nothing in them."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
