"""Values of rows as short text, for people."""

from __future__ import annotations

from typing import Any

from erp_backup.engines.bridging import Bridge, listed
from erp_backup.services.rows.closure import Node
from erp_backup.services.rows.request import SAMPLES, Sample

_LONGEST = 200  # characters of a value


def text_of(value: Any) -> str | None:
    """Return a value as text of at most some hundred characters; None is no value."""
    if value is None:
        return None
    text = f"\\x{bytes(value[:_LONGEST]).hex()}" if isinstance(value, bytes | memoryview) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def sample_of(bridge: Bridge, node: Node) -> Sample:
    """Return the first rows of a node, in the order of their keys."""
    query = (
        f"SELECT {listed(node.columns)} FROM {node.relation} "  # noqa: S608 - quoted identifiers
        f"ORDER BY {listed(node.live.key)} LIMIT {SAMPLES}"
    )
    rows = tuple(tuple(text_of(value) for value in row) for row in list(bridge.query(query)))
    return Sample(columns=node.columns, rows=rows)
