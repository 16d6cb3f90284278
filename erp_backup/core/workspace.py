"""Private folders of running jobs: they hold temporary files and what to clean up after a job that died.

Each folder holds ``owner.lock``, locked for as long as its process lives. A folder whose lock is free and that was not kept on
purpose is a dead job's; the next run removes it, and first what its ``leftovers.json`` names in the locations.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from erp_backup.core import filelock
from erp_backup.core.errors import RefusedError
from erp_backup.core.spaces import no_space_as_error

LOCK = "owner.lock"
LEFTOVERS = "leftovers.json"
KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What an attempt at a backup writes outside its folder: one archive, under one name, in these locations."""

    backup: str
    archive: str
    locations: list[str]


@dataclass(frozen=True, slots=True)
class Folder:
    """One job's private folder (mode 0700)."""

    path: Path

    def keep(self) -> None:
        """Leave the folder when its job ends, and do not take it for a dead job's."""
        (self.path / KEPT).touch(mode=0o600)

    @property
    def is_kept(self) -> bool:
        """Whether somebody wants to look into it."""
        return (self.path / KEPT).exists()

    def note_leftovers(self, leftovers: Leftovers) -> None:
        """Record, durably, what this job is about to write. Raises NoSpaceError."""
        temporary = self.path / f"{LEFTOVERS}.new"
        with no_space_as_error(self.path), temporary.open("w") as file:
            json.dump(asdict(leftovers), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / LEFTOVERS)

    def leftovers(self) -> Leftovers | None:
        """Return what the job had written or was about to write; None when it had not come so far."""
        try:
            return Leftovers(**json.loads((self.path / LEFTOVERS).read_text()))
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Remove the folder with all it holds."""
        shutil.rmtree(self.path, ignore_errors=True)


class Workspace:
    """The folder ``jobs`` below the state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "jobs"

    @contextlib.contextmanager
    def folder(self, purpose: str) -> Iterator[Folder]:
        """Yield a new private folder and remove it at the end, unless it was kept. Raises NoSpaceError."""
        with no_space_as_error(self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = Folder(self._root / f"{purpose}-{os.getpid()}-{secrets.token_hex(4)}")
            folder.path.mkdir(mode=0o700)
        try:
            with filelock.hold(folder.path / LOCK, holder=f"process {os.getpid()}"):
                yield folder
        finally:
            if not folder.is_kept:
                folder.remove()

    def orphans(self) -> list[Folder]:
        """Return the folders of jobs that died."""
        if not self._root.is_dir():
            return []
        folders = (Folder(path) for path in sorted(self._root.iterdir()) if path.is_dir())
        return [folder for folder in folders if not folder.is_kept and self._is_dead(folder)]

    @staticmethod
    def _is_dead(folder: Folder) -> bool:
        lock = folder.path / LOCK
        # Between its first two steps a living job's folder is empty: it is left alone unless its process is gone.
        return filelock.is_free(lock) if lock.exists() else not _is_running(folder)


def _is_running(folder: Folder) -> bool:
    pid = folder.path.name.rsplit("-", 2)[-2]
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def require_private(path: Path) -> None:
    """Create the folder at ``path`` (0700) where it is missing. Raises RefusedError when others can read it."""
    with no_space_as_error(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise RefusedError(
            f"The state folder {path} can be read by others (mode {mode:04o}).", remedy=f"Run: chmod 700 {path}"
        )
