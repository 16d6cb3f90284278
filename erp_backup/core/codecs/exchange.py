"""Turns a function that reads from one file and writes to another into a generator, with a thread between them."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from erp_backup.core.codecs.base import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

_WAITING_LIMIT = 4  # chunks that may wait on each side: enough to keep both busy, little enough to stay flat


class _AbandonedError(Exception):
    """The consumer has given up; the worker has nothing left to do."""


class Exchange:
    """What the worker sees as its two files, and the consumer as two queues.

    The source is read in the consumer's own thread: its errors need not be carried over, a signal ends it, and
    programs it starts belong to a thread that lives as long as they do.
    """

    def __init__(self, work: Callable[[Exchange], None], name: str) -> None:
        self._changed = threading.Condition()
        self._incoming: deque[bytes] = deque()
        self._outgoing: deque[bytes] = deque()
        self._is_complete = False
        self._is_abandoned = False
        self._is_done = False
        self._error: BaseException | None = None
        self._current = memoryview(b"")
        self._written = bytearray()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # The consumer's side

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
        self._thread.join()

    def offer(self, chunk: bytes) -> Iterator[bytes]:
        """Hand a chunk to the worker, and yield what it has written until it takes it."""
        is_taken = False
        while not is_taken:
            with self._changed:
                self._changed.wait_for(lambda: len(self._incoming) < _WAITING_LIMIT or self._outgoing or self._is_done)
                is_taken = len(self._incoming) < _WAITING_LIMIT or self._is_done
                if is_taken:
                    self._incoming.append(chunk)
                written = self._take_outgoing()
            yield from written

    def complete(self) -> Iterator[bytes]:
        """Tell the worker that nothing more comes, and yield what it writes to its end; raises its error."""
        is_done = False
        while not is_done:
            with self._changed:
                self._is_complete = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._outgoing or self._is_done)
                is_done = self._is_done
                written = self._take_outgoing()
            yield from written
        self.raise_error()

    def raise_error(self) -> None:
        """Raise the error the worker has ended with, if there is one."""
        if self._error is not None:
            raise self._error

    def _take_outgoing(self) -> list[bytes]:
        written = list(self._outgoing)
        self._outgoing.clear()
        self._changed.notify_all()
        return written

    # The worker's side

    def read(self, count: int) -> bytes:
        """Return at most ``count`` bytes of the source, none at its end."""
        if not self._current:
            with self._changed:
                self._changed.wait_for(lambda: self._incoming or self._is_complete or self._is_abandoned)
                self._refuse_if_abandoned()
                if not self._incoming:
                    return b""
                self._current = memoryview(self._incoming.popleft())
                self._changed.notify_all()
        part, self._current = self._current[:count], self._current[count:]
        return bytes(part)

    def write(self, data: bytes) -> int:
        """Take bytes; they are passed on when there are enough of them to be worth it."""
        self._written += data
        if len(self._written) >= CHUNK_SIZE:
            self._pass_on()
        return len(data)

    def flush(self) -> None:
        """Do nothing: the end of the work passes on what is left."""

    def _pass_on(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._outgoing) < _WAITING_LIMIT or self._is_abandoned)
            self._refuse_if_abandoned()
            if self._written:
                self._outgoing.append(bytes(self._written))
            self._changed.notify_all()
        self._written.clear()

    def _refuse_if_abandoned(self) -> None:
        if self._is_abandoned:
            raise _AbandonedError

    def _run(self) -> None:
        try:
            self._work(self)
            self._pass_on()
        except BaseException as error:  # noqa: BLE001 - whatever it is (a panic, too), the consumer raises it
            self._error = error
        with self._changed:
            self._is_done = True
            self._changed.notify_all()


def exchanged(chunks: Iterable[bytes], work: Callable[[Exchange], None], *, name: str) -> Iterator[bytes]:
    """Yield what ``work`` writes to the exchange while it reads the chunks from it, in a thread called ``name``.

    Memory stays flat; the thread has ended when the generator has. An error of ``work`` is raised here, an error of the
    source passes through.
    """
    with Exchange(work, name) as exchange:
        for chunk in chunks:
            yield from exchange.offer(chunk)
            exchange.raise_error()
        yield from exchange.complete()
