"""What to make, and chance that is the same each time."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

HISTORY = timedelta(days=730)
"""How far the data goes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much demo data to make; equal plans make equal data.

    `until` is the aware time just after the last transaction; `users` includes the administrator, whose
    password arrives hashed so that the plan holds no secret.
    """

    users: int
    items: int
    transactions: int
    seed: int
    until: datetime
    admin_password_hash: str

    @property
    def since(self) -> datetime:
        """The time before which nothing happened."""
        return self.until - HISTORY

    def chance(self, subject: str) -> random.Random:
        """Return a generator of chance of its own for one subject: more users do not change the items."""
        return random.Random(f"{self.seed}:{subject}")  # noqa: S311  reproducible on purpose, nothing secret


def happens(chance: random.Random, share: float) -> bool:
    """Decide by chance; true in this share of the cases."""
    return chance.random() < share


def random_uuid(chance: random.Random) -> uuid.UUID:
    """Return a version 4 UUID that this chance decides."""
    return uuid.UUID(int=chance.getrandbits(128), version=4)


def fixed(amount: int, places: int) -> Decimal:
    """Return `amount` units of the last of so many decimal places as a Decimal."""
    return Decimal(amount).scaleb(-places)
