"""What would go wrong in a restore, before anything is touched: rights, space, locks, and what stands there."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from erp_backup.core.errors import (
    BackupError,
    LockedError,
    NoSpaceError,
    RefusedError,
    ServerUnreachableError,
    VersionError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import Manifest
from erp_backup.core.units import format_size
from erp_backup.engines.base import Problem, Tools
from erp_backup.engines.sqlite.connecting import errors_in_words, opened
from erp_backup.engines.sqlite.exchanging import Layout, layout_of
from erp_backup.engines.sqlite.live import Condition, beside, companions_of, condition_of, size_of
from erp_backup.engines.sqlite.openers import in_words, openers_of
from erp_backup.engines.sqlite.switching import space_beside

_RIGHTS = "Give this user the right to write there, or run this as the user that the ERP runs as."


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look at a live file and at what a restore needs. ``name`` is NAME of ``DATABASES``."""

    live: Path
    state_dir: Path
    tools: Tools = field(repr=False)
    name: str

    def problems(self, manifest: Manifest, *, switch: bool) -> list[Problem]:
        """Return them all; notes are of severity NOTE."""
        found = list(_versions(manifest))
        found += self._unwritable([self.state_dir])
        if not switch:
            return [*found, *self._space(manifest, None, switch=False)]
        folder = list(self._folder())
        if folder:
            return [*found, *folder, *self._space(manifest, None, switch=False)]
        try:
            condition = condition_of(self.live, self.tools.lock_timeout)
            is_database = condition is Condition.DATABASE
            layout = layout_of(self.live, self.tools.runner, self.tools.lock_timeout) if is_database else None
        except BackupError as error:
            return [*found, _as_problem(error), *self._space(manifest, None, switch=True)]
        found += self._about(condition, layout)
        return [*found, *self._space(manifest, layout, switch=True)]

    def _folder(self) -> Iterator[Problem]:
        """What is wrong with the live file's place; then nothing else can be tried."""
        folder = self.live.parent
        if not folder.is_dir():
            yield _unreachable(f"There is no folder {folder} for the database.", "Create it, owned by the ERP's user.")
            return
        if os.path.lexists(self.live) and not self.live.is_file():
            yield Problem(message=f"{self.live} is no file.", remedy="Correct NAME in DATABASES.")
        yield from self._unwritable([folder, self.live, *companions_of(self.live)])

    def _unwritable(self, places: list[Path]) -> Iterator[Problem]:
        for place in places:
            if place.exists() and not os.access(place, os.W_OK):
                yield _unreachable(*_why_not(place))

    def _about(self, condition: Condition, layout: Layout | None) -> Iterator[Problem]:
        if Path(self.name).is_symlink():
            yield _note(f"{self.name} leads to {self.live}: that file is restored, the way to it stays.")
        openers = openers_of([self.live, *beside(self.live)])
        openers = [opener for opener in openers if opener.pid != os.getpid()]
        if layout is not None:
            yield from self._lock(layout)
            kept = f"pages of {layout.page_size} bytes, {'WAL' if layout.is_wal else 'rollback journal'}"
            yield _note(f"The live file keeps its own layout: {kept}.")
            if openers:
                yield _note(
                    f"These processes have {self.live} open, and will see what is restored: {in_words(openers)}."
                )
            return
        words = {
            Condition.MISSING: f"There is no file {self.live}: it will be created.",
            Condition.EMPTY: f"The file {self.live} is empty.",
            Condition.DAMAGED: f"The file {self.live} is no database any more: it will be put aside and replaced.",
        }
        yield _note(words[condition])
        leftover = companions_of(self.live)
        if leftover:
            names = ", ".join(path.name for path in leftover)
            yield _note(f"{names} beside it will be put aside: SQLite would play them into the new file.")
        if openers and condition is not Condition.EMPTY:
            yield Problem(
                message=f"{self.live} must be replaced, and these processes have it open: {in_words(openers)}.",
                remedy="Stop them, then run this again.",
                error=LockedError,
            )

    def _lock(self, layout: Layout) -> Iterator[Problem]:
        """Get, for a moment, the lock that the switch needs."""
        begin = "BEGIN IMMEDIATE" if layout.is_wal else "BEGIN EXCLUSIVE"
        try:
            with (
                errors_in_words(self.live),
                opened(self.live, "mode=rw", timeout=self.tools.lock_timeout) as connection,
            ):
                connection.execute(begin)
                connection.execute("ROLLBACK")
        except BackupError as error:
            yield _as_problem(error)

    def _space(self, manifest: Manifest, layout: Layout | None, *, switch: bool) -> Iterator[Problem]:
        """What is needed here and beside the live file, together where both are one file system."""
        folder, state_dir = self.live.parent, self.state_dir
        live = size_of(self.live) if switch and self.live.is_file() else 0
        image = manifest.archive.uncompressed_size or manifest.database.size
        if manifest.format == "sql":
            image = max(image, manifest.database.size)
        decoded = manifest.archive.uncompressed_size if manifest.format == "sql" else 0
        needs = {state_dir: image + max(decoded, live)}
        if switch and folder.is_dir():
            beside_live = space_beside(live, image, layout)
            if folder.stat().st_dev == _existing(state_dir).stat().st_dev:
                needs[state_dir] += beside_live
            else:
                needs[folder] = beside_live
        for place, needed in needs.items():
            free = shutil.disk_usage(_existing(place)).free
            if free < needed:
                yield Problem(
                    message=f"{format_size(needed)} are needed at {place}, {format_size(free)} are free.",
                    remedy="Free space there, then run this again.",
                    error=NoSpaceError,
                )


def _versions(manifest: Manifest) -> Iterator[Problem]:
    made_by = manifest.database.engine
    if made_by not in {"", "sqlite"}:
        yield Problem(
            message=f"The backup {manifest.id} is of a database of {made_by}, this one is of SQLite.",
            remedy="Choose a backup of this database.",
            error=RefusedError,
        )
        return
    theirs, ours = _numbers(manifest.database.version), sqlite3.sqlite_version_info
    if theirs > ours:
        yield Problem(
            message=f"The backup was made with SQLite {manifest.database.version}, here is {sqlite3.sqlite_version}.",
            remedy="That works unless its schema uses something newer; the restore beside the live file will show it.",
            severity=Severity.NOTE,
            error=VersionError,
        )


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _why_not(place: Path) -> tuple[str, str]:
    """Say why a place cannot be written, and what to do."""
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{place} is on a file system that is mounted read-only.", "Mount it writable."
    return f"{place} cannot be written.", _RIGHTS


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def _unreachable(message: str, remedy: str) -> Problem:
    return Problem(message=message, remedy=remedy, error=ServerUnreachableError)


def _as_problem(error: BackupError) -> Problem:
    return Problem(message=error.message, remedy=error.remedy, error=type(error))


def _note(message: str) -> Problem:
    return Problem(message=message, severity=Severity.NOTE)
