"""What a job tells about its progress, and what is common to all forms of showing it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from erp_backup.core.clock import SystemClock
from erp_backup.core.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from erp_backup.core.clock import Clock


class Reporter(Protocol):
    """Where a job tells how far it is. The job tells, the entry point chooses who shows it, and how."""

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Begin a phase, which ends the one before. ``total`` counts in the unit of the phase's first advance."""
        ...

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Add to what the phase has done; 0 just shows that it is alive."""
        ...

    def note(self, text: str) -> None:
        """Tell something worth knowing."""
        ...

    def warning(self, text: str) -> None:
        """Tell something that somebody should look at."""
        ...

    def finish(self, outcome: str) -> None:
        """Tell how it all ended; called last, on failure too."""
        ...


class NullReporter:
    """Shows nothing."""

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Show nothing."""

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warning(self, text: str) -> None:
        """Show nothing."""

    def finish(self, outcome: str) -> None:
        """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a phase is: what it has done by unit, first unit first, after how many seconds."""

    phase: str
    total: int | None = None
    done: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def unit(self) -> str:
        """The unit of the first advance, in which ``total`` counts; bytes until then."""
        return next(iter(self.done), "bytes")

    @property
    def amount(self) -> int:
        """What is done, in :attr:`unit`."""
        return self.done.get(self.unit, 0)


def format_amount(amount: int, unit: str) -> str:
    """Return an amount as people read it: ``"1.2 MB"``, ``"1,234 rows"``."""
    return format_size(amount) if unit == "bytes" else f"{format_count(amount)} {unit}"


@dataclass(slots=True)
class _Phase:
    name: str
    total: int | None
    started: float
    done: dict[str, int] = field(default_factory=dict)


class BaseReporter(ABC):
    """Keeps the phase and its counts, for any number of threads; subclasses show what changes.

    A subclass's methods are called one at a time. An advance outside any phase counts for nothing.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._lock = threading.RLock()
        self._phase: _Phase | None = None

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Begin a phase, which ends the one before."""
        with self._lock:
            self._end_phase()
            self._phase = _Phase(name, total, self._clock.monotonic())
            self._show_start(self._progress(self._phase))

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Add to what the phase has done."""
        with self._lock:
            if self._phase is not None:
                done = self._phase.done
                done[unit] = done.get(unit, 0) + amount
                self._show_advance(self._progress(self._phase))

    def note(self, text: str) -> None:
        """Tell something worth knowing."""
        with self._lock:
            self._show_note(text)

    def warning(self, text: str) -> None:
        """Tell something that somebody should look at."""
        with self._lock:
            self._show_warning(text)

    def finish(self, outcome: str) -> None:
        """End the phase and tell how it all ended."""
        with self._lock:
            self._end_phase()
            self._show_finish(outcome)

    def _end_phase(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            self._show_end(self._progress(phase))

    def _progress(self, phase: _Phase) -> Progress:
        return Progress(
            phase=phase.name,
            total=phase.total,
            done=dict(phase.done),
            seconds=self._clock.monotonic() - phase.started,
        )

    @abstractmethod
    def _show_start(self, progress: Progress) -> None: ...

    @abstractmethod
    def _show_advance(self, progress: Progress) -> None: ...

    @abstractmethod
    def _show_end(self, progress: Progress) -> None: ...

    @abstractmethod
    def _show_note(self, text: str) -> None: ...

    @abstractmethod
    def _show_warning(self, text: str) -> None: ...

    @abstractmethod
    def _show_finish(self, outcome: str) -> None: ...


class Throttle:
    """Lets something happen at most every ``interval`` seconds of the clock, the first time at once."""

    def __init__(self, clock: Clock, interval: float) -> None:
        self._clock = clock
        self._interval = interval
        self._last: float | None = None

    def is_due(self) -> bool:
        """Say whether it may happen now; then it counts as done."""
        now = self._clock.monotonic()
        if self._last is not None and now - self._last < self._interval:
            return False
        self._last = now
        return True
