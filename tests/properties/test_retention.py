"""Retention, for any history of backups: law 6."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from erp_backup.core.retention import Candidate, Decision, Proof, RetentionPolicy, plan_retention
from tests.support.samples import NOON

PROVEN = {Proof.VERIFIED, Proof.DRILLED}
any_candidates = st.lists(
    st.builds(
        Candidate,
        name=st.text(max_size=5),
        taken_at=st.integers(-10_000, 0).map(lambda hours: NOON + timedelta(hours=hours)),
        number=st.integers(0, 50),
        proof=st.sampled_from(Proof),
        is_pinned=st.booleans(),
    ),
    unique_by=lambda candidate: candidate.name,
    max_size=15,
)
any_policy = st.builds(RetentionPolicy, keep_last=st.integers(-1, 12))


def plan(
    candidates: list[Candidate], policy: RetentionPolicy, *, jump: timedelta = timedelta(0)
) -> dict[str, Decision]:
    """The decisions by name."""
    return {decision.name: decision for decision in plan_retention(candidates, policy, NOON + jump)}


def newest(candidates: list[Candidate], *proofs: Proof) -> Candidate | None:
    """The newest with one of these proofs."""
    found = [candidate for candidate in candidates if candidate.proof in proofs]
    return max(found, key=lambda candidate: (candidate.taken_at, candidate.number), default=None)


@given(any_candidates, any_policy)
def test_any__one_decision_with_a_reason_each(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """Every backup is decided on once, and every decision has a reason."""
    decisions = plan_retention(candidates, policy, NOON)

    assert sorted(candidate.name for candidate in candidates) == sorted(decision.name for decision in decisions)
    assert all(decision.reason for decision in decisions)


@given(any_candidates, any_policy)
def test_any__newest_and_newest_proven_stay(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """The newest, by time and by number, the newest verified and the newest drilled are never deleted."""
    assume(candidates)
    decisions = plan(candidates, policy)
    last = max(candidates, key=lambda candidate: candidate.number).number
    by_number = [candidate for candidate in candidates if candidate.number == last]
    precious = [newest(candidates, *Proof), newest(candidates, *PROVEN), newest(candidates, Proof.DRILLED)]

    assert all(decisions[candidate.name].keep for candidate in precious if candidate is not None)
    assert any(decisions[candidate.name].keep for candidate in by_number)


@given(any_candidates, any_policy)
def test_any__pinned_stay(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """A pinned one is never deleted."""
    decisions = plan(candidates, policy)

    assert all(decisions[candidate.name].keep for candidate in candidates if candidate.is_pinned)


@given(any_candidates, any_policy)
def test_any__failed_ones_never_count(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """What is kept of the others is the same without the failed ones (but for the newest, which is kept anyway)."""
    good = [candidate for candidate in candidates if candidate.proof is not Proof.FAILED]
    with_failed, without = plan(candidates, policy), plan(good, policy)

    assert all(with_failed[name].keep for name, decision in without.items() if "among the last" in decision.reason)


@given(any_candidates, any_policy)
def test_any__as_many_good_ones_as_the_policy_says(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """At least so many that did not fail stay, where there are so many."""
    decisions = plan(candidates, policy)
    good = [candidate for candidate in candidates if candidate.proof is not Proof.FAILED]
    kept = sum(decisions[candidate.name].keep for candidate in good)

    assert kept >= min(len(good), max(1, policy.keep_last))


@given(any_candidates, any_policy, st.randoms())
def test_any__same_plan_in_any_order_and_twice(
    candidates: list[Candidate], policy: RetentionPolicy, random: object
) -> None:
    """The plan depends on the backups, not on the order in which a location lists them."""
    assume(len({(c.taken_at, c.number) for c in candidates}) == len(candidates))
    assume(len({c.number for c in candidates}) == len(candidates))
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert plan_retention(candidates, policy, NOON) == plan_retention(shuffled, policy, NOON)


@given(any_candidates, any_policy)
def test_any__carried_out_twice_deletes_no_more(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """What a plan has left, the same plan leaves."""
    decisions = plan(candidates, policy)
    left = [candidate for candidate in candidates if decisions[candidate.name].keep]

    assert all(decision.keep for decision in plan(left, policy).values())


@given(any_candidates, any_policy, st.integers(-100_000, 100_000))
def test_any_clock_jump__deletes_no_more(candidates: list[Candidate], policy: RetentionPolicy, hours: int) -> None:
    """Whatever the clock says, nothing goes that would not have gone anyway."""
    before, after = plan(candidates, policy), plan(candidates, policy, jump=timedelta(hours=hours))

    assert all(after[name].keep for name, decision in before.items() if decision.keep)


@given(any_candidates, any_policy)
def test_clock_before_all_backups__deletes_nothing(candidates: list[Candidate], policy: RetentionPolicy) -> None:
    """A clock that was set back behind the backups deletes none of them."""
    decisions = plan(candidates, policy, jump=timedelta(days=-10_000))

    assert all(decision.keep for decision in decisions.values())
