"""Posting stock movements."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from project.erp.models import Category, Item, StockLedgerEntry, StockLevel, StockTransaction, Tag, User, Warehouse
from project.erp.stock import Movement, post

pytestmark = pytest.mark.django_db

Kind = StockTransaction.Kind


@pytest.fixture
def item() -> Item:
    """Something to move."""
    category = Category.objects.create(code="C", name="Category")
    return Item.objects.create(sku="I-1", name="Kopi Gayo", category=category)


@pytest.fixture
def warehouses() -> list[Warehouse]:
    """Two places."""
    return [Warehouse.objects.create(code=code, name=code, city="Łódź", country="PL") for code in ("W1", "W2")]


def move(kind: Kind, item: Item, *changes: tuple[Warehouse, str]) -> StockTransaction:
    """Post one transaction with these changes."""
    number = StockTransaction.objects.count() + 1
    moved = StockTransaction.objects.create(number=f"T-{number}", kind=kind)
    post(
        moved,
        [
            Movement(item=item, warehouse=warehouse, quantity_change=Decimal(change), unit_cost=Decimal(2))
            for warehouse, change in changes
        ],
    )
    return moved


def balances(item: Item) -> tuple[Decimal, dict[str, Decimal]]:
    """Return what is on hand, in all and by warehouse."""
    item.refresh_from_db()
    levels = StockLevel.objects.filter(item=item).values_list("warehouse__code", "quantity")
    return item.on_hand, dict(levels)


def test_movements__change_ledger_and_balances_together(item: Item, warehouses: list[Warehouse]) -> None:
    """After a receipt, a transfer and an issue, item, warehouses and ledger agree."""
    first, second = warehouses
    move(Kind.RECEIPT, item, (first, "10.5"))
    move(Kind.TRANSFER, item, (first, "-4"), (second, "4"))
    move(Kind.ISSUE, item, (second, "-1.25"))

    assert (Decimal("9.250"), {"W1": Decimal("6.500"), "W2": Decimal("2.750")}) == balances(item)
    assert [Decimal("10.5"), Decimal(-4), Decimal(4), Decimal("-1.25")] == list(
        StockLedgerEntry.objects.order_by("pk").values_list("quantity_change", flat=True)
    )


def test_more_out_than_in__is_refused(item: Item, warehouses: list[Warehouse]) -> None:
    """A warehouse cannot give what it does not have, even if another has it; nothing is written."""
    first, second = warehouses
    move(Kind.RECEIPT, item, (first, "10"))
    with pytest.raises(ValidationError, match="too little"):
        move(Kind.ISSUE, item, (second, "-1"))

    assert (Decimal(10), {"W1": Decimal(10)}) == balances(item)
    assert StockLedgerEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.RECEIPT, ["-1"]),
        (Kind.RETURN, ["1", "-1"]),
        (Kind.ISSUE, ["1"]),
        (Kind.TRANSFER, ["2", "-1"]),
        (Kind.ADJUSTMENT, ["0"]),
        (Kind.ADJUSTMENT, []),
    ],
)
def test_senseless_movements__are_refused(
    kind: Kind, changes: list[str], item: Item, warehouses: list[Warehouse]
) -> None:
    """Each kind moves stock its own way, and each moves something."""
    with pytest.raises(ValidationError):
        move(kind, item, *((warehouses[0], change) for change in changes))

    assert (Decimal(0), {}) == balances(item)


def test_history__cannot_be_deleted(item: Item, warehouses: list[Warehouse]) -> None:
    """What has moved stays: item, warehouse and transaction are protected by the ledger."""
    moved = move(Kind.RECEIPT, item, (warehouses[0], "1"))
    for thing in (item, warehouses[0], moved):
        with pytest.raises(ProtectedError):
            thing.delete()

    assert StockLedgerEntry.objects.count() == 1


def test_addresses_that_differ_in_case__are_the_same_user() -> None:
    """The database holds one user per address, in whatever case, and finds it in any."""
    user = User.objects.create_user("Anna.Müller@example.com", "secret")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("anna.müller@example.com")

    assert user == User.objects.get_by_natural_key("ANNA.Müller@EXAMPLE.com")


def test_user_without_an_address__is_refused() -> None:
    """An empty address names nobody."""
    with pytest.raises(ValueError, match="address"):
        User.objects.create_user("")


def test_names__are_what_people_read(item: Item, warehouses: list[Warehouse]) -> None:
    """Every model shows itself by a name."""
    user = User.objects.create_user("x@example.com", full_name="Żaneta Gołąb")
    names = [str(item), str(warehouses[0]), str(user), user.get_short_name(), str(Tag(name="新商品"))]

    assert ["I-1 Kopi Gayo", "W1 W1", "Żaneta Gołąb", "Żaneta", "新商品"] == names
