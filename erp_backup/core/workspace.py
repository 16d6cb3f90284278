"""Private folders of running jobs: they hold temporary files and what to clean up after a job that died.

Each folder holds ``owner.lock``, locked for as long as its process lives. A folder whose lock is free and that was not
kept on purpose is a dead job's; the next run removes it, and first what its ``leftovers.json`` names in the locations.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from erp_backup.core import filelock, files, jsondata
from erp_backup.core.errors import CorruptError, RefusedError, UsageError
from erp_backup.core.spaces import no_space_as_error

LOCK = "owner.lock"
LEFTOVERS = "leftovers.json"
KEPT = "kept"
# A job's folder; with a leading dot while it has no lock yet. Whatever is called otherwise is not ours.
_NAME = re.compile(r"(?P<dot>\.?)[a-z]+-(?P<pid>\d+)-[0-9a-f]{8}")


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
        with no_space_as_error(self.path):
            files.replace_whole(self.path / LEFTOVERS, jsondata.canonical(jsondata.to_data(leftovers)))

    def leftovers(self) -> Leftovers | None:
        """Return what the job had written or was about to write; None when it had not come so far.

        Raises CorruptError for a note that cannot be read as such.
        """
        path = self.path / LEFTOVERS
        try:
            return jsondata.from_data(Leftovers, jsondata.parse(path.read_bytes()))
        except FileNotFoundError:
            return None
        except CorruptError as error:
            raise CorruptError(
                f"{path} is damaged: {error.message}",
                remedy=f"Look for unfinished files in the locations, then remove {self.path}.",
            ) from error

    def remove(self) -> None:
        """Remove the folder with all it holds."""
        shutil.rmtree(self.path, ignore_errors=True)


class Workspace:
    """The folder ``jobs`` below the state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "jobs"

    @contextlib.contextmanager
    def folder(self, purpose: str) -> Iterator[Folder]:
        """Yield a new private folder and remove it at the end, unless it was kept.

        ``purpose`` is one lower-case word. It gets its name when its lock is held, so that nobody ever takes a living
        job's folder for a dead one's. Raises NoSpaceError, and UsageError where folders cannot be made.
        """
        name = f"{purpose}-{os.getpid()}-{secrets.token_hex(4)}"
        new, folder = Folder(self._root / f".{name}"), Folder(self._root / name)
        try:
            with _state_folder_errors(self._root):
                files.make_private_folder(new.path)
            with filelock.hold(new.path / LOCK, holder=f"process {os.getpid()}"):
                new.path.rename(folder.path)
                yield folder
        finally:
            new.remove()
            if not folder.is_kept:
                folder.remove()

    def orphans(self) -> list[Folder]:
        """Return the folders of jobs that died. What is not called like one of ours is left alone."""
        if not self._root.is_dir():
            return []
        return [Folder(path) for path in sorted(self._root.iterdir()) if path.is_dir() and _is_orphan(path)]


def _is_orphan(path: Path) -> bool:
    name = _NAME.fullmatch(path.name)
    if name is None or Folder(path).is_kept:
        return False
    if name["dot"]:
        return not Path(f"/proc/{name['pid']}").exists()
    return filelock.is_free(path / LOCK)


@contextlib.contextmanager
def _state_folder_errors(place: Path) -> Iterator[None]:
    try:
        with no_space_as_error(place):
            yield
    except OSError as error:
        raise UsageError(
            f"The folder {place} cannot be used: {error.strerror}.",
            remedy="Name a folder of this user's own in ERP_BACKUP['STATE_DIR'].",
        ) from error


def require_private(path: Path) -> None:
    """Create the folder at ``path`` (0700) where it is missing.

    Raises RefusedError when others can read it, UsageError when it cannot be made, NoSpaceError.
    """
    with _state_folder_errors(path):
        files.make_private_folder(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise RefusedError(
            f"The state folder {path} can be read by others (mode {mode:04o}).", remedy=f"Run: chmod 700 {path}"
        )
