"""The history of a recovery of rows: it says 'complete' in the very transaction that the rows are committed in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import router

from erp_backup.core.errors import BackupError
from erp_backup.core.names import new_identifier
from erp_backup.engines.bridging import Bridge
from erp_backup.models import Event, Restore, RestoreStatus
from erp_backup.services.environment import Environment
from erp_backup.services.history import History


@dataclass(slots=True, kw_only=True)
class Noted:
    """One restore's row in the history, from its beginning to its end."""

    environment: Environment
    backup: str
    database: str
    target: str
    destination: str
    history: History = field(init=False)
    name: str = field(init=False)
    columns: dict[str, Any] = field(default_factory=dict)
    is_complete: bool = False

    def __post_init__(self) -> None:
        self.history = History(self.environment.actor)
        self.name = new_identifier("restore", self.target.replace(" ", "_"), self._now())

    def _now(self) -> datetime:
        return self.environment.clock.now()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Note the beginning, and the end when it fails. Under the database's lock: whoever else ran is dead."""
        self._bury()
        self.history.begin_restore(
            self.name,
            self.backup,
            self.database,
            self.target,
            self.destination,
            self._now(),
            self.environment.config.host,
        )
        try:
            yield
        except BackupError as error:
            if not self.is_complete:
                self._fail(self.name, error.exit_code, str(error))
            raise

    def _fail(self, name: str, exit_code: int, error: str) -> None:
        self.history.finish_restore(name, self._now(), RestoreStatus.FAILED, exit_code, error)
        self.history.event(self._now(), "restore failed", name, error, backup=self.backup)

    def _bury(self) -> None:
        for name in self.history.running_restores(self.database, self.target):
            self._fail(name, 1, "Its process ended before it was done.")

    def complete_in(self, bridge: Bridge) -> None:
        """Note the end inside the bridge's transaction, where the history lives in that database."""
        if router.db_for_write(Restore) != self.database:
            return
        restore = Restore.objects.using(bridge.alias).filter(name=self.name)
        if restore.update(status=RestoreStatus.COMPLETE, finished_at=self._now(), exit_code=0, **self.columns):
            Event.objects.using(bridge.alias).create(**self._event())
            self.is_complete = True

    def complete(self) -> None:
        """Note the end after the commit, where it was not noted inside it."""
        if not self.is_complete:
            self.history.finish_restore(self.name, self._now(), RestoreStatus.COMPLETE, **self.columns)
            self.history.event(self._now(), "restore", self.name, self.destination, backup=self.backup)
            self.is_complete = True

    def _event(self) -> dict[str, Any]:
        return {
            "at": self._now(),
            "kind": "restore",
            "subject": self.name,
            "message": self.destination,
            "actor": self.environment.actor,
            "data": {"backup": self.backup},
        }
