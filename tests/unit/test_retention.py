"""Which backups may go, and why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from erp_backup.core.retention import Candidate, Decision, Proof, RetentionPolicy, plan_retention
from tests.support.samples import NOON

DAY = timedelta(days=1)


def backups(*proofs: Proof, pinned: tuple[int, ...] = ()) -> list[Candidate]:
    """One backup a day, the newest first and called `b0`, with these proofs."""
    return [
        Candidate(
            name=f"b{age}", taken_at=NOON - age * DAY, number=len(proofs) - age, proof=proof, is_pinned=age in pinned
        )
        for age, proof in enumerate(proofs)
    ]


def kept(candidates: list[Candidate], keep_last: int = 1) -> dict[str, str]:
    """The backups that stay, with the reason."""
    plan = plan_retention(candidates, RetentionPolicy(keep_last=keep_last), NOON)
    return {decision.name: decision.reason for decision in plan if decision.keep}


class TestKept:
    """What stays."""

    def test_last_ones__kept(self) -> None:
        """As many as the policy says, and the newest for its own sake."""
        found = kept(backups(*[Proof.NONE] * 5), keep_last=3)

        assert {
            "b0": "the newest one",
            "b1": "among the last 3",
            "b2": "among the last 3",
        } == found

    @pytest.mark.parametrize("keep_last", [0, -1])
    def test_policy_of_nothing__the_newest(self, keep_last: int) -> None:
        """No policy deletes the newest."""
        assert {"b0"} == kept(backups(Proof.NONE, Proof.NONE), keep_last).keys()

    def test_newest_verified_is_old__kept(self) -> None:
        """However old it is, the newest one that is proven stays."""
        found = kept(backups(Proof.NONE, Proof.NONE, Proof.VERIFIED, Proof.VERIFIED))

        assert {"b0": "the newest one", "b2": "the newest verified one"} == found

    def test_newest_drilled_is_older_still__kept(self) -> None:
        """So does the newest one that was restored."""
        found = kept(backups(Proof.NONE, Proof.VERIFIED, Proof.DRILLED, Proof.DRILLED))

        assert {"b0": "the newest one", "b1": "the newest verified one", "b2": "the newest drilled one"} == found

    def test_drilled_is_verified__one_backup_for_both(self) -> None:
        """A drill verifies: no older one is kept for it."""
        assert {"b0", "b1"} == kept(backups(Proof.NONE, Proof.DRILLED, Proof.VERIFIED)).keys()

    def test_pinned__kept(self) -> None:
        """A pin is reason enough, for a failed one, too."""
        found = kept(backups(Proof.NONE, Proof.NONE, Proof.FAILED, pinned=(2,)))

        assert "pinned" == found["b2"]

    def test_failed__never_counts_as_kept(self) -> None:
        """Two good ones stay beside the failed ones, and failed ones go first."""
        found = kept(backups(Proof.NONE, Proof.FAILED, Proof.FAILED, Proof.NONE, Proof.NONE), keep_last=2)

        assert {"b0", "b3"} == found.keys()

    def test_newest_failed__kept_but_not_counted(self) -> None:
        """The newest one is there to be looked into; the last good one stays as well."""
        assert {"b0", "b1"} == kept(backups(Proof.FAILED, Proof.NONE, Proof.NONE)).keys()

    def test_all_failed__the_newest(self) -> None:
        """There is always one left."""
        assert {"b0"} == kept(backups(Proof.FAILED, Proof.FAILED), keep_last=5).keys()

    def test_none__nothing(self) -> None:
        """Nothing is kept of nothing."""
        assert [] == plan_retention([], RetentionPolicy(keep_last=3), NOON)


class TestDeleted:
    """What goes."""

    @pytest.mark.parametrize("proof", list(Proof))
    def test_reason__rule_and_proof(self, proof: Proof) -> None:
        """What goes has the rule and its proof as its reason."""
        candidates = [*backups(Proof.DRILLED), Candidate(name="old", taken_at=NOON - DAY, number=0, proof=proof)]
        plan = plan_retention(candidates, RetentionPolicy(keep_last=1), NOON)

        assert Decision(name="old", keep=False, reason=f"older than the last 1, {proof}") == plan[-1]


class TestClocks:
    """A clock that is wrong deletes nothing."""

    def test_backup_of_the_future__nothing_goes(self) -> None:
        """Either the clock is wrong now, or it was then: nobody can tell what is old."""
        candidates = [Candidate(name="future", taken_at=NOON + 2 * DAY, number=9), *backups(*[Proof.NONE] * 9)]
        plan = plan_retention(candidates, RetentionPolicy(keep_last=1), NOON)

        assert all(decision.keep for decision in plan)
        assert {"the clock is wrong: there is a backup of the future"} == {decision.reason for decision in plan}

    def test_some_hours_ahead__no_alarm(self) -> None:
        """Two machines' clocks differ a little."""
        candidates = [Candidate(name="b", taken_at=NOON + DAY / 2, number=9), *backups(*[Proof.NONE] * 3)]

        assert {"b"} == kept(candidates).keys()

    def test_clock_set_back__the_newest_by_number_stays(self) -> None:
        """A backup that was just made under a clock set back is the newest all the same."""
        candidates = [*backups(Proof.NONE, Proof.NONE), Candidate(name="now", taken_at=NOON - 9 * DAY, number=99)]

        assert {"b0": "the newest one", "now": "the newest one"} == kept(candidates)


class TestOrder:
    """The plan as people read it."""

    def test_any_order__newest_first(self) -> None:
        """The order of the input does not matter, and one decision is made of each."""
        candidates = backups(*[Proof.NONE] * 4)
        plan = plan_retention(reversed(candidates), RetentionPolicy(keep_last=2), NOON)

        assert ["b0", "b1", "b2", "b3"] == [decision.name for decision in plan]

    def test_same_moment__the_greater_number_first(self) -> None:
        """Two backups of one moment are told apart by their numbers."""
        candidates = [Candidate(name=f"n{number}", taken_at=NOON, number=number) for number in (1, 3, 2)]
        plan = plan_retention(candidates, RetentionPolicy(keep_last=1), NOON)

        assert [("n3", True), ("n2", False), ("n1", False)] == [(d.name, d.keep) for d in plan]
