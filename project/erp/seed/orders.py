"""Purchase and sales orders."""

from __future__ import annotations

from array import array
from datetime import datetime, timedelta
from typing import Any

from project.erp.models import Partner
from project.erp.models.orders import Order
from project.erp.seed.people import partner_count, partner_countries, partner_kind
from project.erp.seed.plan import Plan, fixed, happens, random_uuid
from project.erp.seed.words import RATES

ORDER_COLUMNS = (
    "id",
    "number",
    "public_id",
    "partner_id",
    "status",
    "ordered_on",
    "due_on",
    "currency",
    "exchange_rate",
    "total",
    "note",
    "created_by_id",
    "created_at",
)
LINE_COLUMNS = (
    "id",
    "order_id",
    "position",
    "item_id",
    "quantity",
    "unit_price",
    "discount_percent",
    "line_total",
)

Row = tuple[Any, ...]
Wanted = list[tuple[int, int]]
"""Items (from 0) and thousandths of their unit."""

_OPEN = (Order.Status.DRAFT, Order.Status.CONFIRMED, Order.Status.CONFIRMED, Order.Status.CANCELLED)
_DISCOUNTS = (0, 0, 0, 0, 250, 500, 1000)
_OTHER_SIDE = {"PO": Partner.Kind.CUSTOMER, "SO": Partner.Kind.SUPPLIER}


class OrderBook:
    """Makes the orders of one kind, `PO` or `SO`; `prices` are ten-thousandths of a euro by item."""

    def __init__(self, prefix: str, plan: Plan, prices: array[int]) -> None:
        self.prefix = prefix
        self.users = plan.users
        self.prices = prices
        self.chance = plan.chance(f"orders {prefix}")
        self.currencies = [country.currency for country in partner_countries(plan)]
        partners = range(1, partner_count(plan) + 1)
        self.partners = [number for number in partners if partner_kind(number) != _OTHER_SIDE[prefix]]
        self.order_count = 0
        self.line_count = 0
        self._orders: list[Row] = []
        self._lines: list[Row] = []

    def take(self) -> tuple[list[Row], list[Row]]:
        """Return the orders and lines made since the last call."""
        taken = self._orders, self._lines
        self._orders, self._lines = [], []
        return taken

    def write_done(self, wanted: Wanted, at: datetime) -> int:
        """Make an order that was delivered `at` that time; return its key."""
        due_on = at.date() if happens(self.chance, 0.8) else None
        ordered_at = at - timedelta(days=1 + self.chance.random() * 14)
        return self._write(Order.Status.DONE, wanted, ordered_at, due_on)

    def write_open(self, wanted: Wanted, at: datetime) -> int:
        """Make an order that nothing has been delivered for yet, or never will be; return its key."""
        due_on = at.date() + timedelta(days=self.chance.randint(3, 40))
        return self._write(self.chance.choice(_OPEN), wanted, at, due_on)

    def _write(self, status: Order.Status, wanted: Wanted, ordered_at: datetime, due_on: Any) -> int:
        chance = self.chance
        self.order_count += 1
        key = self.order_count
        partner = chance.choice(self.partners)
        currency = self.currencies[partner - 1]
        total = sum(
            self._write_line(key, position, item, quantity, RATES[currency])
            for position, (item, quantity) in enumerate(wanted, start=1)
        )
        self._orders.append(
            (
                key,
                f"{self.prefix}-{ordered_at.year}-{key:07d}",
                random_uuid(chance),
                partner,
                status.value,
                ordered_at.date(),
                due_on,
                currency,
                fixed(RATES[currency], 8),
                fixed(total, 2),
                "",
                1 + int(chance.random() * self.users),
                ordered_at,
            )
        )
        return key

    def _write_line(self, order: int, position: int, item: int, quantity: int, rate: int) -> int:
        """Make a line in the order's currency; return its total in hundredths."""
        self.line_count += 1
        unit_price = self.prices[item] * RATES["EUR"] // rate
        discount = self.chance.choice(_DISCOUNTS)
        total = line_hundredths(quantity, unit_price, discount)
        self._lines.append(
            (
                self.line_count,
                order,
                position,
                item + 1,
                fixed(quantity, 3),
                fixed(unit_price, 4),
                fixed(discount, 2),
                fixed(total, 2),
            )
        )
        return total


def line_hundredths(quantity: int, unit_price: int, discount: int) -> int:
    """Return thousandths times ten-thousandths, less hundredths of a percent, rounded half up to hundredths."""
    return (quantity * unit_price * (10_000 - discount) * 2 + 10**9) // (2 * 10**9)
