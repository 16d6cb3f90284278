"""Signals that ask a run to end become exceptions, so that every ``finally`` runs.

By default SIGTERM and SIGHUP end Python at once: the partial archive and the silent child stay behind.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from erp_backup.core.errors import InterruptedBySignal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _Raiser:
    """The handler: the first signal raises, later ones are ignored while the first is being handled."""

    def __init__(self) -> None:
        self._raised: InterruptedBySignal | None = None
        self.is_holding = False
        self.postponed: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.is_holding:
            self.postponed = number
        elif self._raised is None or not _is_being_handled(self._raised):
            self._raised = InterruptedBySignal(number, signal.Signals(number).name)
            raise self._raised


def _is_being_handled(error: BaseException) -> bool:
    """Say whether a ``finally`` or ``except`` for this error is running.

    Somebody's ``except Exception`` may have swallowed it; then the run must still be possible to stop.
    """
    current = sys.exc_info()[1]
    while current is not None and current is not error:
        current = current.__context__
    return current is error


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise :class:`InterruptedBySignal` in the main thread on SIGTERM, SIGHUP or SIGINT (exit codes 143, 129, 130).

    While that exception is on its way, further signals are ignored, so that clean-up completes. The previous handlers
    come back at the end. A signal that is ignored (``nohup``) stays ignored. Within another such block, and outside
    the main thread, where Python runs no handlers, this does nothing.
    """
    raiser = _Raiser()
    previous = _handlers_to_replace() if _is_in_main_thread() else {}
    try:
        for number in previous:
            signal.signal(number, raiser)
        yield
    finally:
        # From here on a signal waits until the handlers it would have met without us are back.
        raiser.is_holding = True
        for number, handler in previous.items():
            signal.signal(number, handler)
        if raiser.postponed is not None and sys.exc_info()[1] is None:
            signal.raise_signal(raiser.postponed)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let a signal wait until the end of a few steps that must not be torn apart, then raise it.

    Without :func:`signals_as_exceptions` around it, or outside the main thread, this does nothing. Keep it short.
    """
    raiser = _current_raiser() if _is_in_main_thread() else None
    if raiser is None or raiser.is_holding:
        yield
        return
    raiser.is_holding = True
    try:
        yield
    finally:
        raiser.is_holding = False
        number, raiser.postponed = raiser.postponed, None
        if number is not None:
            raiser(number, None)


def _is_in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _current_raiser() -> _Raiser | None:
    handlers = (signal.getsignal(number) for number in _SIGNALS)
    return next((handler for handler in handlers if isinstance(handler, _Raiser)), None)


def _handlers_to_replace() -> dict[signal.Signals, signal._HANDLER]:
    """Return the handlers in force that this module may replace."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: a handler that C code has set, which Python could not put back.
    return {
        number: handler
        for number, handler in handlers.items()
        if handler not in {signal.SIG_IGN, None} and not isinstance(handler, _Raiser)
    }
