"""How well backups are proven, as the history of verifications says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError

from erp_backup.core.retention import Proof
from erp_backup.models import Outcome, Verification
from erp_backup.services.verification import LEVELS

__all__ = ["Proof", "known_proofs", "proofs"]

_DRILL = LEVELS.index("restored")


def proofs(names: Iterable[str]) -> dict[str, Proof]:
    """Return the proof of each backup. Without a history that can be read, nothing is proven."""
    wanted = list(names)
    return known_proofs(wanted) or dict.fromkeys(wanted, Proof.NONE)


def known_proofs(names: Iterable[str]) -> dict[str, Proof] | None:
    """Return the proof of each backup by its verifications that came to an end; None when the history cannot be read.

    A verification that could not run says nothing. A failure stands until a verification at least as deep has passed.
    """
    found = {name: _Record() for name in names}
    rows = Verification.objects.exclude(outcome=Outcome.UNVERIFIED).order_by("started_at", "id")
    try:
        for name, outcome, level, reached in rows.values_list("backup_name", "outcome", "level", "reached"):
            if name in found and level in LEVELS:
                found[name].add(outcome, LEVELS.index(level), LEVELS.index(reached) if reached in LEVELS else -1)
    except (DatabaseError, InterfaceError):
        return None
    return {name: record.proof for name, record in found.items()}


@dataclass(slots=True)
class _Record:
    """The deepest levels (positions in LEVELS) at which one backup has passed, and has failed without passing since."""

    passed: int = -1
    failed: int = -1

    def add(self, outcome: str, level: int, reached: int) -> None:
        """Add the next verification; it failed at the level after the one it reached."""
        if outcome == Outcome.FAILED:
            self.failed = max(self.failed, min(level, reached + 1))
        else:
            self.passed = max(self.passed, level)
            if level >= self.failed:
                self.failed = -1

    @property
    def proof(self) -> Proof:
        if self.failed >= 0:
            return Proof.FAILED
        if self.passed < 0:
            return Proof.NONE
        return Proof.DRILLED if self.passed >= _DRILL else Proof.VERIFIED
