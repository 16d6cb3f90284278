"""What a restore would do, and what came out of it: for people, and for machines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any

from erp_backup.core.figures import Severity
from erp_backup.core.units import format_age, format_count, format_duration, format_size
from erp_backup.engines.base import Replaced
from erp_backup.management.tables import plain, render
from erp_backup.models import RestoreTarget
from erp_backup.services.restoring.request import RestorePlan, RestoreResult

_LABEL = 13  # columns before what is said
_STEP = 5  # and before a step, which has a number only
_LEAST = 20  # columns for what is said, however narrow the terminal


def _said(label: str, text: str, width: int, *, columns: int = _LABEL) -> Iterator[str]:
    """Yield a labelled text, broken between words only: names, paths and commands stay whole, to be copied."""
    yield from textwrap.wrap(
        plain(text),
        max(width, columns + _LEAST),
        initial_indent=f"  {label:<{columns - 3}} ",
        subsequent_indent=" " * columns,
        break_long_words=False,
        break_on_hyphens=False,
    )


def lines_of_plan(plan: RestorePlan, *, width: int) -> Iterator[str]:
    """Yield what a restore would do and what is in its way, no wider than ``width`` but for names."""
    manifest = plan.backup.manifest
    tables = manifest.figures.tables
    rows = format_count(sum(table.rows for table in tables))
    yield plain(plan.backup.name)
    yield from _said(
        "state of", f"{manifest.taken_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {format_age(plan.age)}", width
    )
    size = format_size(manifest.archive.size)
    holds = f"{format_count(len(tables))} tables, {rows} rows, {size}" if tables else f"{size}; nobody counted its rows"
    yield from _said("holds", holds, width)
    yield from _said("goes to", plan.place.shown, width)
    if plan.restore_seconds is not None:
        drilled = format_duration(timedelta(seconds=plan.restore_seconds))
        yield from _said("takes", f"{drilled} to restore, as its last drill measured", width)
    for number, step in enumerate(plan.steps, 1):
        yield from _said(f"{number}.", step, width, columns=_STEP)
    for problem in plan.problems:
        mark = {Severity.FAILED: "IN THE WAY", Severity.NOTE: "note"}.get(problem.severity, str(problem.severity))
        yield from _said(mark, f"{problem.message} {problem.remedy}".rstrip(), width)


def lines_of_replaced(kept: Sequence[Replaced], *, width: int) -> list[str]:
    """Return the databases that switches have put aside, their names whole."""
    rows = [(f"{r.replaced_at:%Y-%m-%d %H:%M:%S}", format_size(r.size), r.name) for r in kept]
    return render(("Replaced (UTC)", "Size", "Name"), rows, right=frozenset({1}), whole=frozenset({0, 2}), width=width)


def lines_of(result: RestoreResult, *, width: int) -> Iterator[str]:
    """Yield what came out of a restore, no wider than ``width`` but for names."""
    yield plain(f"{_headline(result)}, {format_duration(timedelta(milliseconds=result.milliseconds))}.")
    for label, text in _facts(result):
        yield from _said(label, text, width)


def _headline(result: RestoreResult) -> str:
    said = {
        RestoreTarget.SWITCH: f"{result.backup} is live as {result.destination}",
        RestoreTarget.INTO: f"{result.backup} is restored as {result.destination}",
        RestoreTarget.IN_PLACE: f"{result.backup} was restored into {result.destination}",
        RestoreTarget.TABLES: f"{result.destination} has the rows of {result.backup}",
        RestoreTarget.ROLLBACK: f"{result.destination} is what it was before the switch",
    }
    return said[result.target]


def _facts(result: RestoreResult) -> Iterator[tuple[str, str]]:
    verified = result.verification
    if verified is not None and verified.manifest is not None and verified.manifest.figures.tables:
        tables, checks = verified.manifest.figures.tables, len(verified.measurements)
        rows = format_count(sum(table.rows for table in tables))
        yield (
            "compared",
            f"{format_count(len(tables))} tables, {rows} rows, {checks} model checks: {verified.outcome}",
        )
    if result.safety_backup:
        yield "before it", f"{result.safety_backup} (safety backup)"
    yield from (("note", note) for note in result.notes)
    if result.differences:
        count = format_count(len(result.differences))
        yield "DIFFERS", f"from its manifest, or somebody has written since: {count} differences"
        yield from (("", text) for text in result.differences[:_SHOWN])
        yield "back", f"manage.py dbrestore {result.safety_backup} --in-place"
    if result.replaced is not None:
        yield "replaced", f"{result.replaced.name} is kept"
        yield "take back", "manage.py dbrestore --rollback"
    if result.how_to_look:
        yield "look", result.how_to_look
    yield from _written(result.report)
    yield from _revived(result.report.get("revived", {}))
    yield from _sessions(result.report.get("sessions", {}))
    yield from _queued(result.report.get("queued", ()))


def _written(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What became of single tables' rows, and which figures of the ERP are others now."""
    for table, change in report.get("tables", {}).items():
        done = ", ".join(f"{format_count(change[what])} {what}" for what in ("inserted", "changed", "deleted"))
        yield "table", f"{table}: {done}; {format_count(change['rows'])} rows now"
    for check, (before, after) in report.get("model_checks", {}).items():
        yield "figure", f"{check}: {before}, now {after}"


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


def _revived(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who and what came back to life: somebody has to look at each."""
    for key, words in _BACK.items():
        group = report.get(key, {})
        if group.get("total"):
            more = group["total"] - len(group["first"][:_SHOWN])
            names = ", ".join(group["first"][:_SHOWN]) + (f" and {format_count(more)} more" if more > 0 else "")
            yield "BACK", f"{words}: {names}"
    yield from (("note", text) for text in report.get("notes", ()))


def _sessions(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if report.get("ended"):
        yield "sessions", f"{format_count(report['ended'])} restored sessions were ended"
    yield from (("note", text) for text in report.get("notes", ()))
    yield from _queued(report.get("tokens", ()))


def _queued(tables: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for table in tables:
        yield "LOOK", f"{table['table']}: {format_count(table['rows'])} rows. {table['meaning']}"


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
