"""A migrated copy of the demo's database for each test, on an alias of its own, as engines hand it to model checks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import DjangoDbBlocker

from erp_backup.engines.orm import temporary_alias
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.registry import Registry, register_temporarily
from tests.modelchecks.erp import Erp, sqlite_settings
from tests.support.postgres import Cluster, temporary_database


@pytest.fixture(autouse=True)
def registered() -> Iterator[Registry]:
    """An empty registry that forgets what a test declares."""
    with register_temporarily(empty=True) as registry:
        yield registry


@pytest.fixture
def declared(registered: Registry) -> Callable[[], ModelCheck]:
    """Return the one model check that the test declared with a decorator."""

    def only() -> ModelCheck:
        [check] = registered
        return check

    return only


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Path:
    """An SQLite file with the demo's tables."""
    path = tmp_path_factory.mktemp("modelchecks") / "empty.db"
    with django_db_blocker.unblock(), temporary_alias(sqlite_settings(path), purpose="test") as alias:
        call_command("migrate", database=alias, verbosity=0)
    return path


@pytest.fixture
def erp(migrated_file: Path, tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Erp]:
    """The demo's database on an SQLite file of the test's own."""
    path = Path(shutil.copy(migrated_file, tmp_path / "erp.db"))
    settings = sqlite_settings(path)
    with django_db_blocker.unblock(), temporary_alias(settings, purpose="test") as alias:
        yield Erp(alias=alias, settings=settings)


@pytest.fixture
def other_erp(migrated_file: Path, tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Erp]:
    """Another such database: what a restore might have made of the first."""
    path = Path(shutil.copy(migrated_file, tmp_path / "other.db"))
    settings = sqlite_settings(path)
    with django_db_blocker.unblock(), temporary_alias(settings, purpose="test") as alias:
        yield Erp(alias=alias, settings=settings)


@pytest.fixture(scope="module")
def pg_template(postgres: Cluster, django_db_blocker: DjangoDbBlocker) -> Iterator[dict[str, Any]]:
    """The DATABASES entry of a PostgreSQL database with the demo's tables."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        with django_db_blocker.unblock(), temporary_alias(entry, purpose="test") as alias:
            call_command("migrate", database=alias, verbosity=0)
        yield entry


@pytest.fixture
def pg_erp(pg_template: dict[str, Any], django_db_blocker: DjangoDbBlocker) -> Iterator[Erp]:
    """The demo's database on PostgreSQL; its rows go at the end of the test."""
    with django_db_blocker.unblock(), temporary_alias(pg_template, purpose="test") as alias:
        yield Erp(alias=alias, settings=pg_template)
        call_command("flush", database=alias, verbosity=0, interactive=False)
