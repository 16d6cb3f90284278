"""Amounts: what declarations say about columns, as Django expressions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

from django.db import models
from django.db.models import Aggregate, F, QuerySet, Sum, Value
from django.db.models.expressions import Combinable

from erp_backup.modelchecks.values import UNKNOWN_PLACES, places_of

# A field's name or path, an expression, or a number.
Amount: TypeAlias = "str | int | Decimal | Combinable"


def expression_of(amount: Amount) -> Any:
    """Return the Django expression that ``amount`` stands for. Raises TypeError for anything else."""
    if isinstance(amount, str):
        return F(amount)
    if isinstance(amount, Combinable):
        return amount
    if isinstance(amount, int | Decimal) and not isinstance(amount, bool):
        return Value(amount)
    raise TypeError(f"{amount!r} is neither a field's name nor a Django expression.")


def summed(amount: Amount) -> Any:
    """Return the sum of ``amount`` over the rows, or the aggregate that it already is."""
    expression = expression_of(amount)
    return expression if has_aggregate(expression) else Sum(expression)


def has_aggregate(expression: Any) -> bool:
    """Say whether an unresolved expression aggregates somewhere."""
    parts = expression.flatten() if hasattr(expression, "flatten") else [expression]
    return any(isinstance(part, Aggregate) for part in parts)


def places_for(queryset: QuerySet[Any], annotation: str, declared: int | None) -> int | None:
    """Return the decimal places of an annotation's figures: as declared, else as its fields say.

    None for floating-point numbers, which are kept at a number of significant digits instead.
    """
    if declared is not None:
        return declared
    resolved = queryset.query.annotations[annotation]
    places = places_of(resolved)
    if places is None and not isinstance(resolved.output_field, models.FloatField):
        return UNKNOWN_PLACES
    return places
