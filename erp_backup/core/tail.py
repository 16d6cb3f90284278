"""Keeps the end of what a program says on a pipe, without ever making it wait."""

from __future__ import annotations

import os
import selectors
import threading

_READ_SIZE = 1 << 16
_READS_AFTER_END = 32  # what a pipe can hold; whoever writes more than that now is not the program any more


class Tail:
    """Drains a pipe in a thread, so that a flood of messages cannot block the program, and keeps the last of it.

    ``received`` counts all bytes: it shows that the program is alive.
    """

    def __init__(self, descriptor: int, *, limit: int = 1 << 16) -> None:
        self.received = 0
        self._descriptor = descriptor
        self._limit = limit
        self._kept = bytearray()
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._drain, name="stderr", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._close()
            raise

    def text(self) -> str:
        """Return the end of what has come so far."""
        return bytes(self._kept).decode(errors="replace")

    def finish(self) -> None:
        """Take what is still in the pipe and end the thread, even if somebody holds the pipe open."""
        os.write(self._end, b".")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        os.close(self._ended)
        os.close(self._end)

    def _drain(self) -> None:
        with selectors.PollSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            reads_left = _READS_AFTER_END
            while reads_left:
                ready = {key.fd for key, _ in selector.select()}
                if self._ended in ready:
                    reads_left -= 1
                if self._descriptor not in ready or not self._keep(os.read(self._descriptor, _READ_SIZE)):
                    return

    def _keep(self, data: bytes) -> bool:
        """Keep the end of everything so far; say whether there was something."""
        self.received += len(data)
        self._kept = (self._kept + data)[-self._limit :]
        return bool(data)
