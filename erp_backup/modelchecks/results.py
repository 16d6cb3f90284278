"""What a function of the ERP returned, as a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable, RawQuerySet

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks.tallies import MOST_SAMPLES, MappingTally, tally_offenders
from erp_backup.modelchecks.values import figure, key_of, number, text_of

_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Invariant:
    """The rows that break a rule; none is good. A queryset, which is read in pieces, or any other rows."""

    rows: QuerySet[Any] | Iterable[Any]


def measurement_of(result: object, *, check: str, unit: str = "", places: int | None = None) -> Measurement:
    """Return the measurement that a function's result stands for; a queryset is evaluated here.

    A number is a figure, a dictionary a figure per key, a queryset or :class:`Invariant` the offending rows.
    Raises TypeError for anything else.
    """
    match result:
        case Measurement():
            return dataclasses.replace(result, check=check, unit=result.unit or unit)
        case Invariant():
            values = tally_offenders(_offenders(result.rows))
            return Measurement(check=check, kind=MeasurementKind.INVARIANT, unit=unit, **values)
        case QuerySet() | RawQuerySet():
            return measurement_of(Invariant(result), check=check, unit=unit)
        case Mapping():
            return _mapping(result, check, unit, places)
        case int() | float() | Decimal() | timedelta() if not isinstance(result, bool):
            return Measurement(check=check, value=figure(result, places), unit=unit)
    raise TypeError(
        f"It returned {type(result).__name__}. A number is expected, a dictionary of numbers, or Invariant(rows)."
    )


def _mapping(result: Mapping[Any, Any], check: str, unit: str, places: int | None) -> Measurement:
    tally = MappingTally()
    for key, given in result.items():
        value = number(given, places)
        tally.add(key_of(key if isinstance(key, tuple) else (key,)), figure(value), value)
    return Measurement(check=check, kind=MeasurementKind.MAPPING, unit=unit, **tally.values(places))


def _offenders(rows: QuerySet[Any] | Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield the key of each row and what it says."""
    if isinstance(rows, QuerySet):
        yield from _of_models(rows) if _is_of_whole_models(rows) else map(_described, rows.iterator(_CHUNK))
    else:
        yield from map(_described, rows)


def _is_of_whole_models(rows: QuerySet[Any]) -> bool:
    """Say whether its rows can be asked for by primary key alone, and some of them again."""
    query = rows.query
    is_plain = issubclass(rows._iterable_class, ModelIterable)  # noqa: SLF001 - there is no public test
    return is_plain and not (query.is_sliced or query.combinator or query.distinct_fields)


def _of_models(rows: QuerySet[Any]) -> Iterator[tuple[str, str]]:
    """Yield all keys, the first with what their rows say; whole rows are read of these only."""
    keys = rows.order_by().values_list("pk", flat=True).iterator(_CHUNK)
    first = list(islice(keys, MOST_SAMPLES))
    if not first:
        return
    says = {row.pk: str(row) for row in rows.order_by().filter(pk__in=first)}
    for key in first:
        yield text_of(key), says.get(key, "")
    for key in keys:
        yield text_of(key), ""


def _described(row: Any) -> tuple[str, str]:
    if isinstance(row, Model):
        return text_of(row.pk), str(row)
    if isinstance(row, tuple) and row:
        return key_of(row), ""
    return text_of(row), ""
