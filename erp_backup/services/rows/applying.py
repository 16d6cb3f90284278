"""Putting rows back: one transaction that ends with foreign keys and rules as good as before, or with nothing."""

from __future__ import annotations

from erp_backup.core.errors import DifferenceError, RefusedError
from erp_backup.engines.bridging import Bridge, listed
from erp_backup.services.environment import Environment
from erp_backup.services.rows import changes, checking
from erp_backup.services.rows.planning import Found
from erp_backup.services.rows.request import CheckChange, RowsPlan, RowsRequest

_MORE_ROWS = "Nothing was changed. Bring what belongs to them as well (--with-dependents), or choose other rows."


def require_applicable(plan: RowsPlan, request: RowsRequest) -> None:
    """Raise RefusedError where rows are in the way of others."""
    if plan.conflicts and not request.skip_conflicts:
        first = plan.conflicts[0]
        raise RefusedError(
            f"{sum(c.count for c in plan.conflicts)} conflicts, the first: {first.model} {', '.join(first.keys)} "
            f"({first.subject}).",
            remedy="Settle them in the live database, or add --skip-conflicts to leave these rows out.",
        )


def write_rows(
    environment: Environment, bridge: Bridge, found: Found, request: RowsRequest, database: str
) -> tuple[CheckChange, ...]:
    """Insert, overwrite, check; the caller's bridge commits. Raises DifferenceError for a rule that is broken now."""
    before = checking.measure_inside(environment, bridge.alias, database)
    tables = found.tables
    environment.reporter.phase("insert rows")
    bridge.begin_writing(tables)
    for node in found.nodes:
        columns = node.writable
        bridge.insert(node.live, columns, f"SELECT {listed(columns)} FROM {node.relation}")  # noqa: S608 - quoted
    for changed in found.changed if request.overwrite_changed else ():
        changes.overwrite(bridge, changed)
    bridge.end_writing(tables)
    environment.reporter.phase("model checks")
    after = checking.measure_inside(environment, bridge.alias, database)
    return require_unbroken(tuple(checking.changes_between(before, after)))


def require_unbroken(found: tuple[CheckChange, ...], remedy: str = _MORE_ROWS) -> tuple[CheckChange, ...]:
    """Return what has changed. Raises DifferenceError where a rule that held does not hold any more."""
    worse = [change for change in found if change.is_worse]
    if worse:
        said = "; ".join(f"{change.check}: {change.before} before, {change.after} now" for change in worse)
        raise DifferenceError(
            f"With these rows a model check fails that did not fail before ({said}).",
            remedy=remedy,
        )
    return found
