"""What ``recoverrows`` shows: counts, samples, conflicts; whatever the values are, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from erp_backup.core.units import format_count
from erp_backup.management.tables import plain, render
from erp_backup.services.rows.request import ChangedRows, Conflict, RowsPlan, RowsResult, Sample

_REASONS = {
    "asked for": "asked for",
    "needed": "they refer to them",
    "part": "part of the same object",
    "relation": "many-to-many",
    "dependent": "they depended on them",
}
_MOST_COLUMNS = 8


def lines_of_plan(plan: RowsPlan, *, width: int) -> Iterator[str]:
    """Yield what was found and would be done."""
    yield from map(plain, _lines(plan, width))


def _lines(plan: RowsPlan, width: int) -> Iterator[str]:
    yield f"{plan.model}: {format_count(plan.selected)} rows of {plan.backup} were compared with {plan.destination}."
    if plan.models:
        yield f"{format_count(plan.missing)} rows are missing:"
        rows = [(r.model, r.table, format_count(r.count), _REASONS.get(r.reason, r.reason)) for r in plan.models]
        yield from render(("Model", "Table", "Rows", "Why"), rows, right=frozenset({2}), width=width)
        for model in plan.models:
            yield ""
            yield f"{model.model}, the first of {format_count(model.count)}:"
            yield from _sample(model.sample, width)
    else:
        yield "No row is missing."
    for changed in plan.changed:
        yield ""
        yield from _changed(changed, width, overwrites=plan.overwrites)
    for other in plan.dependents:
        yield (
            f"{format_count(other.count)} rows of {other.model} referred to them ({other.field}) and are missing, too: "
            "--with-dependents brings them."
        )
    for conflict in plan.conflicts:
        yield _conflict(conflict)
    if plan.skipped:
        yield f"{format_count(plan.skipped)} rows are left out because of that."
    yield from plan.notes


def _sample(sample: Sample, width: int) -> Iterator[str]:
    shown = sample.columns[:_MOST_COLUMNS]
    rows = [["" if value is None else value for value in row[:_MOST_COLUMNS]] for row in sample.rows]
    yield from render(shown, rows, width=width)


def _changed(changed: ChangedRows, width: int, *, overwrites: bool) -> Iterator[str]:
    what = "would be put back as they were" if overwrites else "stay as they are (--overwrite-changed puts them back)"
    yield f"{format_count(changed.count)} rows of {changed.model} have changed since and {what}:"
    rows = [(name, format_count(count)) for name, count in changed.columns.items()]
    yield from render(("Column", "Rows"), rows, right=frozenset({1}), width=width)
    samples = [(d.key, d.column, _shown(d.backup), _shown(d.live)) for d in changed.sample]
    yield from render(("Key", "Column", "Backup", "Now"), samples, width=width)


def _shown(value: str | None) -> str:
    return "(none)" if value is None else value


def _conflict(conflict: Conflict) -> str:
    keys = ", ".join(conflict.keys) + (" ..." if conflict.count > len(conflict.keys) else "")
    if conflict.kind == "unique":
        others = ", ".join(conflict.others)
        return (
            f"CONFLICT: {format_count(conflict.count)} rows of {conflict.model} ({keys}) have in {conflict.subject} "
            f"what other rows ({others}) have now."
        )
    return (
        f"CONFLICT: {format_count(conflict.count)} rows of {conflict.model} ({keys}) refer to rows that are neither in "
        f"the backup nor in the live database: {conflict.subject}."
    )


def lines_of_result(result: RowsResult, *, width: int) -> Iterator[str]:
    """Yield what was done."""
    yield from map(plain, _done(result, width))


def _done(result: RowsResult, width: int) -> Iterator[str]:
    plan = result.plan
    if result.exported:
        yield f"Exported {format_count(result.exported_rows)} rows to {result.exported}."
    if not result.applied:
        yield "Nothing was changed." if plan.is_empty else "Nothing was changed. Add --apply."
        return
    yield (
        f"Inserted {format_count(plan.missing)} rows, put {format_count(plan.overwritten)} back as they were"
        f" ({result.restore})."
    )
    if result.safety_backup:
        yield f"The state before is in {result.safety_backup}."
    if result.checks:
        rows = [(change.check, change.before, change.after) for change in result.checks]
        yield from render(("Model check", "Before", "Now"), rows, width=width)
