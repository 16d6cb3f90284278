"""Adding up mappings and offending rows one by one, in memory that does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from erp_backup.modelchecks.values import EXACT, figure

MOST_ROWS = 500  # a mapping of more keys is kept as count, total and digest
MOST_SAMPLES = 20  # offending rows that are shown
_LONGEST_SAMPLE = 200  # characters


@dataclass(slots=True)
class Digest:
    """A number that depends on every (key, value) added, and not on their order."""

    _sum: int = 0

    def add(self, key: str, value: str) -> None:
        """Add one pair. Its parts cannot run into each other: the key's length is hashed too."""
        encoded = key.encode(errors="surrogatepass")
        row = b"%d:%s%s" % (len(encoded), encoded, value.encode(errors="surrogatepass"))
        self._sum += int.from_bytes(hashlib.sha256(row).digest()[:16], "big")

    def __str__(self) -> str:
        return f"{self._sum % 2**128:032x}"


@dataclass(slots=True)
class MappingTally:
    """A mapping as count, total and digest; its ``rows`` too, while they are few."""

    count: int = 0
    total: Decimal = Decimal(0)
    digest: Digest = field(default_factory=Digest)
    rows: dict[str, str] | None = field(default_factory=dict)

    def add(self, key: str, value: str, number: Decimal) -> None:
        """Add one key with its value as text and as what the total grows by."""
        self.count += 1
        self.total = EXACT.add(self.total, number)
        self.digest.add(key, value)
        if self.rows is not None:
            self.rows[key] = value
            if len(self.rows) > MOST_ROWS:
                self.rows = None

    def values(self, places: int | None = None) -> dict[str, Any]:
        """Return what a measurement keeps of it."""
        return {
            "value": figure(self.total, places),
            "count": self.count,
            "digest": str(self.digest),
            "rows": self.rows,
        }


def tally_offenders(rows: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what a measurement keeps of offending rows, given as (key, what the row says).

    The samples are the first that came, in order of their keys.
    """
    count, digest = 0, Digest()
    samples: dict[str, str] = {}
    for key, says in rows:
        count += 1
        digest.add(key, "")
        if len(samples) < MOST_SAMPLES:
            samples[key] = says if len(says) <= _LONGEST_SAMPLE else f"{says[: _LONGEST_SAMPLE - 1]}…"
    return {
        "value": str(count),
        "count": count,
        "digest": str(digest) if count else "",
        "rows": dict(sorted(samples.items())) if samples else None,
    }
