"""The history rebuilt from the manifests in the locations: on an empty server they are all there is.

What verifications found is in no manifest: it is lost, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError, router

from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.models import Backup, BackupStatus, CopyState
from erp_backup.services import catalog
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import CopyNote, History


def rebuild(environment: Environment, history: History) -> int:
    """Add a row for each backup in the locations that the history does not know; return how many were added.

    Rows that exist stay as they are, but those of attempts that had not ended: a backup holds its own row as it was
    when it was taken, and its manifest says that it ended well. A location that cannot be read is warned of; that rows
    cannot be written is kept in ``history.problem``.
    """
    found = {backup.name: backup for backup in reversed(catalog.group(_entries(environment)))}
    nameless = History(actor="")  # who made them is in no manifest
    added = 0
    for name in sorted(found.keys() - _known(nameless), key=lambda name: found[name].manifest.taken_at):
        added += _add(environment, nameless, found[name])
    history.problem = history.problem or nameless.problem
    if added:
        text = (
            f"{added} backups noted from the manifests in the locations. How they were verified is not known any more."
        )
        environment.reporter.note(f"The history was rebuilt: {text} Verify them again: manage.py verifybackup --all")
        history.event(environment.clock.now(), "history", "", text, backups=added)
    return added


def _entries(environment: Environment) -> Iterator[Entry]:
    verifier = environment.verifier()
    for location in environment.locations:
        try:
            yield from catalog.read_all(environment, [location], verifier)
        except InterruptedBySignal:
            raise
        except BackupError as error:
            environment.reporter.warning(f"The location {location.alias!r} could not be read: {error}")


def _known(history: History) -> set[str]:
    alias = router.db_for_write(Backup)
    try:
        rows = Backup.objects.using(alias).exclude(status__in=(BackupStatus.RUNNING, BackupStatus.FAILED))
        return set(rows.values_list("name", flat=True))
    except (DatabaseError, InterfaceError) as error:
        history.problem = f"{type(error).__name__}: {error}"
        return set()


def _add(environment: Environment, history: History, backup: Found) -> bool:
    """Note one backup with its copies as its own run has left them: stored, and not read back as far as is known."""
    copy, manifest = backup.copies[0], backup.manifest
    try:
        raw = b"".join(copy.location.open(copy.name))
    except InterruptedBySignal:
        raise
    except BackupError as error:
        environment.reporter.warning(f"{copy.name} could not be read any more: {error}")
        return False
    copies = [
        CopyNote(location=entry.location.alias, state=CopyState.STORED, stored_at=manifest.finished_at)
        for entry in backup.copies
    ]
    before = history.problem
    history.complete(manifest, raw, backup.sha256, started_at=manifest.taken_at, copies=copies, partial="")
    return history.problem == before
