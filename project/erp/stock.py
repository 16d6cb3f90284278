"""Moving stock: the one place that writes ledger entries and keeps the balances right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction as database_transaction
from django.db.models import F

from project.erp.models import Item, StockLedgerEntry, StockLevel, StockTransaction, Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A quantity of an item that comes into (positive) or leaves (negative) a warehouse."""

    item: Item
    warehouse: Warehouse
    quantity_change: Decimal
    unit_cost: Decimal


def check_movements(kind: str, movements: Iterable[Movement]) -> None:
    """Raise ValidationError when movements of this kind make no sense.

    Receipts and returns only come in, issues only leave, a transfer sums to zero for each item.
    """
    movements = list(movements)
    changes = [movement.quantity_change for movement in movements]
    if not movements:
        raise ValidationError("A stock transaction moves at least one item.")
    if any(change == 0 for change in changes):
        raise ValidationError("A movement of nothing is no movement.")
    if kind in {StockTransaction.Kind.RECEIPT, StockTransaction.Kind.RETURN} and min(changes) < 0:
        raise ValidationError("Receipts and returns only bring stock in: no negative quantity.")
    if kind == StockTransaction.Kind.ISSUE and max(changes) > 0:
        raise ValidationError("An issue only takes stock out: no positive quantity.")
    if kind == StockTransaction.Kind.TRANSFER and any(_sums(movements).values()):
        raise ValidationError("A transfer takes out of one warehouse what it brings into another.")


def check_available(movements: Iterable[Movement]) -> None:
    """Raise ValidationError when a warehouse does not have what is to leave it."""
    wanted: defaultdict[tuple[int, int], Decimal] = defaultdict(Decimal)
    for movement in movements:
        wanted[movement.item.pk, movement.warehouse.pk] += movement.quantity_change
    levels = StockLevel.objects.filter(item_id__in={item for item, _warehouse in wanted})
    available = {(level.item_id, level.warehouse_id): level.quantity for level in levels}
    for movement in movements:
        key = movement.item.pk, movement.warehouse.pk
        if available.get(key, Decimal(0)) + wanted[key] < 0:
            raise ValidationError(f"{movement.warehouse} has too little of {movement.item}.")


def post(transaction: StockTransaction, movements: Iterable[Movement]) -> None:
    """Write the ledger entries of a saved transaction and bring the balances up to date, all or nothing.

    Raises ValidationError when the movements make no sense or a warehouse has too little.
    """
    movements = list(movements)
    check_movements(transaction.kind, movements)
    with database_transaction.atomic():
        # Locked in the order of their keys, so that two postings wait for each other instead of deadlocking.
        list(Item.objects.select_for_update().filter(pk__in={m.item.pk for m in movements}).order_by("pk"))
        check_available(movements)
        StockLedgerEntry.objects.bulk_create(
            StockLedgerEntry(
                transaction=transaction,
                item=movement.item,
                warehouse=movement.warehouse,
                quantity_change=movement.quantity_change,
                unit_cost=movement.unit_cost,
                created_at=transaction.created_at,
            )
            for movement in movements
        )
        _raise_balances(movements)


def _raise_balances(movements: list[Movement]) -> None:
    # Incoming first: a level may not fall below zero on its way to a sum that does not.
    for movement in sorted(movements, key=lambda movement: -movement.quantity_change):
        StockLevel.objects.get_or_create(item=movement.item, warehouse=movement.warehouse)
        level = StockLevel.objects.filter(item=movement.item, warehouse=movement.warehouse)
        level.update(quantity=F("quantity") + movement.quantity_change)
    for item_id, change in _sums(movements).items():
        Item.objects.filter(pk=item_id).update(on_hand=F("on_hand") + change)


def _sums(movements: Iterable[Movement]) -> dict[int, Decimal]:
    sums: defaultdict[int, Decimal] = defaultdict(Decimal)
    for movement in movements:
        sums[movement.item.pk] += movement.quantity_change
    return dict(sums)
