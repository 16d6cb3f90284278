"""Figures and keys as text: the same text for the same thing, on every database and at every time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from django.db import models
from django.db.models.expressions import Col, CombinedExpression, Value

NULL = "(null)"
NO_NUMBER = "not a number"
UNKNOWN_PLACES = 6  # decimal places of a figure whose fields do not say, such as a quotient

# Sums of any size stay exact; Python's own context would round at 28 digits.
EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
# A sum of floating-point numbers depends on the order of its rows: only what does not is kept.
_FLOAT = Context(prec=12, rounding=ROUND_HALF_EVEN)


def number(value: object, places: int | None = None) -> Decimal:
    """Return a figure as Decimal, at ``places`` decimal places where given; NULL is 0, a duration its seconds.

    Raises TypeError for what is no number, ``bool`` included: a yes is not a figure.
    """
    if value is None:
        value = 0
    elif isinstance(value, timedelta):
        value = Decimal(value // timedelta(microseconds=1)).scaleb(-6, EXACT)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError(f"{type(value).__name__} is no number.")
    exact = _FLOAT.create_decimal_from_float(value) if isinstance(value, float) else Decimal(value)
    if places is None or not exact.is_finite():
        return exact
    return exact.quantize(Decimal(1).scaleb(-places), context=EXACT)


def figure(value: object, places: int | None = None) -> str:
    """Return a figure as text: no exponent, no negative zero. Raises TypeError for what is no number."""
    exact = number(value, places)
    if exact.is_nan():
        return NO_NUMBER
    if not exact.is_finite():
        return str(exact)
    return f"{abs(exact) if exact.is_zero() else exact:f}"


def text_of(value: object) -> str:  # noqa: PLR0911 - one line for each type that databases have
    """Return a value of any field as text: moments in UTC, bytes in hexadecimal, JSON with sorted keys."""
    match value:
        case None:
            return NULL
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat()
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | memoryview():
            return bytes(value).hex()
        case Decimal():
            return figure(value)
        case Mapping() | list() | tuple():
            return json.dumps(value, sort_keys=True, ensure_ascii=False, default=text_of)
        case _:
            return str(value)


def key_of(parts: Sequence[object]) -> str:
    """Return a key as text; several parts stand as a JSON array, so that they cannot run into each other."""
    texts = [text_of(part) for part in parts]
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)


def places_of(expression: Any) -> int | None:
    """Return how many decimal places a resolved expression can have; None when its fields do not say."""
    if isinstance(expression, Value) and not isinstance(expression.value, float):
        return _places_of_value(expression.value)
    if isinstance(expression, CombinedExpression):
        return _places_of_combined(expression)
    field = getattr(expression, "_output_field_or_none", None)
    if isinstance(field, models.IntegerField | models.BooleanField):
        return 0
    if isinstance(field, models.DurationField):
        return 6
    if isinstance(field, models.DecimalField) and (isinstance(expression, Col) or field.decimal_places is not None):
        return field.decimal_places
    return _greatest(_numeric_sources(expression)) if isinstance(field, models.DecimalField) else None


def _places_of_value(value: object) -> int | None:
    if isinstance(value, Decimal):
        return max(0, -int(value.as_tuple().exponent)) if value.is_finite() else None
    return 0 if isinstance(value, int) else None


def _places_of_combined(expression: CombinedExpression) -> int | None:
    left, right = places_of(expression.lhs), places_of(expression.rhs)
    if left is None or right is None or expression.connector not in {"+", "-", "*"}:
        return None
    return left + right if expression.connector == CombinedExpression.MUL else max(left, right)


def _numeric_sources(expression: Any) -> list[Any]:
    """The parts of an expression that its value can come from: not conditions, not the filter of an aggregate."""
    sources = [source for source in expression.get_source_expressions() if source is not None]
    parts = []
    for source in sources:
        if getattr(source, "conditional", False):
            continue
        parts += _numeric_sources(source) if _is_when(source) else [source]
    return parts


def _is_when(expression: Any) -> bool:
    return isinstance(expression, models.When)


def _greatest(expressions: Sequence[Any]) -> int | None:
    places = [places_of(expression) for expression in expressions]
    known = [count for count in places if count is not None]
    return max(known) if known and len(known) == len(places) else None
