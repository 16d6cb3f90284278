"""Two years of stock movements, oldest first, never more out than there is."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from project.erp.models import StockTransaction
from project.erp.seed.goods import ItemFacts
from project.erp.seed.orders import OrderBook
from project.erp.seed.plan import HISTORY, Plan, fixed, happens
from project.erp.seed.words import CARRIERS, NOTES, WAREHOUSES

TRANSACTION_COLUMNS = (
    "id",
    "number",
    "kind",
    "purchase_order_id",
    "sales_order_id",
    "note",
    "details",
    "created_by_id",
    "created_at",
)
ENTRY_COLUMNS = (
    "id",
    "transaction_id",
    "item_id",
    "warehouse_id",
    "quantity_change",
    "unit_cost",
    "created_at",
)
LEVEL_COLUMNS = ("id", "item_id", "warehouse_id", "quantity")

Row = tuple[Any, ...]
Move = tuple[int, int, int]
"""Item (from 0), warehouse (from 0), change in thousandths."""

_KINDS = StockTransaction.Kind
_WEIGHTS = ((0.30, _KINDS.RECEIPT), (0.80, _KINDS.ISSUE), (0.92, _KINDS.TRANSFER), (0.97, _KINDS.ADJUSTMENT))
_PREFIXES = {
    _KINDS.RECEIPT: "GR",
    _KINDS.ISSUE: "GI",
    _KINDS.TRANSFER: "TR",
    _KINDS.ADJUSTMENT: "ADJ",
    _KINDS.RETURN: "RET",
}
_CHUNK = 5000


class Movements:
    """Moves stock by chance and keeps what every warehouse has of every item."""

    def __init__(self, plan: Plan, facts: ItemFacts) -> None:
        self.plan = plan
        self.facts = facts
        self.chance = plan.chance("movements")
        self.levels = array("q", bytes(8 * len(facts) * len(WAREHOUSES)))
        self.purchases = OrderBook("PO", plan, facts.costs)
        self.sales = OrderBook("SO", plan, array("q", (price * 100 for price in facts.prices)))
        self.entry_count = 0

    def chunks(self) -> Iterator[tuple[list[Row], list[Row]]]:
        """Yield all transactions and their ledger entries, some thousand transactions at a time."""
        transactions: list[Row] = []
        entries: list[Row] = []
        for number in range(1, self.plan.transactions + 1):
            self._transaction(number, transactions, entries)
            if number % _CHUNK == 0 or number == self.plan.transactions:
                yield transactions, entries
                transactions, entries = [], []

    def level_rows(self) -> Iterator[Row]:
        """Yield what lies where now, without what was never there or has gone."""
        key = 0
        for index, quantity in enumerate(self.levels):
            if quantity:
                key += 1
                item, warehouse = divmod(index, len(WAREHOUSES))
                yield key, item + 1, warehouse + 1, fixed(quantity, 3)

    def _transaction(self, number: int, transactions: list[Row], entries: list[Row]) -> None:
        chance = self.chance
        at = self._moment(number)
        kind, moves = self._kind_and_moves()
        purchase, sale = self._orders(kind, moves, at)
        transactions.append(
            (
                number,
                f"{_PREFIXES[kind]}-{at.year}-{number:08d}",
                kind.value,
                purchase,
                sale,
                chance.choice(NOTES) if happens(chance, 0.05) else "",
                self._details(kind),
                1 + int(chance.random() * self.plan.users),
                at,
            )
        )
        self._book(entries, number, moves, at)

    def _orders(self, kind: StockTransaction.Kind, moves: list[Move], at: datetime) -> tuple[int | None, int | None]:
        """Return the keys of the purchase and the sales order behind the moves; mostly there is none."""
        wanted = [(item, abs(change)) for item, _warehouse, change in moves]
        if happens(self.chance, 0.02):
            self.sales.write_open(wanted, at)
        if kind == _KINDS.RECEIPT and happens(self.chance, 0.25):
            return self.purchases.write_done(wanted, at), None
        if kind == _KINDS.ISSUE and happens(self.chance, 0.35):
            return None, self.sales.write_done(wanted, at)
        return None, None

    def _moment(self, number: int) -> datetime:
        """Return when it happened: in order, and more often of late, as in a company that grows."""
        share = (number - self.chance.random()) / self.plan.transactions
        return self.plan.until - HISTORY * (1 - share) ** 2

    def _kind_and_moves(self) -> tuple[StockTransaction.Kind, list[Move]]:
        draw = self.chance.random()
        kind = next((kind for bound, kind in _WEIGHTS if draw < bound), _KINDS.RETURN)
        moves = self._moves(kind)
        return (kind, moves) if moves else (_KINDS.RECEIPT, self._incoming(200))

    def _moves(self, kind: StockTransaction.Kind) -> list[Move]:
        if kind == _KINDS.RECEIPT:
            return self._incoming(200)
        if kind == _KINDS.RETURN:
            return self._incoming(5)
        if kind == _KINDS.ADJUSTMENT and happens(self.chance, 0.5):
            return self._incoming(3)
        if kind == _KINDS.TRANSFER:
            return self._transferred()
        return self._outgoing()

    def _incoming(self, most: int) -> list[Move]:
        warehouse = self._warehouse()
        return [(item, warehouse, self._quantity(item, most)) for item in self._items()]

    def _outgoing(self) -> list[Move]:
        """Return what can leave one warehouse; empty when nothing that is wanted lies there."""
        warehouse = self._warehouse()
        moves = []
        for item in self._items():
            available = self.levels[item * len(WAREHOUSES) + warehouse]
            if available:
                moves.append((item, warehouse, -min(available, self._quantity(item, 30))))
        return moves

    def _transferred(self) -> list[Move]:
        """Return what leaves one warehouse and comes into another."""
        out = self._outgoing()
        shift = 1 + int(self.chance.random() * (len(WAREHOUSES) - 1))
        return [
            move
            for item, source, change in out
            for move in ((item, source, change), (item, (source + shift) % len(WAREHOUSES), -change))
        ]

    def _items(self) -> list[int]:
        """Return up to five items that may move; the first ones are the most wanted."""
        chance, count, movable = self.chance.random, len(self.facts), self.facts.movable
        items = {int(count * chance() ** 1.6) for _ in range(1 + int(chance() * 5))}
        return sorted(item for item in items if movable[item]) or [0]

    def _warehouse(self) -> int:
        return int(self.chance.random() * len(WAREHOUSES))

    def _quantity(self, item: int, most: int) -> int:
        """Return thousandths: whole pieces, or any part of what can be divided."""
        if self.facts.divisible[item]:
            return 1 + int(self.chance.random() * most * 1000)
        return 1000 * (1 + int(self.chance.random() * most))

    def _details(self, kind: StockTransaction.Kind) -> dict[str, Any]:
        chance = self.chance
        if kind == _KINDS.ISSUE and happens(chance, 0.5):
            return {"carrier": chance.choice(CARRIERS), "parcels": 1 + int(chance.random() * 4)}
        return {"scanner": f"HH-{int(chance.random() * 40):02d}"} if happens(chance, 0.6) else {}

    def _book(self, entries: list[Row], transaction: int, moves: list[Move], at: datetime) -> None:
        for item, warehouse, change in moves:
            self.levels[item * len(WAREHOUSES) + warehouse] += change
            self.entry_count += 1
            cost = self.facts.costs[item]
            entries.append(
                (self.entry_count, transaction, item + 1, warehouse + 1, fixed(change, 3), fixed(cost, 4), at)
            )
