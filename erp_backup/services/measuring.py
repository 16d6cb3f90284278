"""Model checks, measured in a snapshot when a backup is taken, and on the restored copy in a drill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase

from django.apps import apps

from erp_backup.core.comparison import compare_measurements
from erp_backup.core.figures import Finding, Measurement, Severity
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import DumpRequest, ProcessDatabase, Scratch, Snapshot
from erp_backup.modelchecks import isolated, runner
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.builtin import Rows, UnappliedMigrations
from erp_backup.modelchecks.declared import checks_for
from erp_backup.services.environment import Environment


def measure_snapshot(
    environment: Environment, snapshot: Snapshot, alias: str, *, database: str, request: DumpRequest
) -> tuple[Measurement, ...]:
    """Measure every model check of ``database`` through ``alias``, which is bound to the snapshot.

    An archive that holds only a part of the database has none: they look at all of it.
    """
    if request.kind != "full" or request.schemas:
        return ()
    checks = checks_for(database, environment.config.model_checks)
    return _measure(
        environment,
        checks,
        alias=alias,
        database=database,
        now=snapshot.taken_at,
        process=snapshot.process_settings(),
    )


def measure_scratch(environment: Environment, scratch: Scratch, manifest: Manifest) -> tuple[Measurement, ...]:
    """Measure every model check on the restored copy; "now" is the time of the snapshot."""
    database = manifest.database.alias
    checks = checks_for(database, environment.config.model_checks)
    with scratch.orm() as alias:
        return _measure(
            environment,
            checks,
            alias=alias,
            database=database,
            now=manifest.taken_at,
            process=scratch.process_settings(),
        )


def _measure(
    environment: Environment,
    checks: Sequence[ModelCheck],
    *,
    alias: str,
    database: str,
    now: datetime,
    process: ProcessDatabase,
) -> tuple[Measurement, ...]:
    limit = environment.config.model_check_time_limit.total_seconds()

    def in_processes(apart: Sequence[ModelCheck]) -> tuple[Measurement, ...]:
        return isolated.measure_isolated(
            environment.runner,
            process,
            apart,
            alias=database,
            now=now,
            settings_module=environment.config.settings_module,
            time_limit=limit,
        )

    return runner.measure(
        checks,
        alias=alias,
        database=database,
        now=now,
        clock=environment.clock,
        isolated=in_processes,
        time_limit=limit,
    )


def compare(manifest: Manifest, found: Sequence[Measurement]) -> list[Finding]:
    """Compare the model checks of the snapshot with those of the copy.

    Where the code has migrations that the backup does not know, the code is newer: that is no fault of the backup,
    and a model check that raises on its older tables could not be compared.
    """
    findings = compare_measurements(*_comparable(manifest, found))
    if not _code_is_ahead(manifest.measurements, found):
        return findings
    return [_excused(finding) for finding in findings]


def _code_is_ahead(expected: Sequence[Measurement], found: Sequence[Measurement]) -> bool:
    before = {m.check: m.value for m in expected}.get(UnappliedMigrations.title)
    now = {m.check: m.value for m in found}.get(UnappliedMigrations.title)
    return before is not None and now not in {None, "", before}


def _excused(finding: Finding) -> Finding:
    if finding.subject == UnappliedMigrations.title:
        return replace(
            finding, severity=Severity.NOTE, message="The code is newer than the backup: migrations would be applied."
        )
    if finding.severity is Severity.FAILED and finding.found == "error":
        message = f"{finding.message} The code is newer than the backup."
        return replace(finding, severity=Severity.UNVERIFIED, message=message)
    return finding


def _comparable(manifest: Manifest, found: Sequence[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """Leave out what excluded tables have made different on purpose: the row counts of their models."""
    tables = {pattern.rsplit(".", 1)[-1] for pattern in manifest.excluded_tables}
    excluded = {
        model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if any(fnmatchcase(model._meta.db_table, table) for table in tables)
    }
    return [_without(m, excluded) for m in manifest.measurements], [_without(m, excluded) for m in found]


def _without(measurement: Measurement, labels: set[str]) -> Measurement:
    if measurement.check != Rows.title or not labels or measurement.rows is None:
        return measurement
    return replace(measurement, rows={key: value for key, value in measurement.rows.items() if key not in labels})
