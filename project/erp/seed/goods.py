"""Warehouses, categories, tags, items and who supplies them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import time, timedelta
from random import Random
from typing import Any

from project.erp.models import Item, Partner
from project.erp.seed.people import partner_count, partner_kind
from project.erp.seed.plan import HISTORY, Plan, fixed, happens
from project.erp.seed.words import CATEGORIES, COLOURS, COUNTRIES, QUALITIES, SIZES, TAGS, WAREHOUSES

WAREHOUSE_COLUMNS = (
    "id",
    "code",
    "name",
    "city",
    "country",
    "time_zone",
    "latitude",
    "longitude",
    "opens_at",
    "closes_at",
    "is_active",
)
CATEGORY_COLUMNS = ("id", "code", "name", "parent_id")
TAG_COLUMNS = ("id", "name", "colour")
ITEM_COLUMNS = (
    "id",
    "sku",
    "name",
    "description",
    "barcode",
    "status",
    "unit",
    "category_id",
    "price",
    "cost",
    "on_hand",
    "reorder_level",
    "attributes",
    "launched_on",
    "created_at",
    "updated_at",
)
ITEM_TAG_COLUMNS = ("id", "item_id", "tag_id")
ITEM_SUPPLIER_COLUMNS = ("id", "item_id", "partner_id", "supplier_sku", "price", "lead_time", "valid_from")

_STATUSES = (Item.Status.ACTIVE, Item.Status.DRAFT, Item.Status.ON_HOLD, Item.Status.DISCONTINUED)
_STATUS_WEIGHTS = (86, 4, 3, 7)


class ItemFacts:
    """What the stock movements need to know of each item, in a few bytes per item; filled by `item_rows`."""

    def __init__(self) -> None:
        self.costs = array("q")  # ten-thousandths
        self.prices = array("q")  # hundredths
        self.divisible = bytearray()
        self.movable = bytearray()

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, *, cost: int, price: int, divisible: bool, movable: bool) -> None:
        """Note the next item's facts."""
        self.costs.append(cost)
        self.prices.append(price)
        self.divisible.append(divisible)
        self.movable.append(movable)


def warehouse_rows() -> Iterator[tuple[Any, ...]]:
    """Yield the warehouses."""
    for number, warehouse in enumerate(WAREHOUSES, start=1):
        yield number, *warehouse, time(6 + number % 3), time(17, 30), True


def category_rows() -> Iterator[tuple[Any, ...]]:
    """Yield the tree of categories: a root, branches, leaves; parents come first."""
    yield 1, "ALL", "All goods", None
    number = 1
    for branch_code, branch_name, leaves in CATEGORIES:
        number += 1
        branch = number
        yield branch, branch_code, branch_name, 1
        for code, name, _unit, _goods in leaves:
            number += 1
            yield number, code, name, branch


def tag_rows() -> Iterator[tuple[Any, ...]]:
    """Yield the tags."""
    for number, tag in enumerate(TAGS, start=1):
        yield number, *tag


def _leaves() -> list[tuple[int, str, str, tuple[str, ...]]]:
    """Return key, code, unit and goods of the categories that hold items."""
    keys = {code: key for key, code, _name, _parent in category_rows()}
    return [(keys[code], code, unit, goods) for _c, _n, leaves in CATEGORIES for code, _name, unit, goods in leaves]


def item_rows(plan: Plan, facts: ItemFacts) -> Iterator[tuple[Any, ...]]:
    """Yield the items with nothing on hand yet, and note their facts."""
    chance = plan.chance("items")
    leaves = _leaves()
    for number in range(1, plan.items + 1):
        category, code, unit, goods = chance.choice(leaves)
        # The first item is always for sale, so that even the smallest demo has stock to move.
        status = Item.Status.ACTIVE if number == 1 else chance.choices(_STATUSES, _STATUS_WEIGHTS)[0]
        cost = int(10 ** chance.uniform(3.5, 6.8))
        price = cost * chance.randint(115, 240) // 10_000
        facts.add(cost=cost, price=price, divisible=unit != Item.Unit.PIECE, movable=status != Item.Status.DRAFT)
        created_at = plan.since + chance.random() * HISTORY / 8
        yield (
            number,
            f"{code}-{number:06d}",
            f"{chance.choice(goods)} {chance.choice(QUALITIES)} {chance.choice(SIZES)}",
            _description(chance),
            _barcode(number) if happens(chance, 0.7) else "",
            status.value,
            unit,
            category,
            fixed(price, 2),
            fixed(cost, 4),
            fixed(0, 3),
            fixed(chance.randrange(0, 40) * 1000, 3),
            _attributes(chance),
            created_at.date() + timedelta(days=30) if happens(chance, 0.6) else None,
            created_at,
            created_at,
        )


def item_tag_rows(plan: Plan) -> Iterator[tuple[int, int, int]]:
    """Yield none to three tags for every item."""
    chance = plan.chance("item tags")
    key = 0
    for item in range(1, plan.items + 1):
        for tag in sorted(chance.sample(range(1, len(TAGS) + 1), chance.choice((0, 1, 1, 2, 3)))):
            key += 1
            yield key, item, tag


def item_supplier_rows(plan: Plan, facts: ItemFacts) -> Iterator[tuple[Any, ...]]:
    """Yield one or two suppliers for every item; call it after the items were made."""
    chance = plan.chance("item suppliers")
    suppliers = [n for n in range(1, partner_count(plan) + 1) if partner_kind(n) != Partner.Kind.CUSTOMER]
    key = 0
    for item in range(1, plan.items + 1):
        for supplier in sorted(chance.sample(suppliers, chance.choice((1, 1, 2)))):
            key += 1
            yield (
                key,
                item,
                supplier,
                f"{chance.choice('ABCDEFGH')}{chance.randrange(10**6):06d}",
                fixed(facts.costs[item - 1] * chance.randint(92, 104) // 100, 4),
                timedelta(days=chance.randint(1, 45), hours=chance.choice((0, 0, 12))),
                (plan.since + timedelta(days=chance.randint(0, 300))).date(),
            )


def _description(chance: Random) -> str:
    if happens(chance, 0.4):
        return ""
    city = chance.choice(chance.choice(COUNTRIES).cities)
    return f"Made in {city}.\nKeep dry; {chance.randint(5, 35)} °C at most.\tLot-tracked: \\N"


def _barcode(number: int) -> str:
    """Return an EAN-13 of the range for a company's own use, with a right check digit."""
    digits = f"200{number:09d}"
    total = sum(int(digit) * (3 if position % 2 else 1) for position, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


def _attributes(chance: Random) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "colour": chance.choice(COLOURS),
        "weight_kg": chance.randrange(1, 40_000) / 1000,
        "origin": chance.choice(COUNTRIES).code,
    }
    if happens(chance, 0.25):
        attributes["box"] = {"count": chance.choice((6, 12, 24)), "mm": [chance.randint(50, 600) for _ in range(3)]}
    if happens(chance, 0.1):
        attributes["expires"] = None
    return attributes
