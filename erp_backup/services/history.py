"""Writing down what happened, in the host's database.

The manifests in the locations are the truth: a history that cannot be written (the database is down, the tables are missing)
never costs a backup. It is remembered in ``problem`` and makes the run partial.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, router, transaction

from erp_backup.core.errors import BackupError
from erp_backup.core.figures import Finding as FindingData
from erp_backup.core.manifest import Manifest
from erp_backup.models import Backup, BackupStatus, Copy, CopyState, Event, Finding, Verification


@dataclass(slots=True)
class History:
    """Writes rows, and remembers the first reason why it could not."""

    actor: str
    problem: str = ""

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """All rows of one step, or none."""
        try:
            with transaction.atomic(using=router.db_for_write(Backup)):
                yield
        except (DatabaseError, InterfaceError) as error:
            self.problem = self.problem or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"

    def event(self, at: datetime, kind: str, subject: str, message: str = "", **data: Any) -> None:
        """Add a line to the audit log."""
        with self._written():
            Event.objects.create(at=at, kind=kind, subject=subject, message=message, actor=self.actor, data=data)

    def begin(self, *, name: str, database: str, database_name: str, kind: str, at: datetime, host: str) -> None:
        """Note that an attempt at a backup has begun."""
        with self._written():
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
        """Note a backup that exists: what its manifest says, and where its copies are. ``partial`` says what is missing."""
        with self._written():
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

    def fail(self, name: str, error: BackupError, at: datetime) -> None:
        """Note that an attempt has failed, and why."""
        with self._written():
            Backup.objects.filter(name=name).update(
                status=BackupStatus.FAILED, error=str(error), exit_code=error.exit_code, finished_at=at
            )

    def delete(self, name: str) -> None:
        """Note that a backup was deleted by retention; its row, and how it was verified, stay."""
        with self._written():
            Backup.objects.filter(name=name).update(status=BackupStatus.DELETED)
            Copy.objects.filter(backup__name=name).delete()

    def copy_state(self, backup: str, location: str, state: CopyState, at: datetime) -> None:
        """Note what was found out about one copy."""
        with self._written():
            Copy.objects.filter(backup__name=backup, location=location).update(state=state, read_back_at=at)

    def verification(self, row: Verification, findings: Iterable[FindingData]) -> None:
        """Note a verification with its findings."""
        with self._written():
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
