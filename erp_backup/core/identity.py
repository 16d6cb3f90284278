"""Which process did something, told apart from every other one, also after the machine was started anew."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STARTED = 19  # which of the fields that follow the program's name in /proc/<pid>/stat: its start, in ticks since boot


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process of one run of one machine; ``boot`` and ``started`` are empty where the system does not tell."""

    host: str
    boot: str
    pid: int
    started: str

    @property
    def is_gone(self) -> bool:
        """Whether the process has certainly ended. Of another machine's process that cannot be said here: False."""
        if self.host != socket.gethostname():
            return False
        return self.boot != _boot() or self.started != _started(self.pid) or not _exists(self.pid)


def this_process() -> ProcessIdentity:
    """Return the process that asks."""
    pid = os.getpid()
    return ProcessIdentity(host=socket.gethostname(), boot=_boot(), pid=pid, started=_started(pid))


def _boot() -> str:
    return _BOOT.read_text().strip() if _BOOT.exists() else ""


def _started(pid: int) -> str:
    try:
        # A program's name can hold anything, also spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[_STARTED]
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
