"""``make bench``: run as a program, with the repository's root importable."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def start() -> int:
    """Run the benchmark with this program's arguments and return its exit status."""
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    status: int = importlib.import_module("benchmarks.comparing").main(sys.argv[1:])
    return status


if __name__ == "__main__":
    raise SystemExit(start())
