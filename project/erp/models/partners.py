"""Companies and people we buy from and sell to."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

import uuid

from django.db import models

from project.erp.models import fields


class Partner(models.Model):
    """A customer, a supplier, or both."""

    class Kind(models.TextChoices):
        """Which way the goods go."""

        CUSTOMER = "CUSTOMER", "Customer"
        SUPPLIER = "SUPPLIER", "Supplier"
        BOTH = "BOTH", "Customer and supplier"

    code = models.CharField(max_length=20, unique=True)
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CUSTOMER, db_default=Kind.CUSTOMER)
    country = models.CharField(max_length=2, help_text="ISO 3166 code, such as ID or DE.")
    email = models.EmailField(default="", db_default="", blank=True)
    phone = models.CharField(max_length=40, default="", db_default="", blank=True)
    tax_number = models.CharField(max_length=40, default="", db_default="", blank=True)
    address = fields.json_object("Street, postal code and city.")
    currency = models.CharField(max_length=3, default="EUR", db_default="EUR")
    credit_limit = fields.money()
    customer_since = models.DateField(null=True, blank=True)
    is_active = models.BooleanField(default=True, db_default=True)
    account_manager = models.ForeignKey(
        "erp.User", on_delete=models.SET_NULL, null=True, blank=True, related_name="partners"
    )
    created_at = fields.created_at()

    class Meta:
        db_table = "partners"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(credit_limit__gte=0), name="partners_credit_limit_gte_0"),
            models.UniqueConstraint(
                fields=["country", "tax_number"], condition=~models.Q(tax_number=""), name="partners_tax_number"
            ),
        ]
        indexes = [models.Index(fields=["name"], name="partners_name")]

    def __str__(self) -> str:
        return self.name
