"""Columns that many tables share, each with its default in Python and in the database.

The database's own default is what a plain SQL INSERT gets; the Python default is what forms start with.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


def created_at() -> models.DateTimeField[Any, Any]:
    """Return the column that holds when the row came into being."""
    return models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)


def json_object(help_text: str) -> models.JSONField[Any, Any]:
    """Return a column for a JSON object, empty by default."""
    return models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), blank=True, help_text=help_text
    )


def quantity(**options: Any) -> models.DecimalField[Any, Any]:
    """Return a column for a quantity, with thousandths."""
    return models.DecimalField(max_digits=14, decimal_places=3, **options)


def money(**options: Any) -> models.DecimalField[Any, Any]:
    """Return a column for an amount of money, with hundredths, 0 by default."""
    return models.DecimalField(max_digits=14, decimal_places=2, default=Decimal(0), db_default=Decimal(0), **options)


def unit_cost(**options: Any) -> models.DecimalField[Any, Any]:
    """Return a column for the cost of one unit, with ten-thousandths, 0 by default."""
    return models.DecimalField(max_digits=14, decimal_places=4, default=Decimal(0), db_default=Decimal(0), **options)
