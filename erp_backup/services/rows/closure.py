"""Missing rows, and all that must come with them: found in the database, set by set, until nothing more is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Model

from erp_backup.core.errors import RefusedError
from erp_backup.engines.bridging import Bridge, Match, Table, listed, matched, not_null, quoted, require_equal_columns
from erp_backup.services.rows.graph import Graph, Link


@dataclass(slots=True, kw_only=True)
class Node:
    """One model's table on both sides, and the relation of its rows that are to come back."""

    model: type[Model]
    live: Table
    restored: Table
    columns: tuple[str, ...]  # those that both have
    relation: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """The model's name."""
        return str(self.model._meta.label)

    @property
    def writable(self) -> tuple[str, ...]:
        """The columns that are written."""
        return tuple(name for name in self.live.writable if name in self.columns)


@dataclass(slots=True, kw_only=True)
class Closure:
    """Collects rows that are in the copy and not in the live database."""

    bridge: Bridge
    graph: Graph
    with_dependents: bool
    nodes: dict[type[Model], Node | None] = field(default_factory=dict)
    _queue: deque[tuple[Node, str, bool]] = field(default_factory=deque)

    def node(self, model: type[Model]) -> Node | None:
        """Return the model's tables, or None where one of the databases has none. Raises RefusedError."""
        if model not in self.nodes:
            self.nodes[model] = self._node(model)
        return self.nodes[model]

    def _node(self, model: type[Model]) -> Node | None:
        live = self.bridge.live_table(model._meta.db_table)
        restored = self.bridge.restored_table(live) if live is not None else None
        if live is None or restored is None:
            return None
        if not live.key:
            raise RefusedError(f"The table {live.label} has no primary key: its rows cannot be told apart.")
        columns = tuple(name for name in restored.names if name in live.names)
        return Node(model=model, live=live, restored=restored, columns=columns)

    @property
    def filled(self) -> list[Node]:
        """The nodes that have rows to bring, in the order they were found."""
        return [node for node in self.nodes.values() if node is not None and node.relation]

    # Collecting

    def add(self, node: Node, match: Match | None, reason: str) -> None:
        """Collect the rows that match and are missing; what belongs to them is found by :meth:`spread`."""
        require_equal_columns(node.live, node.restored)
        bridge, key = self.bridge, node.live.key
        staged = bridge.stage(node.restored, node.columns, match)
        known = self._absent(node, "b", key)
        fresh = bridge.temporary(
            f"SELECT b.* FROM {staged} AS b WHERE {known}",  # noqa: S608 - our own names
            key,
        )
        if not bridge.count(fresh):
            return
        if not node.relation:
            node.relation = bridge.temporary(f"SELECT * FROM {fresh}", key)  # noqa: S608 - our own name
            node.reason = reason
        else:
            bridge.execute(f"INSERT INTO {node.relation} SELECT * FROM {fresh}")  # noqa: S608 - our own names
        self._queue.append((node, fresh, True))

    def _absent(self, node: Node, alias: str, key: Sequence[str], columns: Sequence[str] | None = None) -> str:
        """Return the condition that there is no such row in the live table, nor among those collected."""
        columns = columns or key
        parts = [f"NOT EXISTS (SELECT 1 FROM {node.live.sql} AS l WHERE {matched('l', alias, key, columns)})"]  # noqa: S608
        if node.relation:
            parts.append(f"NOT EXISTS (SELECT 1 FROM {node.relation} AS k WHERE {matched('k', alias, key, columns)})")  # noqa: S608
        return " AND ".join(parts)

    def missing_among(self, node: Node, keys: str) -> str:
        """Return the relation of those of these keys that the live table does not have."""
        key = node.live.key
        return self.bridge.temporary(
            f"SELECT {listed(key, 'b')} FROM {keys} AS b WHERE {self._absent(node, 'b', key)}"  # noqa: S608
        )

    def look_into(self, node: Node, relation: str) -> None:
        """Let rows that are not collected (they are overwritten) bring what they need."""
        self._queue.append((node, relation, False))

    def spread(self) -> None:
        """Go on until every row has what it needs: parents first, then children, relations, dependents."""
        while self._queue:
            while self._queue:
                node, fresh, is_new = self._queue.popleft()
                for link in self.graph.of(node.model):
                    self._bring_target(fresh, link)
                for link in self.graph.to(node.model) if is_new else ():
                    if link.is_parent or (self.with_dependents and self._is_dependent(link)):
                        self._bring_sources(fresh, link)
            self._bring_relations()

    def _bring_target(self, fresh: str, link: Link) -> None:
        target = self.node(link.target)
        if target is None:
            return
        column = quoted(link.column)
        need = self.bridge.temporary(
            f"SELECT DISTINCT f.{column} FROM {fresh} AS f WHERE f.{column} IS NOT NULL AND "  # noqa: S608
            + self._absent(target, "f", (link.target_column,), (link.column,))
        )
        if self.bridge.count(need):
            self.add(target, Match(columns=(link.target_column,), relation=need, others=(link.column,)), "needed")

    def _is_dependent(self, link: Link) -> bool:
        return link.goes_along and not link.is_parent and link.source not in self.graph.relations

    def _bring_sources(self, fresh: str, link: Link) -> None:
        source = self.node(link.source)
        if source is None:
            return
        match = self._missing_sources(source, fresh, link)
        if match is not None:
            self.add(source, match, "part" if link.is_parent else "dependent")

    def _missing_sources(self, source: Node, fresh: str, link: Link, more: str = "") -> Match | None:
        """Return the keys of the copy's rows that refer to these rows and are missing."""
        key = source.live.key
        names = tuple(dict.fromkeys((*key, *(other.column for other in self.graph.of(link.source)))))
        referring = Match(columns=(link.column,), relation=fresh, others=(link.target_column,))
        staged = self.bridge.stage(source.restored, names, referring)
        missing = self.bridge.temporary(
            f"SELECT {listed(key, 'b')} FROM {staged} AS b WHERE {self._absent(source, 'b', key)}{more}"  # noqa: S608
        )
        return Match(columns=key, relation=missing, others=key) if self.bridge.count(missing) else None

    def _bring_relations(self) -> None:
        """Collect many-to-many rows of collected rows, where everything that they refer to exists then."""
        for node in self.filled:
            for link in self.graph.to(node.model):
                source = self.node(link.source) if link.source in self.graph.relations else None
                if source is not None:
                    match = self._missing_sources(source, node.relation, link, self._has_all_targets(link.source))
                    if match is not None:
                        self.add(source, match, "relation")

    def _has_all_targets(self, model: type[Model]) -> str:
        conditions = [self._dangling(link, "b") for link in self.graph.of(model)]
        return "".join(f" AND NOT ({condition})" for condition in conditions if condition)

    def _dangling(self, link: Link, alias: str) -> str:
        """Return the condition that a row refers to a row that neither is there nor comes back."""
        target = self.node(link.target)
        if target is None:
            return ""
        absent = self._absent(target, alias, (link.target_column,), (link.column,))
        return f"{not_null(alias, (link.column,))} AND {absent}"

    # What it looks like

    def dependents(self) -> list[tuple[Link, int]]:
        """Return how many rows referred to the rows collected, are missing as well, and were not collected."""
        found = []
        for node in self.filled:
            for link in self.graph.to(node.model):
                source = self.node(link.source) if self._is_dependent(link) else None
                match = self._missing_sources(source, node.relation, link) if source is not None else None
                if match is not None:
                    found.append((link, self.bridge.count(match.relation)))
        return found

    def dangling(self) -> list[tuple[Node, Link, str]]:
        """Return the relations of the collected rows' keys whose foreign keys would be broken, none of them empty."""
        found = []
        for node in self.filled:
            for link in self.graph.of(node.model):
                condition = self._dangling(link, "b") if link.is_enforced else ""
                if condition:
                    keys = self.bridge.temporary(
                        f"SELECT {listed(node.live.key, 'b')} FROM {node.relation} AS b WHERE {condition}"  # noqa: S608
                    )
                    if self.bridge.count(keys):
                        found.append((node, link, keys))
        return found

    def drop(self, node: Node, relation: str, keys: str) -> int:
        """Leave rows out after all; return how many."""
        key = node.live.key
        left = f"({listed(key)})" if len(key) > 1 else quoted(key[0])
        return self.bridge.execute(
            f"DELETE FROM {relation} WHERE {left} IN (SELECT {listed(key)} FROM {keys})"  # noqa: S608
        )
