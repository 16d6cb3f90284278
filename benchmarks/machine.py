"""What a result depends on: processors, memory, versions, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("django", "django-dbbackup", "psycopg", "zstandard")


def describe() -> dict[str, str]:
    """Return the machine's facts by what they are called."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return {
        "Processors": f"{os.cpu_count()} x {_processor()}",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "System": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": f"{platform.python_version()}, {packages}",
        "SQLite": f"{sqlite3.sqlite_version} (Python's), {_first_line('sqlite3', '--version').split(' ')[0]} (program)",
        "gzip": _first_line("gzip", "--version"),
        "Load before": load(),
    }


def load() -> str:
    """Return how many processes wanted to run in the last minutes: more than processors means that somebody waited."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
