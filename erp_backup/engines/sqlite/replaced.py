"""What switches have put aside: files in the state folder, each with a note of what it is, until they are released."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from erp_backup.core import files, jsondata
from erp_backup.core.errors import CorruptError, RefusedError
from erp_backup.core.names import slug
from erp_backup.core.spaces import no_space_as_error
from erp_backup.engines.base import Replaced
from erp_backup.engines.sqlite.images import sync_file
from erp_backup.engines.sqlite.live import size_of

_NOTE = ".json"
_COMPANIONS = ("-wal", "-journal")  # what may hold content; -shm is built anew


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The folder of replaced databases."""

    folder: Path

    def new_name(self, live: Path, at: datetime) -> Path:
        """Return a path that nothing has: ``<name>__old_<UTC stamp>.sqlite3``."""
        files.make_private_folder(self.folder)
        stem = f"{slug(live.stem)}__old_{at.astimezone(UTC):%Y%m%dT%H%M%S}"
        numbers = range(1, 1_000_000)
        names = (f"{stem}.sqlite3" if number == 1 else f"{stem}_{number}.sqlite3" for number in numbers)
        return next(path for name in names if not _is_taken(path := self.folder / name))

    def new_partial(self, kept: Path) -> Path:
        """Create the empty file that becomes ``kept`` when it is whole; only we can read it. Raises NoSpaceError."""
        partial = files.partial_of(kept)
        partial.unlink(missing_ok=True)
        with no_space_as_error(self.folder):
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return partial

    def publish(self, partial: Path, replaced: Replaced) -> None:
        """Let a whole file appear under its name, with its note, durably. Raises NoSpaceError."""
        kept = Path(replaced.name)
        with no_space_as_error(self.folder):
            sync_file(partial)
            files.replace_whole(_note(kept), jsondata.canonical(jsondata.to_data(replaced)))
            files.give_name(partial, kept)

    def put_aside(self, file: Path, kept: Path) -> None:
        """Let ``kept`` be the very file ``file``, or a whole copy of it where it is on another file system.

        Nobody may have it open. Raises NoSpaceError.
        """
        with no_space_as_error(self.folder):
            try:
                os.link(file, kept)
            except FileExistsError:  # by the run before, or it is asked for twice
                return
            except OSError:
                _copy(file, files.partial_of(kept))
                files.give_name(files.partial_of(kept), kept)
            files.sync_folder(kept.parent)

    def note(self, replaced: Replaced) -> None:
        """Write what a kept file is. Raises NoSpaceError."""
        with no_space_as_error(self.folder):
            files.replace_whole(_note(Path(replaced.name)), jsondata.canonical(jsondata.to_data(replaced)))

    def list(self, live: Path) -> list[Replaced]:
        """Return what was replaced under this name, newest first. Notes that cannot be read are passed over."""
        notes = self.folder.glob(f"*.sqlite3{_NOTE}") if self.folder.is_dir() else ()
        read = [replaced for path in notes if (replaced := _read(path)) and replaced.live == str(live)]
        return sorted(read, key=lambda replaced: (replaced.replaced_at, replaced.name), reverse=True)

    def require_ours(self, replaced: Replaced, live: Path) -> Path:
        """Return the path of one of :meth:`list`. Raises RefusedError for anything else."""
        if not any(known.name == replaced.name for known in self.list(live)):
            raise RefusedError(
                f"{replaced.name} is no replaced database of {live} that was kept here.",
                remedy=f"What is kept is listed, and stands in {self.folder}.",
            )
        return Path(replaced.name)

    def remove(self, kept: Path) -> None:
        """Remove a kept file, whole or half-made, and all that belongs to it, durably; the note goes last."""
        parts = [kept.with_name(kept.name + suffix) for suffix in ("", *_COMPANIONS, "-shm")]
        for path in (*parts, *map(files.partial_of, [*parts, _note(kept)]), _note(kept)):
            path.unlink(missing_ok=True)
        if self.folder.is_dir():
            files.sync_folder(self.folder)


def companions(path: Path) -> dict[str, Path]:
    """Return the names of the files beside a database that may hold content, by suffix."""
    return {suffix: path.with_name(path.name + suffix) for suffix in _COMPANIONS}


def describe(kept: Path, *, live: Path, restore: str, at: datetime) -> Replaced:
    """Return what a kept file is; its size is that of what is there now."""
    size = size_of(kept) if kept.exists() else 0
    return Replaced(name=str(kept), live=str(live), restore=restore, replaced_at=at, size=size)


def _copy(file: Path, partial: Path) -> None:
    partial.unlink(missing_ok=True)
    shutil.copyfile(file, partial)
    partial.chmod(0o600)
    sync_file(partial)


def _note(kept: Path) -> Path:
    return kept.with_name(kept.name + _NOTE)


def _is_taken(kept: Path) -> bool:
    return os.path.lexists(kept) or _note(kept).exists()


def _read(note: Path) -> Replaced | None:
    try:
        found = jsondata.from_data(Replaced, jsondata.parse(note.read_bytes()))
    except (CorruptError, OSError):
        return None
    return found if Path(found.name) == note.with_name(note.name.removesuffix(_NOTE)) else None
