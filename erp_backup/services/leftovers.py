"""What dead attempts left behind: removed by the next run.

An archive whose manifest was written is a whole backup, even if its process died a moment later: it is kept and
recorded. An archive without one is nothing, and goes.
"""

from __future__ import annotations

from pathlib import Path

from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.core.names import manifest_name
from erp_backup.core.workspace import Folder, Leftovers
from erp_backup.engines.base import Engine
from erp_backup.locations.base import Location
from erp_backup.models import CopyState
from erp_backup.services import catalog
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.heads import Head, advance_head
from erp_backup.services.history import CopyNote, History


class DiedError(BackupError):
    """The attempt's process ended without a word: it was killed, or the machine stopped."""


def clean_up(environment: Environment, engine: Engine, history: History) -> None:
    """Remove everything that dead jobs left: scratch databases, private folders, unfinished files in locations.

    What cannot be removed now (a location that is away) is warned of and tried again by the next run.
    """
    for name in engine.remove_orphans():
        environment.reporter.note(f"Dropped the scratch database {name} of a run that died.")
    clean_folders(environment, history)


def clean_folders(environment: Environment, history: History) -> None:
    """Remove what dead jobs left on disks and in locations; no database is asked."""
    for folder in environment.workspace.orphans():
        try:
            _clean_folder(environment, folder, history)
        except InterruptedBySignal:
            raise
        except BackupError as error:
            environment.reporter.warning(f"The leftovers of a run that died could not be removed: {error}")
        else:
            folder.remove()


def _clean_folder(environment: Environment, folder: Folder, history: History) -> None:
    leftovers = folder.leftovers()
    if leftovers is None:
        return
    settled = [_settle(environment, _location(environment, alias), leftovers.archive) for alias in leftovers.locations]
    whole = catalog.group(entry for entry in settled if entry is not None)
    if whole:
        _record(environment, history, leftovers, whole[0])
    else:
        history.fail(leftovers.backup, _DIED, environment.clock.now())


def _record(environment: Environment, history: History, leftovers: Leftovers, backup: Found) -> None:
    """Note the backup as its own process would have done; its copies were not read back."""
    now, manifest, copy = environment.clock.now(), backup.manifest, backup.copies[0]
    present = [entry.location.alias for entry in backup.copies]
    absent = [alias for alias in leftovers.locations if alias not in present]
    if {location.alias for location in environment.locations} & set(present):  # not a folder of somebody's own
        head = Head(number=manifest.number, sha256=backup.sha256, name=backup.name)
        advance_head(environment.config.state_dir, manifest.database.alias, head)
    history.complete(
        manifest,
        b"".join(copy.location.open(copy.name)),
        backup.sha256,
        started_at=manifest.taken_at,
        copies=[CopyNote(location=alias, state=CopyState.STORED, stored_at=now) for alias in present],
        partial=f"Its process died before it was in {', '.join(absent)}." if absent else "",
    )
    history.event(now, "backup", backup.name, "recorded by the next run, its own process had died")


def _location(environment: Environment, alias: str) -> Location:
    """A configured location, or the folder that ``--output-path`` had named. Raises ConfigurationError."""
    return folder_location(Path(alias)) if Path(alias).is_absolute() else environment.location(alias)


def _settle(environment: Environment, location: Location, archive: str) -> Entry | None:
    """Keep a backup whose manifest is there and return it; remove anything less."""
    manifest = manifest_name(archive)
    for name in (archive, manifest):
        location.remove_unfinished(name)
    if location.exists(manifest):
        entry = catalog.read_entry(location, manifest, environment.verifier())
        if entry.manifest is None:
            environment.reporter.warning(f"A run that died left a manifest that is damaged: {entry.error}")
        return entry
    if location.exists(archive):
        location.delete(archive)
        environment.reporter.note(f"Removed {location.describe(archive)}, which a run that died had not finished.")
    return None


_DIED = DiedError("Its process ended without finishing it.", remedy="It was cleaned up; nothing is left of it.")
