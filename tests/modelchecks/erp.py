"""The demo ERP's data in a database of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from erp_backup.core.clock import SystemClock
from erp_backup.core.figures import Measurement
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.runner import measure
from project.erp.models import Category, Item, StockLedgerEntry, StockTransaction, Warehouse

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass(kw_only=True)
class Erp:
    """A demo ERP's database behind the alias `alias`; `settings` is its DATABASES entry."""

    alias: str
    settings: dict[str, Any]
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    def warehouse(self, code: str = "W1") -> Warehouse:
        """Return the warehouse of that code, made where there is none."""
        values = {"name": f"Warehouse {code}", "city": "Here", "country": "ID"}
        return Warehouse.objects.using(self.alias).get_or_create(code=code, defaults=values)[0]

    def item(self, name: str, **values: Any) -> Item:
        """Save and return an item."""
        category, _ = Category.objects.using(self.alias).get_or_create(code="C", defaults={"name": "Category"})
        return Item.objects.using(self.alias).create(
            sku=f"SKU-{next(self._numbers)}", name=name, category=category, **values
        )

    def transaction(self, created_at: datetime = NOW) -> StockTransaction:
        """Save and return a transaction."""
        return StockTransaction.objects.using(self.alias).create(
            number=f"T-{next(self._numbers)}", kind="ADJUSTMENT", created_at=created_at
        )

    def move(self, item: Item, *changes: str, warehouse: str = "W1") -> None:
        """Write ledger entries."""
        StockLedgerEntry.objects.using(self.alias).bulk_create(
            StockLedgerEntry(
                transaction=self.transaction(),
                item=item,
                warehouse=self.warehouse(warehouse),
                quantity_change=Decimal(change),
                unit_cost=Decimal("2.5000"),
            )
            for change in changes
        )

    def measure(self, *checks: ModelCheck, now: datetime = NOW, **options: Any) -> tuple[Measurement, ...]:
        """Measure on this database."""
        options.setdefault("clock", SystemClock())
        return measure(checks, alias=self.alias, database="default", now=now, **options)

    def measured(self, check: ModelCheck, now: datetime = NOW) -> Measurement:
        """Return the one measurement of `check`, which must have worked."""
        [measurement] = self.measure(check, now=now)
        assert not measurement.error, measurement.error
        return measurement


def sqlite_settings(path: Path) -> dict[str, Any]:
    """Return the DATABASES entry of an SQLite file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
