"""Purchase and sales orders with their lines."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.db import models
from django.utils import timezone

from project.erp.models import fields
from project.erp.models.catalog import Item
from project.erp.models.partners import Partner

CENT = Decimal("0.01")


class Order(models.Model):
    """What both kinds of order have in common; `total` is the sum of the lines' totals."""

    class Status(models.TextChoices):
        """How far the order has come."""

        DRAFT = "DRAFT", "Draft"
        CONFIRMED = "CONFIRMED", "Confirmed"
        DONE = "DONE", "Done"
        CANCELLED = "CANCELLED", "Cancelled"

    number = models.CharField(max_length=30, unique=True)
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="%(class)ss")
    status = models.CharField(max_length=20, choices=Status, default=Status.DRAFT, db_default=Status.DRAFT)
    ordered_on = models.DateField(default=timezone.localdate)
    due_on = models.DateField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="EUR", db_default="EUR")
    exchange_rate = models.DecimalField(max_digits=18, decimal_places=8, default=Decimal(1), db_default=Decimal(1))
    total = models.DecimalField(
        max_digits=16, decimal_places=2, default=Decimal(0), db_default=Decimal(0), editable=False
    )
    note = models.TextField(default="", db_default="", blank=True)
    created_by = models.ForeignKey(
        "erp.User", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="%(class)ss"
    )
    created_at = fields.created_at()

    class Meta:
        abstract = True
        ordering = ["-ordered_on", "-number"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(due_on__isnull=True) | models.Q(due_on__gte=models.F("ordered_on")),
                name="%(class)s_due_after_order",
            ),
            models.CheckConstraint(condition=models.Q(exchange_rate__gt=0), name="%(class)s_exchange_rate_gt_0"),
        ]
        indexes = [
            models.Index(fields=["-ordered_on", "-number"], name="%(class)s_newest"),
            models.Index(
                fields=["due_on"],
                condition=models.Q(status__in=["DRAFT", "CONFIRMED"]),
                name="%(class)s_open_due",
            ),
        ]

    def __str__(self) -> str:
        return self.number


class OrderLine(models.Model):
    """A quantity of one item at a price; `line_total` is computed when the line is saved."""

    position = models.PositiveIntegerField()
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="%(class)ss")
    quantity = fields.quantity()
    unit_price = fields.unit_cost()
    discount_percent = models.DecimalField(max_digits=5, decimal_places=2, default=Decimal(0), db_default=Decimal(0))
    line_total = models.DecimalField(
        max_digits=16, decimal_places=2, default=Decimal(0), db_default=Decimal(0), editable=False
    )

    class Meta:
        abstract = True
        ordering = ["order", "position"]
        constraints = [
            models.UniqueConstraint(fields=["order", "position"], name="%(class)s_position"),
            models.CheckConstraint(condition=models.Q(quantity__gt=0), name="%(class)s_quantity_gt_0"),
            models.CheckConstraint(
                condition=models.Q(discount_percent__gte=0, discount_percent__lte=100),
                name="%(class)s_discount_0_to_100",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.item}"

    def save(self, *args: Any, **options: Any) -> None:
        """Save the line with its total."""
        self.line_total = line_total(self.quantity, self.unit_price, self.discount_percent)
        super().save(*args, **options)


class PurchaseOrder(Order):
    """Goods we order from a supplier."""

    class Meta(Order.Meta):
        db_table = "purchase_orders"


class PurchaseOrderLine(OrderLine):
    """One position of a purchase order."""

    order = models.ForeignKey(PurchaseOrder, on_delete=models.CASCADE, related_name="lines")

    class Meta(OrderLine.Meta):
        db_table = "purchase_order_lines"


class SalesOrder(Order):
    """Goods a customer orders from us."""

    customer_reference = models.CharField(max_length=60, default="", db_default="", blank=True)

    class Meta(Order.Meta):
        db_table = "sales_orders"


class SalesOrderLine(OrderLine):
    """One position of a sales order."""

    order = models.ForeignKey(SalesOrder, on_delete=models.CASCADE, related_name="lines")

    class Meta(OrderLine.Meta):
        db_table = "sales_order_lines"


def line_total(quantity: Decimal, unit_price: Decimal, discount_percent: Decimal) -> Decimal:
    """Return what a line costs, rounded half up to the cent."""
    return (quantity * unit_price * (100 - discount_percent) / 100).quantize(CENT, ROUND_HALF_UP)
