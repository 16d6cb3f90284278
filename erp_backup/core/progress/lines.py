"""Progress as plain lines, for files and for cron's mails."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from erp_backup.core.progress.base import BaseReporter, Progress, format_amount
from erp_backup.core.progress.text import encodable, printable
from erp_backup.core.units import format_duration

if TYPE_CHECKING:
    from erp_backup.core.clock import Clock
    from erp_backup.core.progress.base import Reporter


class LineReporter(BaseReporter):
    """A line when a phase starts and one when it ends; nothing in between, nothing written over."""

    def __init__(self, stream: TextIO, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._stream = stream

    def _show_start(self, progress: Progress) -> None:
        self._say(f"{progress.phase} ...")

    def _show_advance(self, progress: Progress) -> None:
        """Say nothing: a line for every chunk would fill the file."""

    def _show_end(self, progress: Progress) -> None:
        amounts = ", ".join(format_amount(amount, unit) for unit, amount in progress.done.items())
        self._say(f"{progress.phase}: {amounts or 'done'} in {_duration(progress)}")

    def _show_note(self, text: str) -> None:
        self._say(text)

    def _show_warning(self, text: str) -> None:
        self._say(f"Warning: {text}")

    def _show_finish(self, outcome: str) -> None:
        self._say(outcome)

    def _say(self, text: str) -> None:
        self._stream.write(encodable(f"{printable(text)}\n", self._stream))
        self._stream.flush()


def _duration(progress: Progress) -> str:
    return format_duration(timedelta(seconds=progress.seconds))


class WarningsOnly:
    """Passes warnings on and nothing else: silence on success, so that cron mails only what matters."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Show nothing."""

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warning(self, text: str) -> None:
        """Tell something that somebody should look at."""
        self._reporter.warning(text)

    def finish(self, outcome: str) -> None:
        """Show nothing: the exit code says it."""
