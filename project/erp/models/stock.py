"""Where stock lies and how it moves."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

from datetime import time
from decimal import Decimal

from django.db import models

from project.erp.models import fields
from project.erp.models.catalog import Item
from project.erp.models.orders import PurchaseOrder, SalesOrder


class Warehouse(models.Model):
    """A place that keeps stock."""

    code = models.CharField(max_length=10, unique=True)
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=100)
    country = models.CharField(max_length=2)
    time_zone = models.CharField(max_length=50, default="UTC", db_default="UTC")
    latitude = models.FloatField(null=True, blank=True)
    longitude = models.FloatField(null=True, blank=True)
    opens_at = models.TimeField(default=time(8))
    closes_at = models.TimeField(default=time(17))
    is_active = models.BooleanField(default=True, db_default=True)

    class Meta:
        db_table = "warehouses"
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(closes_at__gt=models.F("opens_at")), name="warehouses_closes_after_opening"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class StockTransaction(models.Model):
    """One business event that moves stock; its ledger entries say what moved."""

    class Kind(models.TextChoices):
        """Why the stock moves."""

        RECEIPT = "RECEIPT", "Goods receipt"
        ISSUE = "ISSUE", "Goods issue"
        TRANSFER = "TRANSFER", "Transfer between warehouses"
        ADJUSTMENT = "ADJUSTMENT", "Stock-taking adjustment"
        RETURN = "RETURN", "Customer return"

    number = models.CharField(max_length=30, unique=True)
    kind = models.CharField(max_length=20, choices=Kind)
    purchase_order = models.ForeignKey(
        PurchaseOrder, on_delete=models.PROTECT, null=True, blank=True, related_name="stock_transactions"
    )
    sales_order = models.ForeignKey(
        SalesOrder, on_delete=models.PROTECT, null=True, blank=True, related_name="stock_transactions"
    )
    note = models.CharField(max_length=200, default="", db_default="", blank=True)
    details = fields.json_object("Scanner, delivery note, carrier.")
    created_by = models.ForeignKey(
        "erp.User",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="stock_transactions",
    )
    created_at = fields.created_at()

    class Meta:
        db_table = "stock_transactions"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(purchase_order__isnull=True) | models.Q(sales_order__isnull=True),
                name="stock_transactions_one_order",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="stock_transactions_newest"),
            models.Index(
                fields=["created_at"],
                condition=models.Q(kind="ADJUSTMENT"),
                name="stock_transactions_adjusted",
            ),
        ]

    def __str__(self) -> str:
        return self.number


class StockLedgerEntry(models.Model):
    """A quantity of an item that came into (positive) or left (negative) a warehouse; never changed."""

    transaction = models.ForeignKey(StockTransaction, on_delete=models.PROTECT, related_name="entries")
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="ledger_entries")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="ledger_entries")
    quantity_change = fields.quantity()
    unit_cost = fields.unit_cost()
    created_at = fields.created_at()

    class Meta:
        db_table = "stock_ledger"
        ordering = ["-id"]
        verbose_name_plural = "stock ledger entries"
        constraints = [
            models.CheckConstraint(condition=~models.Q(quantity_change=0), name="stock_ledger_moves"),
            models.CheckConstraint(condition=models.Q(unit_cost__gte=0), name="stock_ledger_unit_cost_gte_0"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity_change} of item {self.item_id} in warehouse {self.warehouse_id}"


class StockLevel(models.Model):
    """What one warehouse has of one item: the sum of their ledger entries, kept up to date."""

    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="stock_levels")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="stock_levels")
    quantity = fields.quantity(default=Decimal(0), db_default=Decimal(0))

    class Meta:
        db_table = "stock_levels"
        ordering = ["item", "warehouse"]
        constraints = [
            models.UniqueConstraint(fields=["item", "warehouse"], name="stock_levels_once"),
            models.CheckConstraint(condition=models.Q(quantity__gte=0), name="stock_levels_quantity_gte_0"),
        ]

    def __str__(self) -> str:
        return f"{self.item_id} in {self.warehouse_id}: {self.quantity}"
