"""Rows that must be just as they were at backup time, without any rule about them."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks.base import Context, ModelName, RowsCheck, Seconds
from erp_backup.modelchecks.tallies import MappingTally
from erp_backup.modelchecks.values import key_of, text_of

_CHUNK = 5000
_DIGITS = 16


class Same(RowsCheck):
    """These fields of these rows are as at backup time: ``Same("prices", "erp.Item", "price", "currency", by="sku")``.

    It keeps a digest of the fields for each row, and names the rows that differ while they are at most 500. It
    reads every row it is about: for tables as a whole the fingerprint that each backup takes of every table is
    the cheaper proof.
    """

    kind = MeasurementKind.MAPPING

    def __init__(
        self,
        name: str,
        model: ModelName,
        *fields: str | Q,
        by: str = "pk",
        time_limit: Seconds | None = None,
        database: str | None = None,
        **filters: Any,
    ) -> None:
        self._fields = tuple(field for field in fields if isinstance(field, str))
        self._by = by
        q = tuple(field for field in fields if isinstance(field, Q))
        super().__init__(name, model, q, filters, time_limit=time_limit, database=database, unit="rows")

    def query(self, context: Context) -> QuerySet[Any]:
        """Return the key and the fields of each row."""
        if not self._fields:
            raise ValueError("it names no field.")
        return self.rows(context.using).values_list(self._by, *self._fields)

    def measure(self, context: Context) -> Measurement:
        """Read the rows one by one; the total is how many there are."""
        tally = MappingTally()
        for key, *values in self.query(context).iterator(chunk_size=_CHUNK):
            tally.add(text_of(key), _digest(values), Decimal(1))
        return self.result(**tally.values())


def _digest(values: list[Any]) -> str:
    # The word in front keeps two digests that happen to be digits from being compared as numbers.
    return f"sha256:{hashlib.sha256(key_of([*values, len(values)]).encode()).hexdigest()[:_DIGITS]}"
