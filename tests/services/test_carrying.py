"""The history brought from one database to another: all of it or nothing, once or twice, whatever its numbers are."""

from __future__ import annotations

import json
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

    def test_other_numbers_there__rows_found_by_what_they_say(self, pair: Pair) -> None:
        """The copy is older, has rows of its own, and has given the live one's numbers to other rows."""
        history(pair.live)
        other = backup(pair.copy, "b0", size=1)
        known = backup(pair.copy, "b2", status="running", started_at=NOON)
        rows(Copy, pair.copy).create(backup=known, location="local", stored_at=NOON)
        rows(Event, pair.copy).create(at=NOON - timedelta(days=1), kind="old", subject="b0")
        live_first = rows(Backup, pair.live).get(name="b1")
        live_first_number = live_first.pk
        carried = carry(pair.live, pair.copy)

        assert 2 == carried.updated
        says = pair.says(pair.copy)
        assert ["b0", "b1", "b2"] == [name for name, *_ in says["backups"]]
        assert pair.says(pair.live)["copies"] == says["copies"]
        assert pair.says(pair.live)["verifications"] == says["verifications"]
        assert pair.says(pair.live)["findings"] == says["findings"]
        assert pair.says(pair.live)["events"] == says["events"][1:]
        assert other.pk == rows(Backup, pair.copy).get(name="b0").pk
        assert (live_first_number in {other.pk, known.pk}) == (
            live_first_number != rows(Backup, pair.copy).get(name="b1").pk
        )
        again = carry(pair.live, pair.copy)
        assert (0, 0) == (again.inserted, again.updated)

    def test_next_rows__get_numbers_that_are_free(self, pair: Pair) -> None:
        """The sequences stand behind what was brought."""
        history(pair.live)
        rows(Event, pair.live).create(pk=4000, at=NOON, kind="late")
        carry(pair.live, pair.copy)
        added = [rows(Event, pair.copy).create(at=NOON, kind="next"), backup(pair.copy, "next")]

        assert 4001 == added[0].pk
        assert added[1].pk > max(rows(Backup, pair.live).values_list("pk", flat=True))

    def test_equal_rows__as_many_as_there_are(self, pair: Pair) -> None:
        """The same event twice in one microsecond is two events; findings are told apart by their order."""
        for number in range(4):
            rows(Event, pair.live).create(at=NOON, kind="backup", subject="b1", data={"number": number})
        for _ in range(2):
            rows(Event, pair.copy).create(at=NOON, kind="backup", subject="b1")
        carried = carry(pair.live, pair.copy)

        assert (2, 2) == (carried.inserted, carried.updated)
        assert pair.says(pair.live) == pair.says(pair.copy)
        assert 0 == carry(pair.live, pair.copy).updated

    def test_more_than_a_piece__all_of_it(self, pair: Pair) -> None:
        """Rows of one moment stay together, wherever the pieces end."""
        moments = [NOON + timedelta(seconds=number // 3) for number in range(3 * PIECE + 7)]
        rows(Event, pair.live).bulk_create(Event(at=at, kind="k", data={"n": n}) for n, at in enumerate(moments))
        rows(Event, pair.copy).bulk_create(Event(at=at, kind="k") for at in moments[PIECE : 2 * PIECE])
        carried = carry(pair.live, pair.copy)

        assert len(moments) == carried.inserted + carried.updated
        assert pair.says(pair.live) == pair.says(pair.copy)

    def test_failure_midway__nothing_changed(self, pair: Pair) -> None:
        """The last table's rows are refused: the first one's are not there either."""
        history(pair.live)
        table, connection = Event._meta.db_table, connections[pair.copy]
        with connection.cursor() as cursor:
            cursor.execute(_REFUSING[connection.vendor].format(table=table))
        try:
            with pytest.raises(DatabaseError, match="The history could not be carried over"):
                carry(pair.live, pair.copy)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(_ALLOWING[connection.vendor].format(table=table))

        assert {0} == {len(found) for found in pair.says(pair.copy).values()}

    def test_killed_midway__all_or_nothing(self, pair: Pair) -> None:
        """SIGKILL at several moments: the copy has none of it, or after the end all of it."""
        history(pair.live)
        rows(Event, pair.live).bulk_create(
            Event(at=NOON + timedelta(seconds=number), kind="k", subject=str(number)) for number in range(3 * PIECE)
        )
        expected, seen = pair.says(pair.live), []
        for moment in (1, 4, 7, 9, 0):
            _carry_in_child(pair, kill_at=moment)
            seen.append(pair.says(pair.copy))

        assert expected == seen.pop()
        assert all({0} == {len(found) for found in says.values()} for says in seen)

    def test_older_source__its_columns_and_tables_brought_the_rest_said(self, pair: Pair) -> None:
        """The live database's schema may be of an older release of this app, or the copy's."""
        history(pair.live)
        with connections[pair.live].schema_editor() as editor:
            editor.remove_field(Backup, Backup._meta.get_field("release"))
            editor.delete_model(Restore)
        try:
            carried = carry(pair.live, pair.copy)
            back = carry(pair.copy, pair.live)
        finally:
            with connections[pair.live].schema_editor() as editor:
                editor.add_field(Backup, Backup._meta.get_field("release"))
                editor.create_model(Restore)

        assert (
            "The live history has no column erp_backup_backup.release.",
            "The live history has no table erp_backup_restore.",
        ) == carried.missing
        assert {"b1": "", "b2": ""} == dict(rows(Backup, pair.copy).values_list("name", "release"))
        assert 3 == rows(Event, pair.copy).count()
        assert 0 == rows(Restore, pair.copy).count()
        assert 0 == back.inserted
        assert "The restored copy has no table erp_backup_restore." in back.missing


_REFUSING = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END",
    "postgresql": "ALTER TABLE {table} ADD CONSTRAINT refuse CHECK (kind = '') NOT VALID",
}
_ALLOWING = {"sqlite": "DROP TRIGGER refuse", "postgresql": "ALTER TABLE {table} DROP CONSTRAINT refuse"}

_CHILD = """
import json, os, signal, sys
import django
django.setup()
from django.db import connections
from erp_backup.engines.orm import temporary_alias
from erp_backup.services.carrying import carry
entries, kill_at = json.loads(sys.stdin.read())
class Dying:
    writes = 0
    def __call__(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith(("INSERT", "UPDATE")):
            self.writes += 1
            if self.writes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
with temporary_alias(entries[0], purpose="test") as live, temporary_alias(entries[1], purpose="test") as copy:
    with connections[copy].execute_wrapper(Dying()):
        carry(live, copy)
"""


def _carry_in_child(pair: Pair, *, kill_at: int) -> None:
    """Carry in another process, which dies after so many writes; 0: it lives."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps([pair.entries, kill_at]),
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        text=True,
        check=False,
    )

    assert (-signal.SIGKILL if kill_at else 0) == done.returncode


class TestWhere:
    """Which models, and which database."""

    def test_models__are_all_of_the_app(self) -> None:
        """A model that somebody adds must be carried, too."""
        assert set(apps.get_app_config("erp_backup").get_models()) == set(MODELS)

    def test_references__come_after_what_they_refer_to(self) -> None:
        """Numbers are known before they are needed."""
        for number, model in enumerate(MODELS):
            referred = {field.related_model for field in model._meta.concrete_fields if field.is_relation}
            assert referred <= set(MODELS[:number])

    def test_no_router__in_default(self) -> None:
        """The history is where the host's own rows are."""
        assert history_is_in("default")
        assert not history_is_in("archive")

    def test_router__where_it_says(self) -> None:
        """A host may keep the history in a database of its own: a restore of another one leaves it alone."""
        with override_settings(DATABASE_ROUTERS=[ToArchive()]):
            assert history_is_in("archive")
            assert not history_is_in("default")

    def test_same_database__nothing_to_do(self) -> None:
        """Nothing is asked of it."""
        assert Carried() == carry("nowhere", "nowhere")


class ToArchive:
    """A router that keeps our tables apart."""

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        """Send our models to `archive`."""
        return "archive" if model._meta.app_label == "erp_backup" else None
