"""What a live database holds, but for our own history: to prove that something has left it as it was."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from tests.support.postgres import Cluster

_RANDOM = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)


def content_of(database: dict[str, Any] | Path, cluster: Cluster | None = None) -> str:
    """Return all of a database as text, definitions and rows; `database` is a file or an entry of DATABASES."""
    if isinstance(database, Path):
        return _sqlite(database)
    assert cluster is not None
    return _postgresql(database, cluster)


def rows_of(content: str) -> list[str]:
    """Return the rows in a content, those of sessions left out: definitions come back spelled otherwise.

    So are SQLite's counters: they say which keys were used once.
    """
    lines = content.splitlines()
    if any(line.startswith("COPY ") for line in lines):
        inside, found = False, []
        for line in lines:
            inside = (inside or line.startswith("COPY ")) and line != "\\."
            if inside:
                found.append(line)
        lines = found
    return sorted(
        line
        for line in lines
        if (line.startswith("INSERT") and '"django_session"' not in line and '"sqlite_sequence"' not in line)
        or line.startswith("COPY")
        or ("\t" in line and "session" not in line)
    )


def _sqlite(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return "\n".join(line for line in connection.iterdump() if "erp_backup_" not in line)


def _postgresql(entry: dict[str, Any], cluster: Cluster) -> str:
    done = subprocess.run(
        [cluster.bin_dir / "pg_dump", "--exclude-table=erp_backup_*", "--dbname", entry["NAME"]],
        env={
            **os.environ,
            "PGHOST": entry["HOST"],
            "PGPORT": entry["PORT"],
            "PGUSER": cluster.superuser,
            "PGPASSWORD": cluster.password,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return _RANDOM.sub("", done.stdout)
