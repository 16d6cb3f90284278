"""Writing the missing rows to a file: SQL for the stock program, or CSV for a spreadsheet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from erp_backup.core.errors import UsageError
from erp_backup.core.spaces import no_space_as_error
from erp_backup.engines.bridging import Bridge
from erp_backup.services.rows.closure import Node

KINDS = (".sql", ".csv")


def require_exportable(path: Path) -> None:
    """Raise UsageError for a file that cannot be written or is there already."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{path.name} is no SQL and no CSV.", remedy="Let its name end with .sql or .csv.")
    if path.exists():
        raise UsageError(f"{path} exists.", remedy="Choose another name: nothing is overwritten.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", remedy="Make it first.")


def export(bridge: Bridge, nodes: Sequence[Node], target: Node, path: Path, heading: str) -> int:
    """Write the file (mode 0600), whole or not at all, and return how many rows it holds.

    SQL has the rows of all tables, in their order, in one transaction; CSV those of the model that was asked for.
    """
    chosen = list(nodes) if path.suffix.lower() == ".sql" else [node for node in nodes if node is target]
    chunks = _sql(bridge, chosen, heading) if path.suffix.lower() == ".sql" else _csv(bridge, chosen, target)
    try:
        with no_space_as_error(path), os.fdopen(os.open(path, _NEW, 0o600), "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UsageError(f"{path} exists.", remedy="Choose another name: nothing is overwritten.") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return sum(bridge.count(node.relation) for node in chosen)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _sql(bridge: Bridge, nodes: Sequence[Node], heading: str) -> Iterator[bytes]:
    yield f"-- {heading}\nBEGIN;\n".encode()
    for node in nodes:
        for statement in bridge.insert_statements(node.live, node.writable, node.relation):
            yield statement.encode()
    yield b"COMMIT;\n"


def _csv(bridge: Bridge, nodes: Sequence[Node], target: Node) -> Iterator[bytes]:
    if not nodes:
        yield (",".join(f'"{name}"' for name in target.columns) + "\n").encode()
    for node in nodes:
        yield from bridge.csv_chunks(node.columns, node.relation)
