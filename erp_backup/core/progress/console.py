"""Progress on a terminal: one line that updates itself."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from erp_backup.core.progress.base import BaseReporter, Progress, Throttle, format_amount
from erp_backup.core.progress.text import encodable, fitted, printable, width_of
from erp_backup.core.units import format_duration

if TYPE_CHECKING:
    from erp_backup.core.clock import Clock

_REDRAW_INTERVAL = 0.1  # seconds
_USUAL_WIDTH = 80
_SHORTEST_BAR, _LONGEST_BAR = 10, 30


class ConsoleReporter(BaseReporter):
    """One line per phase: name, amount, rate, time, and a bar if the total is known.

    The line is never wider than the terminal, whose width is asked each time unless ``width`` says it.
    """

    def __init__(self, stream: TextIO, clock: Clock | None = None, width: int | None = None) -> None:
        super().__init__(clock)
        self._stream = stream
        self._width = width
        self._drawn = 0
        self._throttle = Throttle(self._clock, _REDRAW_INTERVAL)

    def _show_start(self, progress: Progress) -> None:
        self._draw(progress)

    def _show_advance(self, progress: Progress) -> None:
        if self._throttle.is_due():
            self._draw(progress)

    def _show_end(self, progress: Progress) -> None:
        self._draw(progress)
        self._stream.write("\n")
        self._stream.flush()
        self._drawn = 0

    def _show_note(self, text: str) -> None:
        self._say(printable(text))

    def _show_warning(self, text: str) -> None:
        self._say(f"Warning: {printable(text)}")

    def _show_finish(self, outcome: str) -> None:
        self._say(printable(outcome))

    def _say(self, text: str) -> None:
        """Write a line of its own above the line that updates itself."""
        self._write(f"{self._erasing()}{text}\n")
        self._drawn = 0
        if self._phase is not None:
            self._draw(self._progress(self._phase))

    def _draw(self, progress: Progress) -> None:
        # The last column stays empty: a character there makes some terminals begin a new line.
        line = progress_line(progress, self._columns() - 1)
        self._write(self._erasing() + line)
        self._drawn = width_of(line)

    def _erasing(self) -> str:
        """Return what removes the drawn line, as far as it stands in what may have become a narrower terminal."""
        blanks = min(self._drawn, self._columns() - 1)
        return f"\r{' ' * blanks}\r" if blanks else ""

    def _write(self, text: str) -> None:
        self._stream.write(encodable(text, self._stream))
        self._stream.flush()

    def _columns(self) -> int:
        if self._width is not None:
            return self._width
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _USUAL_WIDTH
        except (OSError, ValueError):  # not a terminal after all
            return _USUAL_WIDTH


def progress_line(progress: Progress, width: int) -> str:
    """Return the phase's line in at most ``width`` columns: what matters least is left out first."""
    name, amount = printable(progress.phase), _amount(progress)
    duration = format_duration(timedelta(seconds=progress.seconds))
    line = "  ".join(part for part in (name, amount, _rate(progress), duration) if part)
    room = width - width_of(line) - 2
    if progress.total and room >= _SHORTEST_BAR:
        bar = _bar(progress.amount, progress.total, min(room, _LONGEST_BAR))
        return "  ".join(part for part in (name, bar, amount, _rate(progress), duration) if part)
    for shorter in (line, "  ".join(filter(None, (name, amount, duration))), f"{name}  {amount}"):
        if width_of(shorter) <= width:
            return shorter
    return fitted(name, width)


def _amount(progress: Progress) -> str:
    if not progress.done:
        return ""
    amount = format_amount(progress.amount, progress.unit)
    return f"{amount} of {format_amount(progress.total, progress.unit)}" if progress.total else amount


def _rate(progress: Progress) -> str:
    if progress.seconds < 1 or not progress.amount:  # no rate is known yet, or there is none
        return ""
    return f"{format_amount(int(progress.amount / progress.seconds), progress.unit)}/s"


def _bar(amount: int, total: int, width: int) -> str:
    inside = width - 2
    filled = min(inside, inside * amount // total)
    return f"[{'#' * filled}{'.' * (inside - filled)}]"
