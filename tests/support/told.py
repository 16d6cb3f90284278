"""What the history tells, read past Django: to prove that nothing of it is lost, doubled or wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.support.restoring import Erp

_DONE = {"complete", "partial"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The history of one moment; every row with its natural key."""

    restores: dict[str, tuple[str, str]]  # name: status, name of the replaced database
    backups: dict[str, tuple[str, str]]  # name: status, archive
    events: Counter[tuple[Any, ...]]
    verifications: Counter[tuple[Any, ...]]
    rows: int  # of restores and backups: names are unique, rows should be

    @property
    def archives(self) -> set[str]:
        """The archives that there should be."""
        return {archive for status, archive in self.backups.values() if status in _DONE}

    @property
    def kept(self) -> set[str]:
        """The replaced databases of restores that took place."""
        return {replaced for status, replaced in self.restores.values() if status == "complete"}

    def running(self) -> list[str]:
        """Return what would be going on."""
        return [name for name, (status, _) in (*self.restores.items(), *self.backups.items()) if status == "running"]


def told(erp: Erp) -> Told:
    """Read the history of the live database."""
    restores = erp.sql("SELECT name, status, replaced FROM erp_backup_restore")
    backups = erp.sql("SELECT name, status, archive FROM erp_backup_backup")
    return Told(
        restores={name: (status, replaced) for name, status, replaced in restores},
        backups={name: (status, archive) for name, status, archive in backups},
        events=Counter(erp.sql("SELECT at, kind, subject, message, actor FROM erp_backup_event")),
        verifications=Counter(erp.sql("SELECT started_at, backup_name, level, actor FROM erp_backup_verification")),
        rows=len(restores) + len(backups),
    )


def assert_nothing_lost_or_doubled(before: Told, after: Told) -> None:
    """Assert that all that was told is told once, and that nothing is said to be going on."""
    assert [] == after.running()
    assert before.restores.keys() <= after.restores.keys()
    assert before.backups.keys() <= after.backups.keys()
    assert len(after.restores) + len(after.backups) == after.rows
    for earlier, later in ((before.events, after.events), (before.verifications, after.verifications)):
        assert Counter() == earlier - later
        assert [] == [row for row, count in (later - earlier).items() if count > 1 or row in earlier]
    ends = Counter(subject for _at, kind, subject, *_ in after.events if kind in {"restore", "restore failed"})
    assert [] == [(subject, count) for subject, count in ends.items() if count > 1]
    for name, (status, _replaced) in after.restores.items():
        assert 1 == ends[name], (name, status)
