"""The history brought from one database to another: all of it or nothing, once or twice, whatever its numbers are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.models import Model, QuerySet
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from erp_backup.core.errors import DatabaseError
from erp_backup.engines.orm import temporary_alias
from erp_backup.models import Backup, Copy, Event, Finding, Restore, Verification
from erp_backup.services.carrying import KINDS, PIECE, Carried, carry, history_is_in
from tests.support.host import REPOSITORY
from tests.support.postgres import Cluster, temporary_database
from tests.support.samples import NOON

MODELS = [kind.model for kind in KINDS]


def rows(model: type[Any], alias: str) -> QuerySet[Any]:
    """Return all rows of a model in one database."""
    return QuerySet(model, using=alias)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two migrated databases: the live one and the restored copy; `entries` are their settings."""

    live: str
    copy: str
    entries: tuple[dict[str, Any], dict[str, Any]]

    def says(self, alias: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return the whole history of one of them, in words and without numbers."""
        return {
            "backups": list(rows(Backup, alias).order_by("name").values_list("name", "status", "size", "started_at")),
            "copies": list(
                rows(Copy, alias).order_by("backup__name", "location").values_list("backup__name", "location", "state")
            ),
            "verifications": list(
                rows(Verification, alias)
                .order_by("started_at", "pk")
                .values_list("backup__name", "backup_name", "level", "outcome", "environment")
            ),
            "findings": list(
                rows(Finding, alias)
                .order_by("verification__started_at", "pk")
                .values_list("verification__backup_name", "subject", "message")
            ),
            "restores": list(rows(Restore, alias).order_by("name").values_list("name", "status", "report")),
            "events": list(rows(Event, alias).order_by("at", "pk").values_list("at", "kind", "subject", "data")),
        }


def sqlite_entry(path: Path) -> dict[str, Any]:
    """Return the settings of an SQLite file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 20}}


@pytest.fixture(scope="module")
def entries(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The settings of two databases with our tables, of the engine that the test names."""
    folder = tmp_path_factory.mktemp("carrying")
    if request.param == "sqlite":
        found = sqlite_entry(folder / "live.db"), sqlite_entry(folder / "copy.db")
        _migrate(found, django_db_blocker)
        yield found
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    with temporary_database(cluster, owner="erp_owner") as live, temporary_database(cluster, owner="erp_owner") as copy:
        _migrate((live, copy), django_db_blocker)
        yield live, copy


def _migrate(entries: tuple[dict[str, Any], ...], blocker: DjangoDbBlocker) -> None:
    for entry in entries:
        with blocker.unblock(), temporary_alias(entry, purpose="test") as alias:
            call_command("migrate", "erp_backup", database=alias, verbosity=0)


@pytest.fixture
def pair(entries: tuple[dict[str, Any], dict[str, Any]], django_db_blocker: DjangoDbBlocker) -> Iterator[Pair]:
    """Both databases, empty."""
    live, copy = entries
    with (
        django_db_blocker.unblock(),
        temporary_alias(live, purpose="test") as live_alias,
        temporary_alias(copy, purpose="test") as copy_alias,
    ):
        for alias in (live_alias, copy_alias):
            for model in reversed(MODELS):
                rows(model, alias).delete()
        yield Pair(live=live_alias, copy=copy_alias, entries=entries)


both = pytest.mark.parametrize("entries", ["sqlite", "postgresql"], indirect=True, scope="module")


def backup(alias: str, name: str, **values: Any) -> Backup:
    """Add a backup."""
    given = {"database": "default", "kind": "full", "started_at": NOON, "status": "complete", **values}
    return rows(Backup, alias).create(name=name, **given)


def verification(alias: str, of: Backup, *findings: str, **values: Any) -> Verification:
    """Add a verification with its findings."""
    given = {"level": "models", "outcome": "failed", "started_at": NOON, "finished_at": NOON, "exit_code": 6, **values}
    row = rows(Verification, alias).create(backup=of, backup_name=of.name, environment={"python": "3"}, **given)
    for subject in findings:
        rows(Finding, alias).create(verification=row, severity="failed", kind="table", subject=subject)
    return row


def history(alias: str) -> None:
    """Write a history with something in each table."""
    first, second = backup(alias, "b1", size=5), backup(alias, "b2", started_at=NOON + timedelta(hours=1))
    for row in (first, second):
        rows(Copy, alias).create(backup=row, location="local", stored_at=NOON, state="verified")
    verification(alias, first, "erp_item", "erp_item", actor="ann")
    verification(alias, second, "erp_user", actor="ann")
    rows(Restore, alias).create(name="r1", database="default", target="switch", started_at=NOON, report={"rows": 3})
    for number in range(3):
        rows(Event, alias).create(at=NOON, kind="backup", subject="b1", data={"number": number})


def totals(carried: Carried) -> tuple[int, int, int, int]:
    """Return the sums of what became of the rows."""
    tables = carried.tables
    return (
        carried.inserted,
        carried.updated,
        sum(table.unchanged for table in tables),
        sum(table.renumbered for table in tables),
    )


@both
class TestCarrying:
    """`carry`."""

    def test_empty_target__gets_everything_with_its_numbers(self, pair: Pair) -> None:
        """The copy's history is the live one's."""
        history(pair.live)
        carried = carry(pair.live, pair.copy)

        assert pair.says(pair.live) == pair.says(pair.copy)
        assert (13, 0, 0, 0) == totals(carried)
        assert () == carried.missing
        for model in MODELS:
            assert set(rows(model, pair.live).values_list("pk")) == set(rows(model, pair.copy).values_list("pk"))

    def test_twice__changes_nothing_more(self, pair: Pair) -> None:
        """A run that was killed is done again by the next one."""
        history(pair.live)
        carry(pair.live, pair.copy)
        carried = carry(pair.live, pair.copy)

        assert (0, 0, 13, 0) == totals(carried)
        assert pair.says(pair.live) == pair.says(pair.copy)
