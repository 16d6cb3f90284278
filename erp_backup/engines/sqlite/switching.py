"""The switch of an SQLite database: intended, taken, settled; whatever kills it, the next run finishes or undoes it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.db import connections

from erp_backup.core.clock import Clock
from erp_backup.core.errors import BackupError, RefusedError
from erp_backup.core.process import ProcessRunner
from erp_backup.core.spaces import require_space
from erp_backup.engines.base import Replaced, Switched, SwitchRequest
from erp_backup.engines.sqlite import placing
from erp_backup.engines.sqlite.exchanging import Layout, copy_bytes, copy_content, exchange, layout_of
from erp_backup.engines.sqlite.images import drop_mark, mark_of, prepare
from erp_backup.engines.sqlite.intents import Intent, Intents, State, Way
from erp_backup.engines.sqlite.live import Condition, companions_of, condition_of, size_of
from erp_backup.engines.sqlite.replaced import KeptFiles, describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """Switches of the live file at ``live``. ``limit`` is how many seconds a lock of others may stand in the way."""

    live: Path
    alias: str
    settings: Mapping[str, Any] = field(repr=False)
    intents: Intents
    kept: KeptFiles
    clock: Clock
    runner: ProcessRunner
    limit: float

    def switch(self, image: Path, request: SwitchRequest, *, source: Path | None = None) -> Switched:
        """Put the ``image`` (a file of ours, changed by this) in the live file's place; see ``Engine.switch``."""
        self._require_settled()
        condition = condition_of(self.live, request.limit)
        is_database = condition is Condition.DATABASE
        layout = layout_of(self.live, self.runner, request.limit) if is_database else None
        prepare(image, self.settings, restore=request.restore, page_size=layout.page_size if layout else None)
        intent = Intent(
            restore=request.restore,
            live=str(self.live),
            at=request.at,
            way=Way.CONTENT if is_database or condition is Condition.EMPTY else Way.PLACE,
            kept=str(self._name_for(request)) if self._has_something(condition) else "",
            source=str(source or ""),
        )
        self._require_space(image, layout)
        self.intents.write(intent)
        try:
            self._take(image, intent, layout, request.limit)
        except BaseException:
            # What cannot be told or undone now is left to recover.
            with contextlib.suppress(BackupError, OSError):
                self.recover()
            raise
        with contextlib.suppress(BackupError, OSError):  # the mark tells it as well
            self.intents.write(replace(intent, state=State.TAKEN))
        return self._switched(intent)

    def _require_settled(self) -> None:
        intent = self.intents.read(self.live)
        if intent is not None:
            raise RefusedError(
                f"The restore {intent.restore} of {self.live} was cut off and has not been finished.",
                remedy="Run dbrestore again: it begins with finishing or undoing that one.",
            )

    def _name_for(self, request: SwitchRequest) -> Path:
        return self.kept.new_name(self.live, request.at)

    def _has_something(self, condition: Condition) -> bool:
        return condition in {Condition.DATABASE, Condition.DAMAGED} or bool(companions_of(self.live))

    def _require_space(self, image: Path, layout: Layout | None) -> None:
        """Raise NoSpaceError before anything is begun, where that can be told."""
        size = size_of(self.live) if self.live.exists() else 0
        beside = space_beside(size, image.stat().st_size, layout)
        state_dir = self.kept.folder.parent
        if self.live.parent.stat().st_dev != state_dir.stat().st_dev:
            require_space(self.live.parent, beside)
            require_space(state_dir, size)
        else:  # what is replaced as a file is only linked there
            require_space(state_dir, beside + (size if layout is not None else 0))

    def _take(self, image: Path, intent: Intent, layout: Layout | None, limit: float) -> None:
        if intent.way is Way.PLACE:
            if self.alias in connections:
                connections[self.alias].close()  # this thread's own; it opens again by itself
            if intent.kept:
                self.kept.note(self._describe(intent))
            placing.place(image, self.live, Path(intent.kept) if intent.kept else None, self.kept)
            return
        exchange(
            image,
            self.live,
            keep=lambda: self._keep(intent, layout),
            clock=self.clock,
            limit=limit,
        )

    def _keep(self, intent: Intent, layout: Layout | None) -> None:
        """Copy the old content, while nobody can write, so that it is there whatever happens afterwards."""
        if not intent.kept or layout is None:
            return
        kept = Path(intent.kept)
        partial = self.kept.new_partial(kept)
        if layout.is_wal:
            copy_content(self.live, partial)
        else:
            copy_bytes(self.live, partial, self.runner)
        described = describe(partial, live=self.live, restore=intent.restore, at=intent.at)
        self.kept.publish(partial, replace(described, name=str(kept)))

    def recover(self) -> Switched | None:
        """Undo what a dead run left half-made, or return its switch; see ``Engine.recover_switch``."""
        intent = self.intents.read(self.live)
        if intent is None:
            self.intents.remove(self.live)  # killed while it was written
            return None
        if intent.state is State.SETTLED:
            self._finish(intent)
            return None
        if intent.state is State.TAKEN or mark_of(self.live, self.limit) == intent.restore:
            placing.tidy(self.live)
            self.intents.write(replace(intent, state=State.TAKEN))
            return self._switched(intent)
        self._undo(intent)
        return None

    def _undo(self, intent: Intent) -> None:
        kept = Path(intent.kept) if intent.kept else None
        if intent.way is Way.PLACE:
            is_duplicate = placing.put_back(self.live, kept, self.kept, self.limit)
        else:
            # Where the live file has been lost since, the kept one may be all that there is.
            is_duplicate = condition_of(self.live, self.limit) is Condition.DATABASE
        if kept is not None and is_duplicate:
            self.kept.remove(kept)
        self.intents.remove(self.live)

    def require_unneeded(self, kept: Path) -> None:
        """Raise RefusedError for a kept file of a switch that is not settled."""
        intent = self.intents.read(self.live)
        if intent is not None and str(kept) in {intent.kept, intent.source}:
            raise RefusedError(
                f"{kept} belongs to the restore {intent.restore}, which is not finished.",
                remedy="Run dbrestore again: it begins with finishing or undoing that one.",
            )

    def settle(self, switched: Switched) -> None:
        """Note that all that follows the switch was done; see ``Engine.settle_switch``. Raises LockedError."""
        intent = self.intents.read(self.live)
        if intent is None:
            return
        if intent.restore != switched.restore:
            raise RefusedError(f"{self.live} is being replaced by the restore {intent.restore}, not by this one.")
        # First noted, then done: without its mark an unsettled switch would look as if it had never taken place.
        settled = replace(intent, state=State.SETTLED)
        self.intents.write(settled)
        self._finish(settled)

    def _finish(self, intent: Intent) -> None:
        if condition_of(self.live, self.limit) is Condition.DATABASE:
            drop_mark(self.live, self.limit)
        if intent.source:
            self.kept.remove(Path(intent.source))
        self.intents.remove(self.live)

    def _describe(self, intent: Intent) -> Replaced:
        return replace(describe(self.live, live=self.live, restore=intent.restore, at=intent.at), name=intent.kept)

    def _switched(self, intent: Intent) -> Switched:
        known = [replaced for replaced in self.kept.list(self.live) if replaced.name == intent.kept]
        return Switched(restore=intent.restore, replaced=known[0] if known else None)


def space_beside(live: int, image: int, layout: Layout | None) -> int:
    """Return the bytes that a switch takes on the live file's file system, beside what is there.

    In WAL mode the image first goes to ``-wal``, in other modes the old pages go to the journal; a new file is all new.
    """
    growth = max(0, image - live)
    if layout is None:
        return image
    return (image + image // 100 if layout.is_wal else live) + growth
