"""Declared rules that every row keeps: a field equals an aggregate over related rows, or does not pass it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

from django.db.models import DecimalField, F, FloatField, IntegerField, Q, QuerySet, Value
from django.db.models.functions import Abs, Coalesce

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks.amounts import Amount, expression_of, places_for
from erp_backup.modelchecks.base import Context, ModelName, RowsCheck, Seconds
from erp_backup.modelchecks.tallies import tally_offenders
from erp_backup.modelchecks.values import figure, text_of

_NUMERIC = (IntegerField, DecimalField, FloatField)
_CHUNK = 5000
_ZERO = Value(Decimal(0), DecimalField())
# Half a unit, and a little more: rounding a product half up differs by exactly half a unit, which to floating
# point may be more.
_TOLERANCE = Decimal("0.5005")


class _Rule(RowsCheck):
    """A comparison of two amounts of each row; an amount without related rows counts as 0.

    Numbers are compared in the database, with a tolerance of half a unit of the field's last decimal place,
    since to SQLite decimals are floating-point numbers. ``places`` overrides how many decimal places that is.
    """

    kind = MeasurementKind.INVARIANT
    # How do the amounts stand to each other in a row that breaks the rule?
    sign: ClassVar[str]

    def __init__(
        self,
        name: str,
        model: ModelName,
        left: Amount,
        right: Amount,
        *q: Q,
        filters: dict[str, Any],
        **options: Any,
    ) -> None:
        self._left = left
        self._right = right
        super().__init__(name, model, q, filters, **options)

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the offending rows: their primary key, ``erp_left`` and ``erp_right``."""
        rows = self.rows(context.using).values("pk")
        amounts = {"erp_left": expression_of(self._left), "erp_right": expression_of(self._right)}
        typed = rows.annotate(**amounts)
        if not all(isinstance(typed.query.annotations[name].output_field, _NUMERIC) for name in amounts):
            return self.breaking(typed)
        # What is NULL, or has no related rows, counts as 0.
        filled = {name: Coalesce(amount, _ZERO, output_field=DecimalField()) for name, amount in amounts.items()}
        tolerance = Value(self._unit(typed) * _TOLERANCE, DecimalField())
        return self.breaking_numbers(rows.annotate(**filled), tolerance)

    @abstractmethod
    def breaking(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows that break the rule, for amounts that are no numbers."""

    @abstractmethod
    def breaking_numbers(self, rows: QuerySet[Any], tolerance: Value) -> QuerySet[Any]:
        """Return the rows that break the rule by more than the tolerance."""

    def _unit(self, typed: QuerySet[Any]) -> Decimal:
        """Return one unit of the field's last decimal place: the plain field's, where one of the amounts is one."""
        named = [name for name, given in self._operands.items() if isinstance(given, str)]
        places = [places_for(typed, name, self.places) for name in named or self._operands]
        known = [count for count in places if count is not None]
        return Decimal(1).scaleb(-max(known, default=_FLOAT_PLACES))

    @property
    def _operands(self) -> dict[str, Amount]:
        return {"erp_left": self._left, "erp_right": self._right}

    def measure(self, context: Context) -> Measurement:
        """Compare in the database; only offending rows leave it."""
        query = self.query(context)
        places = {name: places_for(query, name, self.places) for name in self._operands}
        return self.result(**tally_offenders(self._offenders(query, places)))

    def _offenders(self, query: QuerySet[Any], places: dict[str, int | None]) -> Iterator[tuple[str, str]]:
        rows = query.values_list("pk", "erp_left", "erp_right")
        for key, left, right in rows.iterator(chunk_size=_CHUNK):
            says = [_shown(value, places[name]) for name, value in zip(self._operands, (left, right), strict=True)]
            yield text_of(key), f"{_named(self._left)}{says[0]} {self.sign} {_named(self._right)}{says[1]}"


_FLOAT_PLACES = 6


class Equal(_Rule):
    """Of every row, a field equals an aggregate over related rows.

    ::

        Equal("items.on_hand", "erp.Item", "on_hand", Sum("ledger_entries__quantity_change"))

    Rows without related rows count as 0. Anything that can be compared will do: ``Max("entries__created_at")`` too.
    """

    sign = "≠"

    def __init__(
        self,
        name: str,
        model: ModelName,
        field: Amount,
        aggregate: Amount,
        *q: Q,
        time_limit: Seconds | None = None,
        database: str | None = None,
        places: int | None = None,
        **filters: Any,
    ) -> None:
        options: dict[str, Any] = {"time_limit": time_limit, "database": database, "places": places}
        super().__init__(name, model, field, aggregate, *q, filters=filters, **options)

    def breaking(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows where one is NULL and the other is not, or both are something else."""
        differ = ~Q(erp_left=F("erp_right")) & ~Q(erp_left__isnull=True, erp_right__isnull=True)
        return rows.filter(differ)

    def breaking_numbers(self, rows: QuerySet[Any], tolerance: Value) -> QuerySet[Any]:
        """Return the rows where they are further apart than the tolerance."""
        apart: QuerySet[Any] = rows.alias(erp_apart=Abs(F("erp_left") - F("erp_right"))).filter(erp_apart__gt=tolerance)
        return apart


class AtMost(_Rule):
    """Of every row, one amount does not pass another.

    ::

        AtMost("orders.paid", "erp.Order", Sum("payments__amount"), "total")

    ``smaller`` and ``greater`` are each a field's name, an aggregate over related rows, or a number:
    ``AtMost(..., 0, "on_hand")`` says that stock is never negative.
    """

    sign = ">"

    def __init__(
        self,
        name: str,
        model: ModelName,
        smaller: Amount,
        greater: Amount,
        *q: Q,
        time_limit: Seconds | None = None,
        database: str | None = None,
        places: int | None = None,
        **filters: Any,
    ) -> None:
        options: dict[str, Any] = {"time_limit": time_limit, "database": database, "places": places}
        super().__init__(name, model, smaller, greater, *q, filters=filters, **options)

    def breaking(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows where the smaller passes the greater; where one is NULL there is nothing to pass."""
        return rows.filter(erp_left__gt=F("erp_right"))

    def breaking_numbers(self, rows: QuerySet[Any], tolerance: Value) -> QuerySet[Any]:
        """Return the rows where the smaller passes the greater by more than the tolerance."""
        apart: QuerySet[Any] = rows.alias(erp_apart=F("erp_left") - F("erp_right")).filter(erp_apart__gt=tolerance)
        return apart


def _shown(value: object, places: int | None) -> str:
    return figure(value, places) if isinstance(value, int | float | Decimal) else text_of(value)


def _named(amount: Amount) -> str:
    return f"{amount} " if isinstance(amount, str) else ""
