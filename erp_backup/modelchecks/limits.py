"""Time limits that hold: for a statement in the database, and for a loop or a nap in Python."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from erp_backup.core.clock import Clock

_AGAIN = 10.0  # seconds until it rings again for who swallowed it; longer than psycopg takes to cancel a statement
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock: a few milliseconds
_SOON = 0.001


class OutOfTime(KeyboardInterrupt):
    """The time limit has passed.

    A KeyboardInterrupt, because that is what psycopg cancels a running statement for, and what ``except
    Exception`` lets pass. It never leaves :mod:`erp_backup.modelchecks`.
    """


@dataclass(slots=True)
class Limit:
    """A span of time that has begun, in seconds of the clock."""

    clock: Clock
    seconds: float
    has_rung: bool = False
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.clock.monotonic() - self.started

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.has_rung or self.elapsed >= self.seconds


@contextlib.contextmanager
def enforced(limit: Limit, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let nothing in the block outlast ``limit``: a statement fails, anything else gets :class:`OutOfTime`.

    Python that touches no database is only reached in the main thread. The connection is in a transaction of
    ours that is rolled back afterwards, and with it the limit that PostgreSQL was given.
    """
    with _statements(limit, connection), connection.execute_wrapper(_late(limit)), _alarm(limit):
        yield


@contextlib.contextmanager
def _statements(limit: Limit, connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        milliseconds = math.ceil(limit.seconds * 1000)
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])
        yield
    elif connection.vendor == "sqlite":
        raw: Any = connection.connection
        raw.set_progress_handler(lambda: limit.is_over, _STEPS)
        try:
            yield
        finally:
            raw.set_progress_handler(None, 0)
    else:
        yield


def _late(limit: Limit) -> Callable[..., Any]:
    """Return a wrapper that begins no further statement once the limit has passed."""

    def in_time(execute: Callable[..., Any], *arguments: Any) -> Any:
        if limit.is_over:
            raise OutOfTime
        return execute(*arguments)

    return in_time


@contextlib.contextmanager
def _alarm(limit: Limit) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the main thread when the time is over; the previous alarm comes back at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_armed = True

    def ring(_number: int, _frame: FrameType | None) -> None:
        if is_armed:
            limit.has_rung = True
            raise OutOfTime

    previous = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, max(limit.seconds - limit.elapsed, _SOON), _AGAIN)
    try:
        try:
            yield
        finally:
            is_armed = False
    finally:
        rest = max(remaining - limit.elapsed, _SOON) if remaining else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous if previous is not None else signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, rest, interval)
