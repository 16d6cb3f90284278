"""Real damage to real databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.postgres import Cluster

PAGE = 8192


def damage_heap(cluster: Cluster, entry: dict[str, Any], table: str, *, filler: bytes = b"\0") -> None:
    """Overwrite the pages of a table's heap, the server stopped, as a failing disk does; zeros look like no rows."""
    with cluster.connect(entry["NAME"]) as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s::regclass)", [table]).fetchone()
    assert row is not None
    cluster.stop()
    path: Path = cluster.data_dir / row[0]
    size = path.stat().st_size
    assert size >= PAGE
    with path.open("r+b") as file:
        file.write(filler * (size // len(filler)))
    cluster.start()


def damage_header(path: Path) -> None:
    """Overwrite the beginning of a database's file: it is none any more."""
    with path.open("r+b") as file:
        file.write(b"\0" * 100)
