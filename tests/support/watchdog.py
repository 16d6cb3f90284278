"""Stops a cluster and removes its folder when the process that started it is gone, however it went.

Run as ``python watchdog.py FOLDER`` with a pipe as standard input whose other end only that process holds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def postmaster_pid(data_dir: Path) -> int | None:
    """Return the process id of the server that runs on `data_dir`, or None."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # The file outlives a killed server, and its number may by now be somebody else's.
    return pid if os.fsencode(data_dir) in arguments else None


def remove(folder: Path) -> None:
    """End the server below `folder` at once and remove the folder."""
    pid = postmaster_pid(folder / "data")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while postmaster_pid(folder / "data") is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Wait until nobody holds the other end of standard input, then clean up."""
    sys.stdin.buffer.read()
    remove(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
