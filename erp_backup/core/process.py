"""Programs: the only code that starts them. Argument lists, never a shell; nothing of them outlives us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from erp_backup.core.child import Child, Limits, Started
from erp_backup.core.codecs.base import closing_source, slices
from erp_backup.core.errors import ProgramError, ProgramMissingError
from erp_backup.core.interrupts import signals_held
from erp_backup.core.programs import Command, Completed, base_environment, find_program, says_no_space

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from erp_backup.core.clock import Clock

__all__ = ["Command", "Completed", "ProcessRunner", "base_environment", "find_program", "says_no_space"]

_CHUNK_SIZE = 1 << 20
_PR_SET_PDEATHSIG = 1


class ProcessRunner:
    """Starts programs, each in a process group of its own, and ends all of the group.

    ``grace`` is the time in seconds between asking a program to end and killing it.

    On Linux a program is killed when the *thread* that started it ends: that is what the kernel offers for "when we
    die, even by SIGKILL". So iterate over a stream in a thread that lives as long as the stream does. The program's
    own children do not inherit this; unless we are killed by SIGKILL they end with the group.
    """

    def __init__(self, clock: Clock, *, grace: float = 5.0) -> None:
        self._clock = clock
        self._grace = grace

    def stream(
        self,
        command: Command,
        *,
        stdin: Iterable[bytes] | None = None,
        idle_limit: float | None = None,
        total_limit: float | None = None,
        chunk_size: int = _CHUNK_SIZE,
        stop: threading.Event | None = None,
    ) -> Iterator[bytes]:
        """Yield standard output in chunks of at most ``chunk_size``; the end of iteration means the program succeeded.

        The program starts with the first ``next``. If the reader gives up (closes the generator), it is killed with
        all of its process group. ``stdin`` is read in the reader's thread; its error ends the program and is passed
        on; that the program stops reading early is no error, its exit status decides.

        Raises :class:`ProgramError` for an exit status other than 0, :class:`ProgramMissingError`, and
        :class:`TimeLimitError` after ``idle_limit`` seconds without a byte in or out (waiting for the reader or
        for ``stdin`` not counted) or after ``total_limit`` seconds in all. Once ``stop`` is set, by whatever thread,
        the program is ended and ProgramError raised, also while the reader waits for it.
        """
        limits = Limits(self._clock, idle_limit, total_limit, stop)
        with self._started(command, stdin, limits) as child:
            yield from child.output(chunk_size)
            child.wait()
        child.raise_for_status()

    def run(
        self,
        command: Command,
        *,
        stdin: Iterable[bytes] | None = None,
        total_limit: float | None = None,
        check: bool = True,
    ) -> Completed:
        """Return what a program of little output left; raises like :meth:`stream`.

        With ``check=False`` an exit status other than 0 is returned, not raised.
        """
        limits = Limits(self._clock, None, total_limit)
        with self._started(command, stdin, limits) as child:
            stdout = b"".join(child.output(_CHUNK_SIZE))
            child.wait()
        if check:
            child.raise_for_status()
        return Completed(stdout=stdout, stderr=child.stderr, status=child.status)

    @contextmanager
    def _started(self, command: Command, stdin: Iterable[bytes] | None, limits: Limits) -> Iterator[Child]:
        """Start the program; whatever happens inside, nothing of it is left afterwards."""
        child = None
        given = closing_source(stdin if stdin is not None else ())
        with given as chunks, closing_source(slices(chunks)) as source:
            try:
                # A signal between the start and the moment we know the child would leave it running.
                with signals_held():
                    started = _start(command, has_stdin=stdin is not None)
                    child = Child(command, started, source, limits)
                child.watch()
                yield child
            finally:
                if child is not None:
                    with signals_held():
                        child.end(self._grace)


def _start(command: Command, *, has_stdin: bool) -> Started:
    """Start the program in a session of its own, without our files, terminal or umask."""
    try:
        popen = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(command.env),
            cwd=command.cwd,
            bufsize=0,
            close_fds=True,
            start_new_session=True,
            umask=0o077,
            preexec_fn=_bound_to_us(),  # noqa: PLW1509 - it is made for a process with threads, see there
        )
    except OSError as error:
        # The same error stands for a missing folder to start in.
        if isinstance(error, FileNotFoundError) and (command.cwd is None or command.cwd.is_dir()):
            raise _missing(command) from error
        raise ProgramError(
            f"{command.program} could not be started: {error.strerror}.", program=command.program
        ) from error
    return Started(
        pid=popen.pid,
        stdin=popen.stdin,
        stdout=cast("IO[bytes]", popen.stdout),
        stderr=cast("IO[bytes]", popen.stderr),
        reap=popen.wait,
    )


def _missing(command: Command) -> ProgramMissingError:
    remedy = f"Install the package {command.package}." if command.package else "Install it, or correct its path."
    return ProgramMissingError(f"The program {command.argv[0]} is not installed.", remedy=remedy)


def _bound_to_us() -> Callable[[], None] | None:
    """Return what the child does between fork and exec so that it dies when we do, even by SIGKILL.

    Between fork and exec of a process with threads nothing may be imported, looked up or locked: all of it is
    resolved here, and ``PyDLL`` does not let go of the interpreter's lock.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.PyDLL(None).prctl
    option, parent = ctypes.c_int(_PR_SET_PDEATHSIG), os.getpid()
    arguments = tuple(ctypes.c_ulong(value) for value in (signal.SIGKILL, 0, 0, 0))
    getppid, leave, status = os.getppid, os._exit, 128 + signal.SIGKILL

    def bind() -> None:
        prctl(option, *arguments)
        if getppid() != parent:  # we died before the line above, and nobody would tell
            leave(status)

    return bind
