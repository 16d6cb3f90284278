"""A program that was started: its pipes, its limits, its process group, its end."""

from __future__ import annotations

import fcntl
import math
import os
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from erp_backup.core.errors import ProgramError, TimeLimitError
from erp_backup.core.programs import without_secrets
from erp_backup.core.tail import Tail

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from erp_backup.core.clock import Clock
    from erp_backup.core.programs import Command

_PIPE_SIZE = 1 << 20
_TICK = 0.2  # seconds between looks at limits while nothing happens
_LONGEST_HELD = 5.0  # seconds that others may hold the pipes of a program that has ended
_LONGEST_LINE = 300  # of a program's messages, in a message of ours


@dataclass(slots=True)
class Limits:
    """How long a program may be silent and may run, in seconds of the clock; None is for ever.

    ``stop``, once it is set, ends it before that.
    """

    clock: Clock
    idle: float | None
    total: float | None
    stop: threading.Event | None = None
    started: float = field(init=False)
    active: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.active = self.clock.monotonic()

    def touch(self) -> None:
        """Note a sign of life, or the end of a wait that was not the program's."""
        self.active = self.clock.monotonic()

    def exceeded(self) -> str:
        """Return what was exceeded, in words, or nothing."""
        now = self.clock.monotonic()
        if self.total is not None and now - self.started > self.total:
            return f"ran for more than {self.total:g} s"
        if self.idle is not None and now - self.active > self.idle:
            return f"was silent for more than {self.idle:g} s"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What exists of a program once it runs: its number (its group's, too), our ends of its pipes, how to reap it."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes]
    stderr: IO[bytes]
    reap: Callable[[], object]


class Child:
    """A running program, until :meth:`end`; ``status`` and ``stderr`` are valid from then on."""

    def __init__(self, command: Command, started: Started, source: Iterator[bytes], limits: Limits) -> None:
        self.stderr = ""
        self.status = 0
        self._command = command
        self._started = started
        self._source = source
        self._limits = limits
        self._input = memoryview(b"")
        self._tail: Tail | None = None
        self._seen = 0
        self._held = 0.0
        self._is_ended = False
        self._is_lost = False

    def watch(self) -> None:
        """Begin to drain its messages."""
        for pipe in filter(None, (self._started.stdin, self._started.stdout)):
            with suppress(OSError, AttributeError):  # more than this user may have; small pipes are only slower
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._tail = Tail(self._started.stderr.fileno())

    def output(self, chunk_size: int) -> Iterator[bytes]:
        """Feed it and yield what it writes, until it has closed its output and takes no more input."""
        stdout, stdin = self._started.stdout, self._started.stdin
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if stdin is not None:
                os.set_blocking(stdin.fileno(), False)
                selector.register(stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = {key.fd for key, _ in selector.select(_TICK)}
                self._check(is_quiet=not ready)
                if stdin is not None and not stdin.closed and stdin.fileno() in ready:
                    self._feed(selector, stdin)
                if stdout.fileno() in ready:
                    yield from self._read(selector, stdout, chunk_size)
                    self._limits.touch()

    def wait(self) -> None:
        """Return when it has ended; raises if that takes too long, or if nobody can say how it ended."""
        pause = 0.001
        while not self._has_ended():
            self._check_limits()
            _pause(pause)
            pause = min(2 * pause, _TICK / 4)
        if self._is_lost:
            raise self._error("ended, but its exit status was lost", "SIGCHLD must not be ignored.")

    def end(self, grace: float) -> None:
        """End it and all of its group, if necessary by force, and give back what it held here."""
        for pipe in (self._started.stdin, self._started.stdout):
            if pipe is not None:
                pipe.close()
        if not self._has_ended():
            self._signal_group(signal.SIGTERM)
            for _ in range(math.ceil(grace / _TICK) * 10):
                if self._has_ended():
                    break
                _pause(_TICK / 10)
        # It has not been reaped yet, so the group's number is still its own: this reaches only what it left behind.
        self._signal_group(signal.SIGKILL)
        self._started.reap()
        if self._tail is not None:
            self._tail.finish()
            self.stderr = self._messages()
        self._started.stderr.close()

    def raise_for_status(self) -> None:
        """Raise :class:`ProgramError` unless it ended with status 0."""
        if self.status > 0:
            raise self._error(f"ended with status {self.status}")
        if self.status < 0:
            raise self._error(f"was killed by {_signal_name(-self.status)}")

    def _read(self, selector: selectors.BaseSelector, stdout: IO[bytes], chunk_size: int) -> Iterator[bytes]:
        """Yield what is there to read, or stop listening at the end."""
        chunk = os.read(stdout.fileno(), chunk_size)
        if chunk:
            yield chunk
        else:
            selector.unregister(stdout)

    def _feed(self, selector: selectors.BaseSelector, stdin: IO[bytes]) -> None:
        """Write as much input as the pipe takes; close it after the last, or when nobody reads it any more."""
        if not self._input:
            self._input = memoryview(next(self._source, b""))
        is_over = not self._input
        try:
            self._input = self._input[os.write(stdin.fileno(), self._input) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            is_over = True
        if is_over:
            selector.unregister(stdin)
            stdin.close()
        self._limits.touch()

    def _check(self, *, is_quiet: bool) -> None:
        """Raise when a limit is exceeded, or when somebody holds the pipes of a program that has ended."""
        self._check_limits()
        if not is_quiet:
            self._held = 0.0
        elif self._has_ended():
            self._held += _TICK
            if self._held > _LONGEST_HELD:
                raise self._error("has ended, but something it started still holds its input or output")

    def _check_limits(self) -> None:
        if self._limits.stop is not None and self._limits.stop.is_set():
            raise self._error("was stopped, because nobody needs its output any more")
        received = self._tail.received if self._tail is not None else 0
        if received != self._seen:
            self._seen = received
            self._limits.touch()
        exceeded = self._limits.exceeded()
        if exceeded:
            raise TimeLimitError(
                f"{self._command.program} {exceeded} and was stopped.{_quoted(self._messages())}",
                program=self._command.program,
                stderr=self._messages(),
                remedy="See what it waits for, or raise the limit.",
            )

    def _has_ended(self) -> bool:
        """Say whether it has ended, and note how; it stays unreaped until :meth:`end`."""
        if self._is_ended:
            return True
        try:
            result = os.waitid(os.P_PID, self._started.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # With SIGCHLD ignored the kernel forgets the status; the standard library calls that a success.
            self._is_ended = self._is_lost = True
            return True
        if result is not None:
            self._is_ended = True
            self.status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        return self._is_ended

    def _signal_group(self, number: signal.Signals) -> None:
        if not self._is_lost:
            with suppress(ProcessLookupError, PermissionError):  # gone, or (macOS) a zombie
                os.killpg(self._started.pid, number)

    def _messages(self) -> str:
        return without_secrets(self._tail.text(), self._command.env) if self._tail is not None else ""

    def _error(self, what: str, remedy: str = "") -> ProgramError:
        stderr = self.stderr or self._messages()
        return ProgramError(
            f"{self._command.program} {what}.{_quoted(stderr)}",
            program=self._command.program,
            status=self.status,
            stderr=stderr,
            remedy=remedy,
        )


def _pause(seconds: float) -> None:
    """Let the program go on. It lives in real time: a clock made for a test would not wait for it."""
    time.sleep(seconds)


def _quoted(stderr: str) -> str:
    """Return the last line that a program said, for the end of a message."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f" It said: {lines[-1][:_LONGEST_LINE]}" if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
