"""Model checks that every ERP gets."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from erp_backup.core.figures import Measurement
from erp_backup.modelchecks.builtin import builtins
from project.erp.models import Category, Item, StockLedgerEntry, User
from tests.modelchecks.erp import Erp
from tests.support.host import write_host_project

NAMES = ["erp_backup.rows", "erp_backup.orphans", "erp_backup.unapplied_migrations", "erp_backup.active_users"]


def measured(erp: Erp) -> dict[str, Measurement]:
    """Return the built-in measurements, by the last part of their names; all must have worked."""
    results = erp.measure(*builtins("default"))
    assert [] == [result.error for result in results if result.error]
    return {result.check.partition(".")[2]: result for result in results}


@pytest.mark.parametrize("fixture", ["erp", "pg_erp"])
def test_demo__measures_clean(request: pytest.FixtureRequest, fixture: str) -> None:
    """Rows of every table, no orphans, no unapplied migrations, the active users: on both databases."""
    erp: Erp = request.getfixturevalue(fixture)
    erp.item("a").tags.create(name="blue")
    User.objects.using(erp.alias).create(email="a@example.org")
    User.objects.using(erp.alias).create(email="b@example.org", is_active=False)

    results = measured(erp)

    rows = results["rows"].rows or {}
    assert ["1", "2", "1", "0"] == [rows[f"erp.{name}"] for name in ("Item", "User", "Item_tags", "Partner")]
    assert {"erp_backup.Backup", "sessions.Session", "admin.LogEntry", "auth.Permission"} <= rows.keys()
    assert ["0", "0", "1"] == [results[name].value for name in ("orphans", "unapplied_migrations", "active_users")]
    assert NAMES == [check.name for check in builtins("default")]


def test_keys_that_point_nowhere__are_named_on_sqlite(erp: Erp) -> None:
    """Somebody deleted an item with the sqlite3 program."""
    item, other = erp.item("a"), erp.item("b")
    erp.move(item, "1", "2")
    erp.move(other, "3")
    with connections[erp.alias].constraint_checks_disabled():
        Item.objects.using(erp.alias).filter(pk=item.pk)._raw_delete(erp.alias)

    orphans = measured(erp)["orphans"]

    lost = StockLedgerEntry.objects.using(erp.alias).filter(item_id=item.pk).values_list("pk", flat=True)
    assert {f"erp.StockLedgerEntry.item {pk}": f"points at {item.pk}" for pk in lost} == orphans.rows
    assert "2" == orphans.value


def test_empty_key__is_no_orphan(erp: Erp) -> None:
    """NULL points nowhere on purpose."""
    Category.objects.using(erp.alias).create(code="R", name="Root", parent=None)

    assert "0" == measured(erp)["orphans"].value


def test_migration_that_was_not_applied__is_named(erp: Erp) -> None:
    """The code is newer than the database."""
    MigrationRecorder(connections[erp.alias]).record_unapplied("sessions", "0001_initial")

    assert {"sessions.0001_initial": ""} == measured(erp)["unapplied_migrations"].rows


def test_table_that_is_gone__is_missing_from_the_rows(erp: Erp) -> None:
    """The other models are still counted."""
    with connections[erp.alias].cursor() as cursor:
        cursor.execute("DROP TABLE attachments")

    rows = measured(erp)["rows"].rows or {}

    assert "erp.Attachment" not in rows
    assert "0" == rows["erp.Item"]


MODELS = """
    from django.db import models

    class Product(models.Model):
        name = models.CharField(max_length=100)
        price = models.DecimalField(max_digits=9, decimal_places=2)

    class Machine(Product):
        power = models.IntegerField()

    class Cheap(Product):
        class Meta:
            proxy = True

    class Report(models.Model):
        product = models.ForeignKey(Product, models.DO_NOTHING)
        class Meta:
            managed = False
            db_table = "a_view"

    class Note(models.Model):
        product = models.ForeignKey(Product, models.DO_NOTHING, db_constraint=False)

    class Swapped(models.Model):
        class Meta:
            swappable = "SHOP_SWAPPED"
    """
PROGRAM = """
    import json
    from django.core.management import call_command
    from django.db import connections
    from shop.models import Machine, Note
    from erp_backup.core.clock import SystemClock
    from erp_backup.modelchecks.builtin import builtins
    from erp_backup.modelchecks.runner import measure

    Machine.objects.create(name="a", price=1, power=1)
    with connections["default"].constraint_checks_disabled():
        Note.objects.create(product_id=99)
    clock = SystemClock()
    results = measure(builtins("default"), alias="default", database="default", now=clock.now(), clock=clock)
    print(json.dumps({r.check: [r.value, r.rows, r.error] for r in results}))
    """


def test_models_of_all_sorts__are_handled(tmp_path: Path, pg_database: dict[str, Any]) -> None:
    """Children, proxies, views, swapped models, and keys without a constraint, which PostgreSQL does not watch over."""
    host = write_host_project(
        tmp_path, databases={"default": pg_database}, extra_settings='SHOP_SWAPPED = "shop.Product"'
    )
    (tmp_path / "site" / "shop" / "models.py").write_text(textwrap.dedent(MODELS))
    host.manage("makemigrations", "shop", "--verbosity=0")
    host.migrate()

    results = json.loads(host.manage("shell", "--verbosity=0", "-c", textwrap.dedent(PROGRAM)).stdout)

    shop = {label: count for label, count in results["erp_backup.rows"][1].items() if label.startswith("shop.")}
    assert {"shop.Product": "1", "shop.Machine": "1", "shop.Note": "1"} == shop
    assert ["1", {"shop.Note.product 1": "points at 99"}, ""] == results["erp_backup.orphans"]
    assert ["0", None, ""] == results["erp_backup.unapplied_migrations"]
