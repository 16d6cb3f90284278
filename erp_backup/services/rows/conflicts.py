"""What stands in the way of rows that are to come back: a natural key that another row has now, a lost parent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from erp_backup.engines.bridging import Bridge, Unique, listed, matched, quoted
from erp_backup.services.rows.closure import Closure, Node
from erp_backup.services.rows.request import SAMPLES, Conflict
from erp_backup.services.rows.samples import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A conflict, the relation whose rows it is about, and the relation of their keys."""

    node: Node
    conflict: Conflict
    relation: str
    keys: str


def find_conflicts(closure: Closure, overwritten: list[tuple[Node, str]]) -> Iterator[Standing]:
    """Yield each conflict, of rows that are to come back and of rows that are to be overwritten."""
    for node, relation in [*((node, node.relation) for node in closure.filled), *overwritten]:
        for unique in node.live.uniques:
            yield from _unique_conflict(closure.bridge, node, relation, unique)
    for node, link, keys in closure.dangling():
        conflict = Conflict(
            model=node.label,
            subject=f"{link.field} -> {link.target._meta.label}",
            kind="reference",
            count=closure.bridge.count(keys),
            keys=_first_keys(closure.bridge, keys, node.live.key),
        )
        yield Standing(node=node, conflict=conflict, relation=node.relation, keys=keys)


def _unique_conflict(bridge: Bridge, node: Node, relation: str, unique: Unique) -> Iterator[Standing]:
    key = node.live.key
    mine = [f"k{number}" for number in range(len(key))]
    theirs = [f"o{number}" for number in range(len(key))]
    pairs = ", ".join(
        [f"r.{quoted(column)} AS {name}" for column, name in zip(key, mine, strict=True)]
        + [f"l.{quoted(column)} AS {name}" for column, name in zip(key, theirs, strict=True)]
    )
    found = bridge.temporary(
        f"SELECT {pairs} FROM {_side(node, node.live.sql, unique)} AS l"  # noqa: S608 - quoted identifiers
        f" JOIN {_side(node, relation, unique)} AS r ON {_same(unique)} WHERE NOT ({matched('l', 'r', key)})"
    )
    count = bridge.count(found)
    if count:
        columns = ", ".join(f"c.{name} AS {quoted(column)}" for name, column in zip(mine, key, strict=True))
        keys = bridge.temporary(f"SELECT {columns} FROM {found} AS c")  # noqa: S608 - quoted identifiers
        conflict = Conflict(
            model=node.label,
            subject=unique.name,
            kind="unique",
            count=count,
            keys=_first_keys(bridge, found, tuple(mine)),
            others=_first_keys(bridge, found, tuple(theirs), order=tuple(mine)),
        )
        yield Standing(node=node, conflict=conflict, relation=relation, keys=keys)


def _side(node: Node, relation: str, unique: Unique) -> str:
    """Return a subquery with the index's expressions as columns; they may name their table."""
    columns = ", ".join(f"{text} AS u{number}" for number, text in enumerate(unique.expressions))
    where = f" WHERE {unique.predicate}" if unique.predicate else ""
    return f"(SELECT {columns}, {listed(node.live.key)} FROM {relation} AS {quoted(node.live.name)}{where})"  # noqa: S608


def _same(unique: Unique) -> str:
    operator = "IS NOT DISTINCT FROM" if unique.has_equal_nulls else "="
    collations = unique.collations or ("",) * len(unique.expressions)
    return " AND ".join(
        f"l.u{number} {operator} r.u{number}{f' COLLATE {collation}' if collation else ''}"
        for number, collation in enumerate(collations)
    )


def _first_keys(bridge: Bridge, relation: str, key: tuple[str, ...], order: tuple[str, ...] = ()) -> tuple[str, ...]:
    query = f"SELECT {listed(key)} FROM {relation} ORDER BY {listed(order or key)} LIMIT {SAMPLES}"  # noqa: S608
    return tuple(", ".join(text_of(value) or "" for value in row) for row in list(bridge.query(query)))
