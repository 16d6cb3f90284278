"""Which cases run each time, and which only in the campaign (`make faults`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

IS_FULL = os.environ.get("ERP_BACKUP_FAULTS") == "full"
T = TypeVar("T")


def some(cases: Sequence[T], every: int) -> list[T]:
    """Return all cases in the campaign, else every `every`-th of them, the first included."""
    return list(cases if IS_FULL else cases[::every])
