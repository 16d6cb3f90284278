"""Programs that behave badly: small shell scripts in the place of PostgreSQL's own."""

from __future__ import annotations

from pathlib import Path

# What the script does instead of dumping; "$REAL" is the real program.
BAD_DUMPS = {
    "before": 'echo "pg_dump: error: it died before" >&2; exit 1',
    "amid": '"$REAL" "$@" | head -c 20000; echo "pg_dump: error: it died amid" >&2; kill -9 $$',
    "after": '"$REAL" "$@" || exit 1; echo "pg_dump: error: it died after" >&2; exit 3',
    "empty": "exit 0",
    "silent": "sleep 1000",
    "garbage": "head -c 100000 /dev/urandom; exit 0",
}


def fake_program(folder: Path, name: str, real: Path, body: str) -> Path:
    """Write a script called `name` into `folder` that answers `--version` as `real` does and otherwise runs `body`."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    script.write_text(f'#!/bin/sh\nREAL={real}\n[ "$1" = --version ] && exec "$REAL" --version\n{body}\n')
    script.chmod(0o755)
    return folder
