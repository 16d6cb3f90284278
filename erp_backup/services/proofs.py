"""How well backups are proven, as the history of verifications says."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import DatabaseError

from erp_backup.core.retention import Proof
from erp_backup.models import Outcome, Verification

_DRILLS = frozenset({"restored", "models", "application"})

__all__ = ["Proof", "proofs"]


def proofs(names: Iterable[str]) -> dict[str, Proof]:
    """Return the proof of each backup by its last verification that came to an end; one that could not run says nothing.

    Without a history that can be read, nothing is proven.
    """
    found = dict.fromkeys(names, Proof.NONE)
    rows = Verification.objects.exclude(outcome=Outcome.UNVERIFIED).order_by("started_at", "id")
    try:
        for name, outcome, level in rows.values_list("backup_name", "outcome", "level"):
            if name in found:
                found[name] = _proof(outcome, level, found[name])
    except DatabaseError:
        return dict.fromkeys(found, Proof.NONE)
    return found


def _proof(outcome: str, level: str, before: Proof) -> Proof:
    """A later look at the stored bytes does not take a drill's proof away; a failure does."""
    if outcome == Outcome.FAILED:
        return Proof.FAILED
    return Proof.DRILLED if level in _DRILLS or before is Proof.DRILLED else Proof.VERIFIED
