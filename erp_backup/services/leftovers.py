"""What dead attempts left behind: removed by the next run.

An archive whose manifest was written is a whole backup, even if its process died a moment later: it is kept and recorded.
An archive without one is nothing, and goes.
"""

from __future__ import annotations

from pathlib import Path

from erp_backup.core.errors import BackupError
from erp_backup.core.names import manifest_name
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Engine
from erp_backup.locations.base import Location
from erp_backup.services import catalog
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.heads import Head, advance_head
from erp_backup.services.history import History


class DiedError(BackupError):
    """The attempt's process ended without a word: it was killed, or the machine stopped."""


def clean_up(environment: Environment, engine: Engine, history: History) -> None:
    """Remove everything that dead jobs left: scratch databases, private folders, unfinished files in locations.

    What cannot be removed now (a location that is away) is warned of and tried again by the next run.
    """
    for name in engine.remove_orphans():
        environment.reporter.note(f"Dropped the scratch database {name} of a run that died.")
    for folder in environment.workspace.orphans():
        try:
            _clean_folder(environment, folder, history)
        except BackupError as error:
            environment.reporter.warning(f"The leftovers of a run that died could not be removed: {error}")
        else:
            folder.remove()


def _clean_folder(environment: Environment, folder: Folder, history: History) -> None:
    leftovers = folder.leftovers()
    if leftovers is None:
        return
    kept = [_settle(environment, _location(environment, alias), leftovers.archive) for alias in leftovers.locations]
    if not any(kept):
        history.fail(leftovers.backup, _DIED, environment.clock.now())


def _location(environment: Environment, alias: str) -> Location:
    """A configured location, or the folder that ``--output-path`` had named."""
    known = {location.alias: location for location in environment.locations}
    return known.get(alias) or folder_location(Path(alias))


def _settle(environment: Environment, location: Location, archive: str) -> bool:
    """Keep a backup whose manifest is there, remove anything less; return whether it was kept."""
    manifest = manifest_name(archive)
    for name in (archive, manifest):
        location.remove_unfinished(name)
    if location.exists(manifest):
        entry = catalog.read_entry(location, manifest, environment.verifier())
        if entry.manifest is None:
            environment.reporter.warning(f"A run that died left a manifest that is damaged: {entry.error}")
        else:
            head = Head(number=entry.manifest.number, sha256=entry.sha256, name=entry.manifest.id)
            advance_head(environment.config.state_dir, entry.manifest.database.alias, head)
        return True
    if location.exists(archive):
        location.delete(archive)
        environment.reporter.note(f"Removed {location.describe(archive)}, which a run that died had not finished.")
    return False


_DIED = DiedError("Its process ended without finishing it.", remedy="It was cleaned up; nothing is left of it.")
