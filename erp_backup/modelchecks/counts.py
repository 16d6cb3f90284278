"""Declared figures: how many rows, how many of late, and what they add up to."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from django.db import connections
from django.db.models import DateTimeField, F, Q, QuerySet
from django.utils import timezone

from erp_backup.core.figures import Measurement
from erp_backup.modelchecks.amounts import Amount, places_for, summed
from erp_backup.modelchecks.base import Context, ModelName, RowsCheck, Seconds
from erp_backup.modelchecks.values import figure


class Count(RowsCheck):
    """How many rows a model has: ``Count("users.active", "auth.User", is_active=True)``.

    Filters on a field that is named like an option (``unit``, ``database``, ``time_limit``) are written
    ``Q(unit="kg")``.
    """

    def __init__(
        self,
        name: str,
        model: ModelName,
        *q: Q,
        time_limit: Seconds | None = None,
        database: str | None = None,
        unit: str = "rows",
        **filters: Any,
    ) -> None:
        super().__init__(name, model, q, filters, time_limit=time_limit, database=database, unit=unit)

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the rows that are counted."""
        return self.rows(context.using)

    def measure(self, context: Context) -> Measurement:
        """Count in the database."""
        return self.result(value=figure(self.query(context).count()))


class Recent(Count):
    """How many rows are of the last days: ``Recent("stock.recent", "erp.StockTransaction", "created_at", days=7)``.

    "The last days" begin at midnight, in the project's time zone, of the day that is ``days`` days before the
    *snapshot's* day, as in ``created_at >= CURRENT_DATE - INTERVAL '7 days'``. So the drill of an old backup
    counts the rows that the backup counted.
    """

    def __init__(
        self,
        name: str,
        model: ModelName,
        field: str,
        *q: Q,
        days: int = 7,
        time_limit: Seconds | None = None,
        database: str | None = None,
        unit: str = "rows",
        **filters: Any,
    ) -> None:
        self._field = field
        self._days = days
        super().__init__(name, model, *q, time_limit=time_limit, database=database, unit=unit, **filters)

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the rows since the cut-off."""
        rows = self.rows(context.using)
        day = timezone.localdate(context.now, timezone.get_default_timezone()) - timedelta(days=self._days)
        moment = rows.annotate(erp_moment=F(self._field))
        is_moment = isinstance(moment.query.annotations["erp_moment"].output_field, DateTimeField)
        recent: QuerySet[Any] = moment.filter(erp_moment__gte=_midnight(day, context.using) if is_moment else day)
        return recent


def _midnight(day: date, using: str) -> datetime:
    """Return the first moment of a day: naive where the project uses no time zones."""
    zone = timezone.get_default_timezone() if connections[using].timezone is not None else None
    return datetime.combine(day, time.min, tzinfo=zone)


class Total(RowsCheck):
    """What an amount adds up to over a model's rows: ``Total("orders.open", "erp.Order", "total", status="OPEN")``.

    ``amount`` is a field's name or a Django expression; a row whose amount is NULL adds nothing.
    """

    def __init__(
        self,
        name: str,
        model: ModelName,
        amount: Amount,
        *q: Q,
        time_limit: Seconds | None = None,
        database: str | None = None,
        unit: str = "",
        places: int | None = None,
        **filters: Any,
    ) -> None:
        self._amount = amount
        options: dict[str, Any] = {"time_limit": time_limit, "database": database, "unit": unit, "places": places}
        super().__init__(name, model, q, filters, **options)

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the sum as an annotation, which knows its type; it is asked for as an aggregate of all rows."""
        query: QuerySet[Any] = self.rows(context.using).annotate(erp_total=summed(self._amount))
        return query

    def measure(self, context: Context) -> Measurement:
        """Add up in the database."""
        places = places_for(self.query(context), "erp_total", self.places)
        total = self.rows(context.using).aggregate(erp_total=summed(self._amount))["erp_total"]
        return self.result(value=figure(total, places))
