"""A foreign project that came from django-dbbackup: its storage, its settings, an old archive of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host, write_host_project

STORAGES = """
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "dbbackup": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": %r},
    },
}
MEDIA_ROOT = %r
"""

MakeProject = Callable[..., Host]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of a foreign project, with its tables."""
    folder = tmp_path_factory.mktemp("migrated")
    with contextlib.closing(write_host_project(folder)) as host:
        host.migrate()
    return folder / "app.db"


@pytest.fixture
def project(tmp_path: Path, migrated: Path) -> Iterator[MakeProject]:
    """Make a foreign project with `STORAGES["dbbackup"]`, by default on a migrated SQLite file."""
    with contextlib.ExitStack() as stack:

        def make(extra_settings: str = "", *, databases: dict[str, Any] | None = None) -> Host:
            folder = tmp_path / "host"
            texts = STORAGES % (str(folder / "backups"), str(folder / "media"))
            host = write_host_project(folder, databases=databases, extra_settings=texts + extra_settings)
            stack.enter_context(contextlib.closing(host))
            if databases is None:
                shutil.copy(migrated, folder / "app.db")
            else:
                host.migrate()
            return host

        yield make


@pytest.fixture
def host(project: MakeProject) -> Host:
    """Such a project without any other setting."""
    return project()
