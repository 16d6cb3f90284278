"""What a backup of this ERP must prove: the runbook's key figures, and the rules that its stock must obey."""

from __future__ import annotations

from django.db.models import F, Q, Sum
from django.db.models.query import QuerySet

from erp_backup import Balance, Count, Equal, Invariant, Recent, Total, model_check
from project.erp.models import StockLedgerEntry, StockTransaction

Count("users.active", "erp.User", is_active=True, unit="users")
Count("items.active", "erp.Item", status="ACTIVE", unit="items")
Recent("stock.recent", "erp.StockTransaction", "created_at", days=7, unit="transactions")
Balance("stock.balances", "erp.StockLedgerEntry", amount="quantity_change", by="item__name")
Total("stock.value", "erp.StockLedgerEntry", F("quantity_change") * F("unit_cost"), places=2)

# The stored balances are the sums of the movements: by item, and by item and warehouse.
Equal("stock.on_hand", "erp.Item", "on_hand", Sum("ledger_entries__quantity_change"))
Balance("stock.levels", "erp.StockLevel", amount="quantity", by=("item__sku", "warehouse__code"))


@model_check("stock.transfers_balance")
def transfers_balance(using: str) -> Invariant:
    """A transfer takes out of one warehouse what it brings into another."""
    moved = Sum("entries__quantity_change", default=0)
    transfers = StockTransaction.objects.using(using).filter(kind=StockTransaction.Kind.TRANSFER)
    return Invariant(transfers.annotate(moved=moved).filter(~Q(moved=0)))


@model_check("stock.no_orphans")
def no_orphans(using: str) -> QuerySet[StockLedgerEntry]:
    """Every movement belongs to a transaction, an item and a warehouse that exist."""
    entries = StockLedgerEntry.objects.using(using)
    return entries.filter(Q(transaction__id=None) | Q(item__id=None) | Q(warehouse__id=None))
