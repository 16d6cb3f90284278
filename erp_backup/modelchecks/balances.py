"""Balances: a sum per key, so that two that are swapped are two findings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import transaction
from django.db.models import CharField, F, Func, Model, Q, QuerySet, TextField
from django.db.models.expressions import Combinable

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks.amounts import Amount, places_for, summed
from erp_backup.modelchecks.base import Context, ModelName, RowsCheck, Seconds, all_rows
from erp_backup.modelchecks.tallies import MappingTally
from erp_backup.modelchecks.values import figure, key_of, number, text_of

# A path of field names, or an expression.
Key: TypeAlias = "str | Combinable"

_CHUNK = 5000  # groups that are fetched at once


class Balance(RowsCheck):
    """A sum per key: ``Balance("stock.balances", "erp.StockLedgerEntry", amount="quantity_change", by="item__name")``.

    ``amount`` is a field's name or a Django expression; a row whose amount is NULL adds nothing. ``by`` is one
    path or several (``["item", "warehouse"]``). A path that ends in a text of a *related* row (``item__name``)
    groups by that row, so that two items of one name stay two, and shows the text; to group by the text itself,
    write ``F("item__name")``. A text with choices is grouped by. Keys whose sum is 0 are left out unless
    ``nonzero`` is False.
    """

    kind = MeasurementKind.MAPPING

    def __init__(
        self,
        name: str,
        model: ModelName,
        *q: Q,
        amount: Amount,
        by: Key | Sequence[Key],
        nonzero: bool = True,
        time_limit: Seconds | None = None,
        database: str | None = None,
        unit: str = "",
        places: int | None = None,
        **filters: Any,
    ) -> None:
        self._amount = amount
        self._by = (by,) if isinstance(by, str | Combinable) else tuple(by)
        self._nonzero = nonzero
        options: dict[str, Any] = {"time_limit": time_limit, "database": database, "unit": unit, "places": places}
        super().__init__(name, model, q, filters, **options)

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the groups: their keys, then ``erp_total``."""
        grouped = self._keys_and_rows(context)
        query: QuerySet[Any] = grouped.annotate(erp_total=summed(self._amount))
        return query.exclude(erp_total=0) if self._nonzero else query

    def _keys_and_rows(self, context: Context) -> QuerySet[Any]:
        if not self._by:
            raise ValueError("by names no key.")
        keys = {f"erp_key_{i}": _Ungrouped(part.expression) for i, part in enumerate(self._parts())}
        return self.rows(context.using).values(**keys)

    def _parts(self) -> list[_Part]:
        return [_part_of(self.model, key) for key in self._by]

    def measure(self, context: Context) -> Measurement:
        """Add up in the database, one group after the other."""
        query = self.query(context)
        places = places_for(query, "erp_total", self.places)
        tally, keys = MappingTally(), {}
        for *key, total in query.values_list(*self._columns(), "erp_total").iterator(chunk_size=_CHUNK):
            value = number(total, places)
            if self._nonzero and not value:
                continue  # a sum of floating-point numbers that is 0 at the field's decimal places
            text = key_of(key)
            tally.add(text, figure(value), value)
            if tally.rows is not None:
                keys[text] = tuple(key)
        labels = self._labels(keys, context.using) if tally.rows else {}
        return self.result(**tally.values(places), labels=labels)

    def _columns(self) -> list[str]:
        return [f"erp_key_{i}" for i in range(len(self._by))]

    def _labels(self, keys: dict[str, tuple[Any, ...]], using: str) -> dict[str, str]:
        """Return what the keys mean to people, where their rows say so."""
        columns = list(zip(*keys.values(), strict=True))
        names = [part.names(column, using) for part, column in zip(self._parts(), columns, strict=True)]
        if not any(names):
            return {}
        return {
            text: " / ".join(known.get(part, text_of(part)) for known, part in zip(names, key, strict=True))
            for text, key in keys.items()
        }


class _Ungrouped(Func):
    """The same value, but to SQLite no column with an index.

    To group by an indexed column SQLite walks the index and looks up each row: nine times the cost of sorting.
    """

    template = "%(expressions)s"
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return it with the unary plus that SQLite documents for this."""
        return self.as_sql(compiler, connection, template="+%(expressions)s", **context)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One part of a key: what is grouped by, and which field of which model tells people what it means."""

    expression: Any
    related: type[Model] | None = None
    key_field: str = ""
    text_field: str = ""

    def names(self, values: Iterable[Any], using: str) -> dict[Any, str]:
        """Return the texts of these keys. Nothing depends on them: what cannot be read has none."""
        if self.related is None:
            return {}
        wanted = {value for value in values if value is not None}
        rows = all_rows(self.related, using).filter(**{f"{self.key_field}__in": wanted})
        # Whatever the ERP's own __str__ raises, the figures stand; the savepoint keeps them readable.
        with contextlib.suppress(Exception), transaction.atomic(using=using):
            return dict(self._texts(rows))
        return {}

    def _texts(self, rows: QuerySet[Any]) -> Iterator[tuple[Any, str]]:
        if self.text_field:
            yield from rows.values_list(self.key_field, self.text_field)
        else:
            for row in rows:
                yield getattr(row, self.key_field), str(row)


def _part_of(model: type[Model], key: Key) -> _Part:
    """Return what a part of ``by`` groups by; whether its path leads anywhere is found when the query is built."""
    if not isinstance(key, str):
        return _Part(expression=key)
    fields = _fields_along(model, key)
    if fields and _is_reference(fields[-1]):
        target = fields[-1].target_field.name
        return _Part(expression=F(key), related=fields[-1].related_model, key_field=target)
    if len(fields) > 1 and _is_reference(fields[-2]) and _is_plain_text(fields[-1]):
        row, target = fields[-2], fields[-2].target_field.name
        path = key.rpartition("__")[0]
        return _Part(expression=F(path), related=row.related_model, key_field=target, text_field=fields[-1].name)
    return _Part(expression=F(key))


def _fields_along(model: type[Model], path: str) -> list[Any]:
    """Return the field of each name in a path; none when one is no field, such as the year of a date."""
    fields: list[Any] = []
    owner: Any = model
    for name in path.split("__"):
        known = {field.name: field for field in owner._meta.get_fields()} if owner is not None else {}
        if name not in known:
            return []
        fields.append(known[name])
        owner = known[name].related_model
    return fields


def _is_reference(field: Any) -> bool:
    """Say whether it is a foreign key, a column that names one related row."""
    return bool(field.concrete and (field.many_to_one or field.one_to_one))


def _is_plain_text(field: Any) -> bool:
    return isinstance(field, CharField | TextField) and not field.choices and not field.primary_key
