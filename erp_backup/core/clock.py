"""The time: the only code that reads it. Everything else is given a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time and lets it pass."""

    def now(self) -> datetime:
        """Return the moment, aware and in UTC. It may jump when somebody sets the machine's clock."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment, never going back: for durations and limits."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the moment, aware and in UTC."""
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment, never going back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds; a signal handler that raises ends it early."""
        time.sleep(seconds)
