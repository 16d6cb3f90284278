"""The live database restored in place, in one transaction: what belongs into it, and what follows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import django.db
from django.db import connections

from erp_backup.core import jsondata
from erp_backup.core.comparison import compare_figures
from erp_backup.core.errors import BackupError
from erp_backup.core.figures import Figures, Severity
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import Engine, InPlace, Scratch
from erp_backup.engines.bridging import quoted
from erp_backup.models import Restore, RestoreStatus
from erp_backup.services import aftermath, carrying, reviving
from erp_backup.services.restoring.aftermath import Done

# The history stays as it is, so the backup says nothing about it.
_HISTORY = re.compile(r"\berp_backup_")
_NOT_COMPARED = "Nothing could be restored beside it: who came back to life was not compared."


def revived(scratch: Scratch, alias: str) -> dict[str, Any]:
    """Return who comes back to life with the state of ``scratch``, as long as the live state is still there."""
    with scratch.orm() as new:
        found: dict[str, Any] = jsondata.to_data(reviving.revived(alias, new))
    return found


def nobody_compared() -> dict[str, Any]:
    """Return what is told where there is no copy to compare with."""
    return {"is_compared": False, "notes": [_NOT_COMPARED]}


def statements(manifest: Manifest, alias: str, restore: str, safety_backup: str) -> tuple[str, ...]:
    """Return what belongs into the transaction: nobody is logged in after it, and the history says that it took place.

    So whoever comes after a run that was killed knows from the history how it ended.
    """
    found = [f"DELETE FROM {quoted(schema)}.{quoted(name)}" for schema, name in _sessions(manifest)]  # noqa: S608 - quoted
    if carrying.history_is_in(alias):
        columns = {"status": str(RestoreStatus.COMPLETE), "safety_backup": safety_backup}
        values = ", ".join(f"{quoted(column)} = {_literal(value)}" for column, value in columns.items())
        table = quoted(Restore._meta.db_table)
        found.append(f"UPDATE {table} SET {values} WHERE {quoted('name')} = {_literal(restore)}")  # noqa: S608 - quoted
    return tuple(found)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sessions(manifest: Manifest) -> list[tuple[str, str]]:
    names = aftermath.session_tables()
    return [(table.schema, table.name) for table in manifest.figures.tables if table.name in names]


def took_place(alias: str, restore: str) -> bool:
    """Whether the history in the live database says so; for a run whose commit was interrupted."""
    connections[alias].close()
    try:
        return Restore.objects.using(alias).filter(name=restore, status=RestoreStatus.COMPLETE).exists()
    except django.db.Error:
        return False


def finish(engine: Engine, in_place: InPlace, manifest: Manifest, alias: str) -> tuple[Done, list[str]]:
    """Look at the live database after the commit; return the report, and what differs from the manifest.

    What cannot be looked at is a problem: it has taken place.
    """
    connections[alias].close()  # it may know tables by numbers that they no longer have
    report: dict[str, Any] = {}
    differences: list[str] = []
    problems: list[str] = []
    try:
        report["sessions"] = jsondata.to_data(aftermath.end_sessions(alias))
        ended = sum(t.rows for t in manifest.figures.tables if (t.schema, t.name) in _sessions(manifest))
        report["sessions"]["ended"] += ended
        report["queued"] = jsondata.to_data(aftermath.queued(alias))
        differences += _differences(engine, in_place, manifest)
    except (BackupError, django.db.Error) as error:
        problems.append(f"The restored database could not be looked at in full: {error}")
    return Done(report=report, problems=tuple(problems)), differences


def _differences(engine: Engine, in_place: InPlace, manifest: Manifest) -> Iterator[str]:
    expected = manifest.figures
    found = replace(in_place.figures(expected), methods=dict(engine.methods))
    left_out = set(_sessions(manifest))
    same_major = engine.facts().major == manifest.database.major
    findings = compare_figures(
        _compared(expected, left_out), _compared(found, left_out, known=expected), same_major=same_major
    )
    yield from (str(finding) for finding in findings if finding.severity is Severity.FAILED)


def _compared(figures: Figures, left_out: set[tuple[str, str]], known: Figures | None = None) -> Figures:
    """Leave out the history, the sessions, and extensions that the live database has and keeps."""
    extensions = figures.extensions
    if known is not None:
        extensions = {name: version for name, version in extensions.items() if name in known.extensions}
    return replace(
        figures,
        tables=tuple(t for t in figures.tables if not _HISTORY.match(t.name) and (t.schema, t.name) not in left_out),
        sequences=tuple(s for s in figures.sequences if not _HISTORY.match(s.name)),
        objects=tuple(item for item in figures.objects if not _HISTORY.search(item.name)),
        extensions=extensions,
    )
