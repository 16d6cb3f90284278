"""What can be said about a restored archive that was not made here: what is in it, and never that it is right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.apps import apps

from erp_backup.core.figures import Figures, Finding, Measurement, MeasurementKind, Severity
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import Problem

# What acts by itself when somebody uses the database; Django makes none of these.
_ACTING = ("trigger", "view", "materialized view", "rule", "function", "procedure", "policy", "event trigger")
_MOST_NAMED = 20

NOT_COMPARED = "could not compare: no manifest"


def not_compared(manifest: Manifest) -> Finding:
    """Return the finding that every verification of such an archive has."""
    origin = manifest.origin.name if manifest.origin else ""
    return Finding(
        kind="import",
        subject=origin,
        message=f"{NOT_COMPARED[0].upper()}{NOT_COMPARED[1:]} was made when it was dumped. Look at what was found.",
        severity=Severity.UNVERIFIED,
    )


def findings_about_figures(figures: Figures) -> list[Finding]:
    """Name what acts by itself, and views that stand where the ERP expects a table."""
    findings = [finding for kind in _ACTING for finding in _acting(kind, figures)]
    findings += [
        Finding(
            kind="view",
            subject=name,
            expected="a table",
            found="a view",
            message="It stands where the ERP has a table: model checks were not asked.",
            severity=Severity.UNVERIFIED,
        )
        for name in impostors(figures)
    ]
    return findings


def _acting(kind: str, figures: Figures) -> Iterable[Finding]:
    names = [item.name for item in figures.objects if item.kind == kind]
    if names:
        shown = ", ".join(names[:_MOST_NAMED]) + (
            f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
        )
        message = "Django makes none by itself. Look at it before you let anybody use this database."
        yield Finding(kind=kind, subject=shown, message=message, severity=Severity.NOTE)


def reasons_against_switch(manifest: Manifest, figures: Figures) -> list[Problem]:
    """Return why a restored archive may not take the live database's place; nothing for one that we have made.

    ``figures`` are those of the restored copy. SQL never may: it stays in its quarantine. What acts by itself would act
    on the live data, so somebody has to look first; that problem's ``error`` is RefusedError like the other's.
    """
    if not manifest.is_foreign:
        return []
    if manifest.format == "plain":
        return [
            Problem(
                message=f"{manifest.id} was imported as SQL, which is restored into a quarantine only.",
                remedy="Restore it into a new database with --into and --quarantine, and take rows from there.",
            )
        ]
    return [
        Problem(
            message=f"{manifest.id} was not made here and holds a {finding.kind}: {finding.subject}.",
            remedy="Django makes none by itself. Restore it with --into, and drop what should not be there.",
        )
        for kind in _ACTING
        for finding in _acting(kind, figures)
    ]


def impostors(figures: Figures) -> list[str]:
    """Return the views that have the name of a table of the ERP: reading one runs what somebody wrote into it."""
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    views = {item.name.rsplit(".", 1)[-1] for item in figures.objects if item.kind in {"view", "materialized view"}}
    return sorted(views & tables)


def findings_about_measurements(measurements: Sequence[Measurement]) -> list[Finding]:
    """Name the invariants that do not hold, and the model checks that could not be asked."""
    findings = []
    for measured in measurements:
        if measured.error:
            message = f"It could not be measured: {measured.error}"
        elif measured.kind is MeasurementKind.INVARIANT and measured.value != "0":
            message = f"{measured.value} rows break it. Whether the source had them too is not known."
        else:
            continue
        findings.append(
            Finding(kind="model check", subject=measured.check, message=message, severity=Severity.UNVERIFIED)
        )
    return findings
