"""Verifying backups: which ones, how deep, and what came out, written to the history."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import datetime

from erp_backup.core.errors import BackupError, CorruptError, LocationError, MissingError, NoBackupError
from erp_backup.core.names import MANIFEST_SUFFIX
from erp_backup.locations.base import Location
from erp_backup.models import Backup, BackupStatus, Verification
from erp_backup.services import catalog, drill, heads, leftovers
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring.recovering import recover_dead
from erp_backup.services.verification import VerificationResult, VerifyRequest

Selected = Found | VerificationResult


def verify_backups(environment: Environment, request: VerifyRequest) -> Iterator[VerificationResult]:
    """Verify what is asked for, one after the other, and write each result to the history.

    Raises NoBackupError when there is nothing to verify. What is wrong with a backup is a result, never an exception.
    """
    history = History(environment.actor)
    selected = _select(environment, request)
    if not selected:
        raise NoBackupError(
            "There is no backup to verify.", remedy="Make one with 'dbbackup', or look at ERP_BACKUP['LOCATIONS']."
        )
    _clean_up(environment, selected, history)
    for item in selected:
        started_at = environment.clock.now()
        result = item if isinstance(item, VerificationResult) else drill.verify_one(environment, item, request)
        record(environment, history, result, started_at)
        if history.problem:
            environment.reporter.warning(f"The history could not be written ({history.problem}).")
        yield result


def _clean_up(environment: Environment, selected: Sequence[Selected], history: History) -> None:
    """Remove what dead runs left; a server that is away says so later, in the result of what needed it."""
    for alias in {item.manifest.database.alias for item in selected if isinstance(item, Found)}:
        try:
            engine = environment.engine(alias)
            recover_dead(environment, engine, history, alias)
            leftovers.clean_up(environment, engine, history)
        except BackupError as error:
            environment.reporter.warning(f"Leftovers could not be looked for: {error}")


def _select(environment: Environment, request: VerifyRequest) -> list[Selected]:
    """Return what to verify, and results for what is wrong already: unreadable manifests, a head that is gone."""
    locations = [environment.location(alias) for alias in request.locations] or list(environment.locations)
    entries = catalog.read_all(environment, locations)
    found = catalog.group(entries)
    unreadable = [_unreadable(entry, request.level) for entry in entries if entry.error is not None]
    if request.backup:
        return _named(found, unreadable, request)
    chosen = [backup for backup in found if _is_wanted(backup, request)]
    if not request.everything:
        chosen = list(catalog.newest_by_database(chosen).values())
    everywhere = catalog.group(_elsewhere(environment, locations)) + found
    gone = [*_withheld(environment, everywhere, unreadable, request), *_unchained(found, request)]
    if request.everything:
        gone += _vanished(environment, everywhere, unreadable, request)
    return [*unreadable, *gone, *chosen]


def _elsewhere(environment: Environment, locations: list[Location]) -> Iterator[Entry]:
    """The manifests of the locations that were not asked about: a backup may have been made for those alone."""
    names = {location.alias for location in locations}
    for location in environment.locations:
        if location.alias not in names:
            try:
                yield from catalog.read_location(location, environment.verifier())
            except LocationError as error:
                environment.reporter.warning(f"What is in {location.alias!r} is not known: {error}")


def _named(found: list[Found], unreadable: list[VerificationResult], request: VerifyRequest) -> list[Selected]:
    broken = [result for result in unreadable if result.name.startswith(request.backup)]
    return [*broken] if broken else [catalog.find(found, request.backup)]


def _is_wanted(backup: Found, request: VerifyRequest) -> bool:
    return not request.databases or backup.manifest.database.alias in request.databases


def _unreadable(entry: Entry, level: str) -> VerificationResult:
    name = entry.name.removesuffix(MANIFEST_SUFFIX)
    return VerificationResult(name=name, level=level, location=entry.location.alias, error=entry.error)


def _withheld(
    environment: Environment, found: list[Found], unreadable: list[VerificationResult], request: VerifyRequest
) -> Iterator[VerificationResult]:
    """The newest backup that this machine knows of must be in the locations: else they were rolled back, or hide it."""
    newest = catalog.newest_by_database(found)
    for alias, head in heads.read_heads(environment.config.state_dir).items():
        seen = newest[alias].manifest.number if alias in newest else 0
        told = any(result.name.startswith(head.name) for result in unreadable)
        if seen < head.number and not told and (not request.databases or alias in request.databases):
            yield VerificationResult(
                name=head.name,
                level=request.level,
                error=MissingError(
                    f"The newest backup of {alias!r}, {head.name} (number {head.number}), is in no location: "
                    f"the newest one found has number {seen}.",
                    remedy="Somebody deleted it or put an older state back. Find out who, and make a backup.",
                ),
            )


def _unchained(found: list[Found], request: VerifyRequest) -> Iterator[VerificationResult]:
    """Each manifest carries the SHA-256 of the one before: where that one is at hand, it must be it."""
    found = [backup for backup in found if not backup.manifest.is_foreign]  # those are in no chain
    by_number: dict[tuple[str, int], list[Found]] = {}
    for backup in found:
        by_number.setdefault((backup.manifest.database.alias, backup.manifest.number), []).append(backup)
    for backup in found:
        alias, number = backup.manifest.database.alias, backup.manifest.number
        before = by_number.get((alias, number - 1), [])
        # Two of one number, or two hosts, are installations that share a location: their order says nothing.
        is_one_chain = len(before) == 1 and before[0].manifest.host == backup.manifest.host
        if is_one_chain and backup.manifest.previous_sha256 != before[0].sha256 and _is_wanted(backup, request):
            yield VerificationResult(
                name=backup.name,
                level=request.level,
                error=CorruptError(
                    f"The manifest of {backup.manifest.archive.name} (number {number}) does not follow that of "
                    f"{before[0].manifest.archive.name}: one of them was put in the place of another.",
                    remedy="Compare the location with another one, and find out who can write to it.",
                ),
            )


def _vanished(
    environment: Environment, found: list[Found], unreadable: list[VerificationResult], request: VerifyRequest
) -> Iterator[VerificationResult]:
    """Backups that the history knows and no location has any more."""
    present = {backup.name for backup in found}
    damaged = {result.name for result in unreadable}
    ours = [location.alias for location in environment.locations]  # not a folder of somebody's own
    stored = Backup.objects.filter(status__in=(BackupStatus.COMPLETE, BackupStatus.PARTIAL))
    rows = stored.filter(copies__location__in=ours).distinct()
    for name, archive, alias in rows.values_list("name", "archive", "database"):
        if name not in present and archive not in damaged and (not request.databases or alias in request.databases):
            yield VerificationResult(
                name=name,
                level=request.level,
                error=MissingError(f"{name} is in the history, but in no location.", remedy="Find out who deleted it."),
            )


def record(environment: Environment, history: History, result: VerificationResult, started_at: datetime) -> None:
    """Write one result to the history."""
    manifest = result.manifest
    seconds = None if result.restore_milliseconds is None else result.restore_milliseconds / 1000
    row = Verification(
        backup_name=result.name,
        location=result.location,
        level=result.level,
        reached=result.reached,
        outcome=str(result.outcome),
        started_at=started_at,
        finished_at=environment.clock.now(),
        restore_seconds=seconds,
        size=manifest.archive.size if manifest else None,
        tables=len(manifest.figures.tables) if manifest else None,
        rows=sum(table.rows for table in manifest.figures.tables) if manifest else None,
        model_checks=len(result.measurements) or None,
        exit_code=result.exit_code,
        error=str(result.error or ""),
        environment={"host": environment.config.host, "python": platform.python_version()},
    )
    history.verification(row, result.findings)
    history.event(row.finished_at, "verification", result.name, str(result.outcome), level=result.level)
