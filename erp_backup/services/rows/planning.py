"""From a request to a plan: what is missing, what belongs to it, what has changed, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Model

from erp_backup.core.errors import RefusedError
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import Scratch
from erp_backup.engines.bridging import Bridge, Match, Table
from erp_backup.services.rows import changes
from erp_backup.services.rows.changes import Changed
from erp_backup.services.rows.closure import Closure, Node
from erp_backup.services.rows.conflicts import find_conflicts
from erp_backup.services.rows.graph import graph_of, model_called
from erp_backup.services.rows.request import Conflict, Dependents, ModelRows, RowsPlan, RowsRequest
from erp_backup.services.rows.samples import sample_of
from erp_backup.services.rows.selection import selection_sql


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything that a bridge's session has found: the plan for people, the relations for the statements."""

    closure: Closure
    target: Node
    changed: list[Changed] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    selected: int = 0
    skipped: int = 0

    @property
    def nodes(self) -> list[Node]:
        """What would be inserted, targets before what refers to them where there is such an order."""
        return _in_order(self.closure)

    @property
    def tables(self) -> list[Table]:
        """Every table that would be written."""
        nodes = [*self.nodes, *(changed.node for changed in self.changed)]
        return list({node.live.sql: node.live for node in nodes}.values())


def find(bridge: Bridge, scratch: Scratch, manifest: Manifest, request: RowsRequest) -> Found:
    """Compare the copy with the live database. Raises UsageError, RefusedError for what cannot be compared."""
    database = manifest.database.alias
    model = model_called(request.model, database)
    closure = Closure(bridge=bridge, graph=graph_of(database), with_dependents=request.with_dependents)
    target = closure.node(model)
    if target is None:
        raise RefusedError(
            f"{model._meta.label} has no table ({model._meta.db_table}) in the backup or in the live database.",
            remedy="Choose a younger backup, or apply the migrations.",
        )
    found = Found(closure=closure, target=target)
    picked = _picked(bridge, scratch, target, model, request)
    keys = picked or bridge.stage(target.restored, target.live.key)
    found.selected = bridge.count(keys)
    _collect(closure, target, keys)
    if request.changed or request.overwrite_changed:
        found.changed = list(changes.find_changed(closure, target, picked))
    for changed in found.changed if request.overwrite_changed else ():
        closure.look_into(changed.node, changed.relation)
    closure.spread()
    _settle_conflicts(found, request)
    return found


def _picked(bridge: Bridge, scratch: Scratch, target: Node, model: type[Model], request: RowsRequest) -> str | None:
    """Let the copy pick the rows asked for, through the ORM; None for all."""
    if not request.keys and not request.where:
        return None
    with scratch.orm() as alias:
        query = selection_sql(model, alias, target.live.key, request)
        return bridge.pick(target.restored, target.live.key, alias, *query) if query is not None else None


def _collect(closure: Closure, target: Node, keys: str) -> None:
    """Only the missing rows are brought as a whole, whatever the table's size."""
    key = target.live.key
    missing = closure.missing_among(target, keys)
    if closure.bridge.count(missing):
        closure.add(target, Match(columns=key, relation=missing, others=key), "asked for")


def _settle_conflicts(found: Found, request: RowsRequest) -> None:
    """Find them all; with ``skip_conflicts`` leave their rows out, and those that cannot be without them."""
    overwritten = [(c.node, c.relation) for c in found.changed] if request.overwrite_changed else []
    while True:
        conflicts = list(find_conflicts(found.closure, overwritten))
        known = {(c.model, c.subject) for c in found.conflicts}
        told = [standing.conflict for standing in conflicts]
        found.conflicts += [c for c in told if (c.model, c.subject) not in known]
        if not request.skip_conflicts or not conflicts:
            return
        dropped = sum(found.closure.drop(c.node, c.relation, c.keys) for c in conflicts)
        if not dropped:
            return
        found.skipped += dropped


def _in_order(closure: Closure) -> list[Node]:
    """Targets first; foreign keys wait for the end, so that a circle does no harm."""
    ordered: list[Node] = []
    nodes = {node.model: node for node in closure.filled}

    def visit(node: Node, above: Sequence[type[Model]]) -> None:
        for link in closure.graph.of(node.model):
            target = nodes.get(link.target)
            if target is not None and target not in ordered and link.target not in {*above, node.model}:
                visit(target, [*above, node.model])
        if node not in ordered:
            ordered.append(node)

    for node in nodes.values():
        visit(node, [])
    return ordered


def describe(found: Found, manifest: Manifest, request: RowsRequest, destination: str) -> RowsPlan:
    """Read counts and samples: what people and machines are shown."""
    bridge = found.closure.bridge
    dependents = [] if request.with_dependents else found.closure.dependents()
    rows = [
        ModelRows(
            model=node.label,
            table=node.live.label,
            count=bridge.count(node.relation),
            reason=node.reason,
            sample=sample_of(bridge, node),
        )
        for node in found.nodes
    ]
    return RowsPlan(
        backup=manifest.id,
        database=manifest.database.alias,
        destination=destination,
        model=found.target.label,
        selected=found.selected,
        models=tuple(row for row in rows if row.count),
        changed=tuple(changes.describe(bridge, changed) for changed in found.changed),
        dependents=tuple(
            Dependents(model=link.source._meta.label, field=link.field, count=count) for link, count in dependents
        ),
        conflicts=tuple(found.conflicts),
        skipped=found.skipped,
        overwrites=request.overwrite_changed,
    )
