"""What the company trades in: items, their categories, tags and suppliers."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.db import models
from django.utils import timezone

from project.erp.models import fields
from project.erp.models.partners import Partner


class Category(models.Model):
    """A branch of the tree that items are sorted into."""

    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=100)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")

    class Meta:
        db_table = "categories"
        ordering = ["code"]
        verbose_name_plural = "categories"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(parent__isnull=True) | ~models.Q(parent=models.F("id")),
                name="categories_not_own_parent",
            ),
            models.UniqueConstraint(fields=["parent", "name"], name="categories_name_in_parent"),
        ]

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    """A word that groups items across categories."""

    name = models.CharField(max_length=50, unique=True)
    colour = models.CharField(max_length=7, default="#666666", db_default="#666666")

    class Meta:
        db_table = "tags"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """Something kept in stock; `on_hand` is the sum of its ledger entries."""

    class Status(models.TextChoices):
        """Whether the item may be bought and sold."""

        DRAFT = "DRAFT", "Draft"
        ACTIVE = "ACTIVE", "Active"
        ON_HOLD = "ON_HOLD", "On hold"
        DISCONTINUED = "DISCONTINUED", "Discontinued"

    class Unit(models.TextChoices):
        """What one of it is."""

        PIECE = "pcs", "pieces"
        KILOGRAM = "kg", "kilograms"
        METRE = "m", "metres"
        LITRE = "l", "litres"

    sku = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(default="", db_default="", blank=True)
    barcode = models.CharField(max_length=20, default="", db_default="", blank=True)
    status = models.CharField(max_length=20, choices=Status, default=Status.ACTIVE, db_default=Status.ACTIVE)
    unit = models.CharField(max_length=5, choices=Unit, default=Unit.PIECE, db_default=Unit.PIECE)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="items")
    price = fields.money()
    cost = fields.unit_cost()
    on_hand = fields.quantity(default=Decimal(0), db_default=Decimal(0), editable=False)
    reorder_level = fields.quantity(default=Decimal(0), db_default=Decimal(0))
    attributes = fields.json_object("Colour, weight, origin and whatever else is known.")
    launched_on = models.DateField(null=True, blank=True)
    created_at = fields.created_at()
    updated_at = models.DateTimeField(auto_now=True, db_default=models.functions.Now())
    tags = models.ManyToManyField(Tag, blank=True, related_name="items", db_table="item_tags")
    suppliers = models.ManyToManyField(Partner, through="erp.ItemSupplier", blank=True, related_name="supplied_items")

    class Meta:
        db_table = "items"
        ordering = ["sku"]
        constraints = [
            models.CheckConstraint(condition=models.Q(price__gte=0, cost__gte=0), name="items_prices_gte_0"),
            models.CheckConstraint(condition=models.Q(reorder_level__gte=0), name="items_reorder_level_gte_0"),
            models.UniqueConstraint(fields=["barcode"], condition=~models.Q(barcode=""), name="items_barcode"),
        ]
        indexes = [
            models.Index(fields=["name"], name="items_name"),
            models.Index(fields=["category"], condition=models.Q(status="ACTIVE"), name="items_active_category"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"


class ItemSupplier(models.Model):
    """Who delivers an item, for how much and how fast."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="item_suppliers")
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="item_suppliers")
    supplier_sku = models.CharField(max_length=40, default="", db_default="", blank=True)
    price = fields.unit_cost()
    lead_time = models.DurationField(default=timedelta(days=7))
    valid_from = models.DateField(default=timezone.localdate)

    class Meta:
        db_table = "item_suppliers"
        ordering = ["item", "price"]
        constraints = [
            models.UniqueConstraint(fields=["item", "partner"], name="item_suppliers_once"),
            models.CheckConstraint(condition=models.Q(price__gte=0), name="item_suppliers_price_gte_0"),
        ]

    def __str__(self) -> str:
        return f"{self.partner} for {self.item}"
