"""Progress told to several reporters at once; one that fails never fails the job."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from erp_backup.core.errors import InterruptedBySignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from erp_backup.core.progress.base import Reporter


class TeeReporter:
    """Passes everything on to all reporters. One that raises is dropped, and the others are warned of it."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = list(reporters)
        self._lock = threading.Lock()

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Begin a phase, which ends the one before."""
        self._tell(lambda reporter: reporter.phase(name, total=total))

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Add to what the phase has done."""
        self._tell(lambda reporter: reporter.advance(amount, unit))

    def note(self, text: str) -> None:
        """Tell something worth knowing."""
        self._tell(lambda reporter: reporter.note(text))

    def warning(self, text: str) -> None:
        """Tell something that somebody should look at."""
        self._tell(lambda reporter: reporter.warning(text))

    def finish(self, outcome: str) -> None:
        """Tell how it all ended."""
        self._tell(lambda reporter: reporter.finish(outcome))

    def _tell(self, event: Callable[[Reporter], None]) -> None:
        with self._lock:
            reporters = tuple(self._reporters)
        for reporter in reporters:
            try:
                event(reporter)
            except InterruptedBySignal:  # nobody's failure: the run is asked to end
                raise
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a display, the backup goes on
                self._drop(reporter, error)

    def _drop(self, failed: Reporter, error: Exception) -> None:
        """Tell it nothing more, and the others what happened; once, even if several threads see it fail."""
        with self._lock:
            is_dropped = all(reporter is not failed for reporter in self._reporters)
            self._reporters = [reporter for reporter in self._reporters if reporter is not failed]
        if not is_dropped:
            # The error's class only: its text could quote what it failed to write.
            name = type(failed).__name__
            self.warning(f"Progress is no longer shown by {name}: {type(error).__name__}.")
