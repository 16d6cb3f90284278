"""Progress as data: JSON lines, on a stream or in a file that survives the job."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self, TextIO

from erp_backup.core.progress.base import BaseReporter, Progress, Throttle

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from erp_backup.core.clock import Clock

_PROGRESS_INTERVAL = 1.0  # seconds


class EventReporter(BaseReporter):
    """Turns progress into events: JSON objects with the UTC time, one to a line.

    ``event`` is one of ``phase``, ``progress`` (at most one in a second), ``phase_end``, ``note``, ``warning``,
    ``finish``.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._throttle = Throttle(self._clock, _PROGRESS_INTERVAL)

    @abstractmethod
    def _emit(self, line: str, *, is_milestone: bool) -> None:
        """Write one line. Milestones are all events but ``progress``."""

    def _tell(self, event: str, **facts: Any) -> None:
        at = self._clock.now().isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "event": event} | facts)
        self._emit(f"{line}\n", is_milestone=event != "progress")

    def _show_start(self, progress: Progress) -> None:
        self._tell("phase", phase=progress.phase, total=progress.total)

    def _show_advance(self, progress: Progress) -> None:
        if self._throttle.is_due():
            self._tell("progress", **_facts(progress))

    def _show_end(self, progress: Progress) -> None:
        self._tell("phase_end", **_facts(progress))

    def _show_note(self, text: str) -> None:
        self._tell("note", text=text)

    def _show_warning(self, text: str) -> None:
        self._tell("warning", text=text)

    def _show_finish(self, outcome: str) -> None:
        self._tell("finish", outcome=outcome)


def _facts(progress: Progress) -> dict[str, Any]:
    return {
        "phase": progress.phase,
        "total": progress.total,
        "done": dict(progress.done),
        "seconds": round(progress.seconds, 3),
    }


class JsonReporter(EventReporter):
    """Writes events to a stream, each at once."""

    def __init__(self, stream: TextIO, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._stream = stream

    def _emit(self, line: str, *, is_milestone: bool) -> None:  # noqa: ARG002 - a stream gets all alike
        self._stream.write(line)
        self._stream.flush()


class JournalReporter(EventReporter):
    """Appends events to a file that only its owner can read, each in one write.

    What is told is in the file even if the process is killed right afterwards, and milestones even if the machine
    is. A line that an earlier process left unfinished is ended first. Close it at the end (``with``).
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        super().__init__(clock)
        # No link is followed: who can write to the folder could make the journal write elsewhere.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(self._descriptor, 0o600)
            self._end_torn_line()
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; later events raise ``OSError``."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def _emit(self, line: str, *, is_milestone: bool) -> None:
        data = line.encode()
        while data:
            data = data[os.write(self._descriptor, data) :]
        if is_milestone:
            os.fsync(self._descriptor)
