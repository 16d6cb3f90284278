"""Rows that are on both sides and not the same: in which columns, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from erp_backup.engines.bridging import Bridge, Column, Match, listed, matched, quoted, require_equal_columns
from erp_backup.services.rows.closure import Closure, Node
from erp_backup.services.rows.request import SAMPLES, ChangedRows, Difference
from erp_backup.services.rows.samples import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The rows of one table that differ, as the backup has them: a relation of the bridge's session."""

    node: Node
    relation: str
    columns: tuple[Column, ...]  # those that may be other than they were


def find_changed(closure: Closure, node: Node, keys: str | None) -> Iterator[Changed]:
    """Yield the changed rows of the model asked for, and of its parents in multi-table inheritance."""
    require_equal_columns(node.live, node.restored)
    bridge, key = closure.bridge, node.live.key
    match = Match(columns=key, relation=keys, others=key) if keys is not None else None
    staged = bridge.stage(node.restored, node.columns, match)
    columns = tuple(column for column in node.live.columns if column.name in node.writable and column.name not in key)
    if columns:
        relation = bridge.temporary(
            f"SELECT b.* FROM {staged} AS b JOIN {node.live.sql} AS l ON {matched('l', 'b', key)} "  # noqa: S608
            f"WHERE {' OR '.join(_differs(bridge, column) for column in columns)}",
            key,
        )
        if bridge.count(relation):
            yield Changed(node=node, relation=relation, columns=columns)
    for link in closure.graph.of(node.model):
        parent = closure.node(link.target) if link.is_parent and (link.column,) == key else None
        if parent is not None:
            parents = bridge.temporary(f"SELECT {quoted(link.column)} AS {quoted(link.target_column)} FROM {staged}")  # noqa: S608
            yield from find_changed(closure, parent, parents)


def _differs(bridge: Bridge, column: Column) -> str:
    return bridge.differs(column, f"b.{quoted(column.name)}", f"l.{quoted(column.name)}")


def describe(bridge: Bridge, changed: Changed) -> ChangedRows:
    """Count the differences column by column, and read the first of them."""
    sums = ", ".join(f"sum(CASE WHEN {_differs(bridge, column)} THEN 1 ELSE 0 END)" for column in changed.columns)
    (counts,) = list(bridge.query(f"SELECT {sums} FROM {_both(changed)}"))  # noqa: S608 - quoted identifiers
    columns = {column.name: int(count) for column, count in zip(changed.columns, counts, strict=True) if count}
    return ChangedRows(
        model=changed.node.label,
        table=changed.node.live.label,
        count=bridge.count(changed.relation),
        columns=columns,
        sample=tuple(_sample(bridge, changed, [c for c in changed.columns if c.name in columns])),
    )


def _both(changed: Changed) -> str:
    node = changed.node
    return f"{changed.relation} AS b JOIN {node.live.sql} AS l ON {matched('l', 'b', node.live.key)}"


def _sample(bridge: Bridge, changed: Changed, columns: list[Column]) -> Iterator[Difference]:
    key = changed.node.live.key
    parts = ", ".join(
        f"CASE WHEN {_differs(bridge, column)} THEN 1 ELSE 0 END, b.{quoted(column.name)}, l.{quoted(column.name)}"
        for column in columns
    )
    query = f"SELECT {listed(key, 'b')}, {parts} FROM {_both(changed)} ORDER BY {listed(key, 'b')} LIMIT {SAMPLES}"  # noqa: S608
    for row in list(bridge.query(query)):
        name = ", ".join(text_of(value) or "" for value in row[: len(key)])
        rest = row[len(key) :]
        for number, column in enumerate(columns):
            differs, backup, live = rest[3 * number : 3 * number + 3]
            if differs:
                yield Difference(key=name, column=column.name, backup=text_of(backup), live=text_of(live))


def overwrite(bridge: Bridge, changed: Changed) -> int:
    """Put the rows back as they were; return how many."""
    values = ", ".join(f"{quoted(column.name)} = b.{quoted(column.name)}" for column in changed.columns)
    node = changed.node
    return bridge.execute(
        f"UPDATE {node.live.sql} AS l SET {values} FROM {changed.relation} AS b "  # noqa: S608 - quoted identifiers
        f"WHERE {matched('l', 'b', node.live.key)}"
    )
