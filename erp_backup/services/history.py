"""Writing down what happened, in the host's database.

The manifests in the locations are the truth: a history that cannot be written (the database is down, the tables are
missing) never costs a backup. It is remembered in ``problem`` and makes the run partial.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connections, router, transaction

from erp_backup.core.errors import BackupError
from erp_backup.core.figures import Finding as FindingData
from erp_backup.core.manifest import Manifest
from erp_backup.models import (
    Backup,
    BackupStatus,
    Copy,
    CopyState,
    Event,
    Finding,
    Restore,
    RestoreStatus,
    Verification,
)

P = ParamSpec("P")
_TRIES = 3  # SQLite waits some seconds for the other writers each time


def _remembered(step: Callable[P, None]) -> Callable[P, None]:
    """Write all rows of a step or none; a busy database is tried again, any other reason is kept in ``problem``."""

    @functools.wraps(step)
    def write(*args: P.args, **kwargs: P.kwargs) -> None:
        history = cast("History", args[0])
        alias = router.db_for_write(Backup)
        for attempt in range(1, _TRIES + 1):
            try:
                _refresh(alias)
                with transaction.atomic(using=alias):
                    step(*args, **kwargs)
            except (DatabaseError, InterfaceError, ImproperlyConfigured) as error:  # the last: an empty `default`
                if attempt < _TRIES and "locked" in str(error):
                    continue
                said = str(error).splitlines()
                history.problem = history.problem or f"{type(error).__name__}: {said[0] if said else ''}"
            return

    return write


@dataclass(slots=True)
class History:
    """Writes rows, and remembers the first reason why it could not."""

    actor: str
    problem: str = ""

    @_remembered
    def event(self, at: datetime, kind: str, subject: str, message: str = "", **data: Any) -> None:
        """Add a line to the audit log."""
        Event.objects.create(at=at, kind=kind, subject=subject, message=message, actor=self.actor, data=data)

    @_remembered
    def event_once(self, at: datetime, kind: str, subject: str, message: str = "", **data: Any) -> None:
        """Add a line to the audit log, unless the same has been said about ``subject``: by a run that died, then."""
        if not Event.objects.filter(kind=kind, subject=subject).exists():
            Event.objects.create(at=at, kind=kind, subject=subject, message=message, actor=self.actor, data=data)

    @_remembered
    def begin(self, *, name: str, database: str, database_name: str, kind: str, at: datetime, host: str) -> None:
        """Note that an attempt at a backup has begun."""
        Backup.objects.update_or_create(
            name=name,
            defaults={
                "database": database,
                "database_name": database_name,
                "kind": kind,
                "started_at": at,
                "actor": self.actor,
                "host": host,
                "status": BackupStatus.RUNNING,
            },
        )

    @_remembered
    def complete(
        self,
        manifest: Manifest,
        raw: bytes,
        sha256: str,
        *,
        started_at: datetime,
        copies: Iterable[CopyNote],
        partial: str,
    ) -> None:
        """Note a backup that exists: what its manifest says, where its copies are; ``partial`` says what is missing."""
        backup, _created = Backup.objects.update_or_create(
            name=manifest.id,
            defaults={
                **columns_of(manifest),
                "manifest": raw.decode(),
                "manifest_sha256": sha256,
                "started_at": started_at,
                "actor": self.actor,
                "status": BackupStatus.PARTIAL if partial else BackupStatus.COMPLETE,
                "exit_code": 3 if partial else 0,
                "error": partial,
            },
        )
        for copy in copies:
            Copy.objects.update_or_create(
                backup=backup,
                location=copy.location,
                defaults={"state": copy.state, "stored_at": copy.stored_at, "read_back_at": copy.read_back_at},
            )

    @_remembered
    def fail(self, name: str, error: BackupError, at: datetime) -> None:
        """Note that an attempt has failed, and why."""
        Backup.objects.filter(name=name).update(
            status=BackupStatus.FAILED, error=str(error), exit_code=error.exit_code, finished_at=at
        )

    @_remembered
    def delete(self, name: str) -> None:
        """Note that a backup was deleted by retention; its row, and how it was verified, stay."""
        Backup.objects.filter(name=name).update(status=BackupStatus.DELETED)
        Copy.objects.filter(backup__name=name).delete()

    @_remembered
    def copy_state(self, backup: str, location: str, state: CopyState, at: datetime) -> None:
        """Note what was found out about one copy."""
        Copy.objects.filter(backup__name=backup, location=location).update(state=state, read_back_at=at)

    @_remembered
    def begin_restore(  # noqa: PLR0917 - the columns of its row
        self, name: str, backup_name: str, database: str, target: str, destination: str, at: datetime, host: str
    ) -> None:
        """Note that a restore has begun."""
        Restore.objects.update_or_create(
            name=name,
            defaults={
                "backup_name": backup_name,
                "database": database,
                "target": target,
                "destination": destination,
                "started_at": at,
                "actor": self.actor,
                "host": host,
                "status": RestoreStatus.RUNNING,
            },
        )

    @_remembered
    def safety_backup(self, name: str, backup: str) -> None:
        """Note at once what was saved before a restore: whoever completes it knows it from here."""
        Restore.objects.filter(name=name).update(safety_backup=backup)

    @_remembered
    def finish_restore(
        self, name: str, at: datetime, status: str, exit_code: int = 0, error: str = "", **columns: Any
    ) -> None:
        """Note how a restore has ended; ``columns`` are further columns of its row."""
        Restore.objects.update_or_create(
            name=name,
            defaults={"finished_at": at, "status": status, "exit_code": exit_code, "error": error, **columns},
            create_defaults={
                "started_at": at,
                "finished_at": at,
                "status": status,
                "exit_code": exit_code,
                "error": error,
                "actor": self.actor,
                **columns,
            },
        )

    def running_restores(self, database: str, target: str) -> list[str]:
        """Return the names of restores that are noted as running; none where the history cannot be read."""
        found = Restore.objects.filter(database=database, target=target, status=RestoreStatus.RUNNING)
        try:
            return list(found.values_list("name", flat=True))
        except (DatabaseError, InterfaceError, ImproperlyConfigured):
            return []

    @_remembered
    def verification(self, row: Verification, findings: Iterable[FindingData]) -> None:
        """Note a verification with its findings."""
        row.actor = self.actor
        row.backup = Backup.objects.filter(name=row.backup_name).first()
        row.save()
        Finding.objects.bulk_create(
            Finding(
                verification=row,
                severity=str(finding.severity),
                kind=finding.kind,
                subject=finding.subject,
                expected=finding.expected,
                found=finding.found,
                message=finding.message,
            )
            for finding in findings
        )


def _refresh(alias: str) -> None:
    """Let go of a connection that the server, or a firewall, has closed during the hours since its last step."""
    connection = connections[alias]
    if connection.connection is not None and not connection.in_atomic_block and not connection.is_usable():
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyNote:
    """What is known about one copy after it was stored."""

    location: str
    state: CopyState
    stored_at: datetime
    read_back_at: datetime | None = None


def columns_of(manifest: Manifest) -> dict[str, Any]:
    """Return the columns of a Backup row that a manifest fills."""
    return {
        "database": manifest.database.alias,
        "database_name": manifest.database.name,
        "engine": manifest.database.engine,
        "kind": manifest.kind,
        "format": manifest.format,
        "number": manifest.number,
        "taken_at": manifest.taken_at,
        "finished_at": manifest.finished_at,
        "archive": manifest.archive.name,
        "size": manifest.archive.size,
        "sha256": manifest.archive.sha256,
        "tables": len(manifest.figures.tables),
        "rows": sum(table.rows for table in manifest.figures.tables),
        "host": manifest.host,
        "release": manifest.release,
    }
