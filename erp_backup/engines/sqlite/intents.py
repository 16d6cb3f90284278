"""What a switch is about to do, written durably before its first change, so that a killed one is finished or undone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from erp_backup.core import files, jsondata
from erp_backup.core.errors import CorruptError
from erp_backup.core.spaces import no_space_as_error


class Way(StrEnum):
    """How a finished image takes the live database's place."""

    CONTENT = "content"  # into the live file, by the backup API: one transaction
    PLACE = "place"  # as a new file, where there is none or one that is no database


class State(StrEnum):
    """How far a switch has come. What is INTENDED may have taken place: the live file's mark tells."""

    INTENDED = "intended"
    TAKEN = "taken"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One switch of one live file."""

    restore: str
    live: str
    at: datetime
    way: Way
    state: State = State.INTENDED
    kept: str = ""  # where the old file's content is, or will be; empty: there is nothing to keep
    source: str = ""  # the kept file that was put back: it goes when the switch is settled


@dataclass(frozen=True, slots=True)
class Intents:
    """The folder of intents: at most one for each live file."""

    folder: Path

    def _path(self, live: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(live)).hexdigest()[:16]}.json"

    def read(self, live: Path) -> Intent | None:
        """Return what was intended for this file and never settled. Raises CorruptError."""
        path = self._path(live)
        try:
            return jsondata.from_data(Intent, jsondata.parse(path.read_bytes()))
        except FileNotFoundError:
            return None
        except CorruptError as error:
            raise CorruptError(
                f"{path} is damaged: {error.message}",
                remedy=f"It tells of a restore of {live} that was cut off. Look at that database, then remove it.",
            ) from error

    def write(self, intent: Intent) -> None:
        """Write it durably, in place of an earlier one for the same file. Raises NoSpaceError."""
        with no_space_as_error(self.folder):
            files.make_private_folder(self.folder)
            files.replace_whole(self._path(Path(intent.live)), jsondata.canonical(jsondata.to_data(intent)))

    def remove(self, live: Path) -> None:
        """Forget what was intended for this file, durably, and what a run that died while it wrote that has left."""
        self._path(live).unlink(missing_ok=True)
        files.partial_of(self._path(live)).unlink(missing_ok=True)
        if self.folder.is_dir():
            files.sync_folder(self.folder)
