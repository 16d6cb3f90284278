"""The one step that cannot be half done: whatever interrupts it, the databases say whether it has taken place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from erp_backup.core.errors import BackupError
from erp_backup.engines.base import Engine, Switched


@dataclass(slots=True)
class Taking:
    """Whether the switch of the restore called ``name`` has taken place: while nobody knows, it may have."""

    engine: Engine
    name: str
    is_taken: bool = False

    def take(self, switch: Callable[[], Switched]) -> Switched:
        """Switch, and return what was switched although something interrupted it. Raises what did when nothing was."""
        self.is_taken = True
        try:
            return switch()
        except BackupError:
            switched = self.engine.recover_switch()
            if switched is None or switched.restore != self.name:
                self.is_taken = False
                raise
            return switched

    def unfinished(self, error: BackupError) -> BackupError:
        """Return ``error`` with what it means once the switch has begun: nothing failed that is not finished later."""
        error.remedy = (
            f"{error.remedy} The switch may have taken place: the next dbrestore or dbbackup completes or undoes it, "
            "and tells the history."
        ).strip()
        return error
