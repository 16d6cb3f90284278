"""Running one program and measuring it from outside: time, processor, memory, temporary disk, what it leaves."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import processes
from benchmarks.peers import Step

_INTERVAL = 0.05  # seconds between looks
_LAST_WORDS = 2000  # bytes of a failed program's output


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of one step. Seconds and bytes.

    ``cpu`` is of the program and all it started, ``server_cpu`` of PostgreSQL's own processes in the meantime.
    ``memory`` is the peak of the former together. ``temporary`` is the peak of files beside the result, ``unfinished``
    that of the result in the making, where it does not have its final name yet.
    """

    wall: float
    cpu: float
    server_cpu: float
    memory: int
    temporary: int
    unfinished: int
    result: int


class StepFailedError(Exception):
    """A step ended with an error: there is nothing to compare."""


@dataclass(slots=True)
class _Watcher:
    """Looks at a process tree and its temporary files until told to stop."""

    pid: int
    step: Step
    before: int
    memory: int = 0
    temporary: int = 0
    unfinished: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Keep the peaks."""
        while not self._stop.wait(_INTERVAL):
            pids = processes.tree(self.pid)
            self.memory = max(self.memory, processes.memory(pids))
            files = temporary_files(self.step) - self.before + processes.nameless_files(pids)
            self.temporary = max(self.temporary, files)
            self.unfinished = max(self.unfinished, _unfinished(self.step.output))

    def stop(self) -> None:
        """Let :meth:`watch` return."""
        self._stop.set()


def temporary_files(step: Step) -> int:
    """Return the bytes of all files where the step keeps what it needs only while it runs."""
    return sum(map(processes.disk_use, step.scratch))


def _unfinished(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.glob(".*.partial") if path.exists())


def measure(step: Step, server: int | None, log: Path) -> Sample:
    """Run a step to its end and return what it took; ``server`` is PostgreSQL's first process.

    Raises StepFailedError.
    """
    step.prepare()
    os.sync()  # nobody waits for what the one before has left to write
    server_before = processes.processor_seconds(server) if server else 0.0
    with log.open("wb") as output:
        before = temporary_files(step)
        begun = time.monotonic()
        process = subprocess.Popen(
            step.argv, env=dict(step.env), cwd=step.cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        watcher = _Watcher(process.pid, step, before)
        ended, cpu = _watched(watcher, process)
    if process.returncode != 0:
        raise StepFailedError(f"{step.name} ended with status {process.returncode}:\n{_last_words(log)}")
    server_cpu = processes.processor_seconds(server) - server_before if server else 0.0
    return Sample(
        wall=ended - begun,
        cpu=cpu,
        server_cpu=server_cpu,
        memory=watcher.memory,
        temporary=watcher.temporary,
        unfinished=watcher.unfinished,
        result=processes.disk_use(step.output) if step.has_result else 0,
    )


def _watched(watcher: _Watcher, process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Wait for the process while it is watched; return when it ended and its processor time, with all it reaped."""
    thread = threading.Thread(target=watcher.watch, name="watcher")
    thread.start()
    try:
        _pid, status, usage = os.wait4(process.pid, 0)
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        watcher.stop()
        thread.join()
    return ended, usage.ru_utime + usage.ru_stime


def _last_words(log: Path) -> str:
    return log.read_bytes()[-_LAST_WORDS:].decode(errors="replace")


Reporter = Callable[[str], None]


def measure_round(steps: list[Step], server: int | None, log: Path, report: Reporter) -> dict[str, Sample]:
    """Run the steps one after the other and return their samples by name."""
    samples: dict[str, Sample] = {}
    for step in steps:
        try:
            samples[step.name] = sample = measure(step, server, log)
        finally:
            step.finish()
        report(f"  {step.name}: {sample.wall:.1f} s")
    return samples
