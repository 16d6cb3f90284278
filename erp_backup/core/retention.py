"""Which backups may go: a pure function from a list and a rule to a plan with a reason for every backup.

Law 6: the newest verified backup, the newest drilled one and pinned ones always stay, and a backup that failed its
verification never counts as kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

_CLOCK_TOLERANCE = timedelta(days=1)


class Proof(StrEnum):
    """How well a backup is proven."""

    NONE = "not verified"  # nobody has looked yet
    FAILED = "failed verification"  # one found a difference, and none as deep has passed since
    VERIFIED = "verified"  # one passed, at whatever level
    DRILLED = "drilled"  # a drill passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backup as retention sees it."""

    name: str
    taken_at: datetime
    number: int
    proof: Proof = Proof.NONE
    is_pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens to one backup, and why."""

    name: str
    keep: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The rule. ``keep_last`` newest backups stay, counting only those whose verification did not fail."""

    keep_last: int


def plan_retention(candidates: Iterable[Candidate], policy: RetentionPolicy, now: datetime) -> list[Decision]:
    """Return a decision for every backup of one database and kind, newest first.

    Deletes nothing when the clock cannot be right: when a backup is of the future.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.taken_at, candidate.number), reverse=True)
    if any(candidate.taken_at > now + _CLOCK_TOLERANCE for candidate in ordered):
        reason = "the clock is wrong: there is a backup of the future"
        return [Decision(name=candidate.name, keep=True, reason=reason) for candidate in ordered]
    reasons = _reasons_to_keep(ordered, policy)
    return [
        Decision(
            name=candidate.name,
            keep=candidate.name in reasons,
            reason=reasons.get(candidate.name) or f"older than the last {policy.keep_last}, {candidate.proof}",
        )
        for candidate in ordered
    ]


def _reasons_to_keep(ordered: Sequence[Candidate], policy: RetentionPolicy) -> dict[str, str]:
    """The first reason that applies to each backup that stays."""
    good = [candidate for candidate in ordered if candidate.proof is not Proof.FAILED]
    drilled = [candidate for candidate in good if candidate.proof is Proof.DRILLED]
    verified = [candidate for candidate in good if candidate.proof in {Proof.VERIFIED, Proof.DRILLED}]
    rules = [
        ("pinned", [candidate for candidate in ordered if candidate.is_pinned]),
        ("the newest drilled one", drilled[:1]),
        ("the newest verified one", verified[:1]),
        # By time and by number: a clock set back must not make the newest state look older than the one before.
        ("the newest one", [*ordered[:1], max(ordered, key=lambda candidate: candidate.number)] if ordered else []),
        (f"among the last {policy.keep_last}", good[: max(1, policy.keep_last)]),
    ]
    reasons: dict[str, str] = {}
    for reason, kept in rules:
        for candidate in kept:
            reasons.setdefault(candidate.name, reason)
    return reasons
