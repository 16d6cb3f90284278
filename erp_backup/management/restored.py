"""What came out of a restore: for people, and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from erp_backup.core.units import format_count, format_duration
from erp_backup.management.tables import plain
from erp_backup.models import RestoreTarget
from erp_backup.services.restoring.request import RestorePlan, RestoreResult

_SAID = {
    RestoreTarget.SWITCH: "is live",
    RestoreTarget.INTO: "is restored",
    RestoreTarget.IN_PLACE: "was restored in place",
    RestoreTarget.TABLES: "has the restored rows",
    RestoreTarget.ROLLBACK: "is taken back",
}


def lines_of(result: RestoreResult) -> Iterator[str]:
    """Yield the lines of the report."""
    return map(plain, _lines_of(result))


def _lines_of(result: RestoreResult) -> Iterator[str]:
    duration = format_duration(timedelta(milliseconds=result.milliseconds))
    source = f" from {result.backup}" if result.backup else ""
    yield f"{result.destination} {_SAID[result.target]}{source}, {duration}."
    verified = result.verification
    if verified is not None and verified.manifest is not None:
        tables = verified.manifest.figures.tables
        yield (
            f"  compared   {format_count(len(tables))} tables, {format_count(sum(t.rows for t in tables))} rows, "
            f"{len(verified.measurements)} model checks: {verified.outcome}"
        )
    if result.safety_backup:
        yield f"  before it  {result.safety_backup} (safety backup)"
    yield from (f"  note       {note}" for note in result.notes)
    if result.differences:
        yield f"  DIFFERS    from its manifest, or somebody has written since: {len(result.differences)} differences"
        yield from (f"             {text}" for text in result.differences[:_SHOWN])
        yield f"  back       manage.py dbrestore {result.safety_backup} --in-place"
    if result.replaced is not None:
        yield f"  replaced   {result.replaced.name} is kept. Take it back: manage.py dbrestore --rollback"
    if result.how_to_look:
        yield f"  look       {result.how_to_look}"
    yield from _revived(result.report.get("revived", {}))
    yield from _sessions(result.report.get("sessions", {}))
    yield from _queued(result.report.get("queued", ()))


# How each kind of what came back to life is called.
_BACK = {
    "returned": "users that were gone",
    "reactivated": "users that were deactivated",
    "superusers": "superusers that were none",
    "staff": "staff that were none",
    "groups": "memberships of groups",
    "permissions": "permissions of users",
    "group_permissions": "permissions of groups",
    "passwords": "former passwords",
}
_SHOWN = 10


def _revived(report: Mapping[str, Any]) -> Iterator[str]:
    """Who and what came back to life: somebody has to look at each."""
    for key, words in _BACK.items():
        group = report.get(key, {})
        if group.get("total"):
            more = group["total"] - len(group["first"][:_SHOWN])
            names = ", ".join(group["first"][:_SHOWN]) + (f" and {more} more" if more > 0 else "")
            yield f"  BACK       {words}: {names}"
    yield from (f"  note       {text}" for text in report.get("notes", ()))


def _sessions(report: Mapping[str, Any]) -> Iterator[str]:
    if report.get("ended"):
        yield f"  sessions   {format_count(report['ended'])} restored sessions were ended"
    yield from (f"  note       {text}" for text in report.get("notes", ()))
    for table in report.get("tokens", ()):
        yield f"  LOOK       {table['table']}: {format_count(table['rows'])} rows. {table['meaning']}"


def _queued(tables: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for table in tables:
        yield f"  LOOK       {table['table']}: {format_count(table['rows'])} rows. {table['meaning']}"


def data_of(result: RestoreResult) -> dict[str, object]:
    """The result for machines."""
    return {
        "restore": result.name,
        "backup": result.backup,
        "database": result.database,
        "target": str(result.target),
        "destination": result.destination,
        "replaced": result.replaced,
        "safety_backup": result.safety_backup,
        "how_to_look": result.how_to_look,
        "outcome": str(result.verification.outcome) if result.verification else "",
        "findings": result.verification.findings if result.verification else (),
        "report": result.report,
        "notes": result.notes,
        "problems": result.problems,
        "differences": result.differences,
        "milliseconds": result.milliseconds,
        "exit_code": result.exit_code,
    }


def plan_data(plan: RestorePlan) -> dict[str, object]:
    """The plan for machines."""
    return {
        "backup": plan.backup.name,
        "taken_at": plan.backup.manifest.taken_at,
        "target": str(plan.request.target),
        "has_live": plan.has_live,
        "steps": plan.steps,
        "problems": [
            {"severity": str(p.severity), "message": p.message, "remedy": p.remedy, "exit_code": p.error.exit_code}
            for p in plan.problems
        ],
        "restore_seconds": plan.restore_seconds,
        "is_possible": plan.is_possible,
    }
