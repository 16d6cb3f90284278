"""Progress handed to a function, for a row in a database."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from erp_backup.core.progress.base import BaseReporter, Progress, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from erp_backup.core.clock import Clock

EventName = Literal["phase", "progress", "phase_end", "note", "warning", "finish", "heartbeat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What has changed: the kind of event, the phase as it is now (None outside any), the text of the event."""

    event: EventName
    progress: Progress | None = None
    text: str = ""


class CallbackReporter(BaseReporter):
    """Calls a function with each :class:`Update`, for advances at most every ``interval`` seconds.

    With ``heartbeat`` (seconds) it is also called that often from a thread of this reporter's own while nothing
    happens, from the first phase until :meth:`finish` or :meth:`close`: proof that the job is alive, however long a
    step is silent. The function must then bring its own database connection. If it fails there, the beats stop and the
    error is raised at the job's next event.
    """

    def __init__(
        self,
        callback: Callable[[Update], object],
        clock: Clock | None = None,
        *,
        interval: float = 1.0,
        heartbeat: float | None = None,
    ) -> None:
        super().__init__(clock)
        self._callback = callback
        self._throttle = Throttle(self._clock, interval)
        self._heartbeat = heartbeat
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def finish(self, outcome: str) -> None:
        """End the phase, the beats, and tell how it all ended."""
        self.close()
        super().finish(outcome)

    def close(self) -> None:
        """End the beats."""
        # Not under the lock: the thread may be waiting for it.
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _show_start(self, progress: Progress) -> None:
        if self._heartbeat is not None and self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._beat, args=(self._heartbeat,), name="heartbeat", daemon=True)
            self._thread.start()
        self._call(Update(event="phase", progress=progress))

    def _show_advance(self, progress: Progress) -> None:
        if self._throttle.is_due():
            self._call(Update(event="progress", progress=progress))

    def _show_end(self, progress: Progress) -> None:
        self._call(Update(event="phase_end", progress=progress))

    def _show_note(self, text: str) -> None:
        self._call(Update(event="note", progress=self._current(), text=text))

    def _show_warning(self, text: str) -> None:
        self._call(Update(event="warning", progress=self._current(), text=text))

    def _show_finish(self, outcome: str) -> None:
        self._call(Update(event="finish", text=outcome))

    def _current(self) -> Progress | None:
        return self._progress(self._phase) if self._phase is not None else None

    def _call(self, update: Update) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._callback(update)

    def _beat(self, interval: float) -> None:
        while not self._stop.wait(interval):
            with self._lock:
                try:
                    self._callback(Update(event="heartbeat", progress=self._current()))
                except Exception as error:  # noqa: BLE001 - whatever it is, the job's thread raises it
                    self._failure = error
                    return
