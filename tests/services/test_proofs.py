"""How well backups are proven, as the history of their verifications says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from erp_backup.core.retention import Proof
from erp_backup.models import Outcome, Verification
from erp_backup.services.proofs import known_proofs, proofs
from tests.support.samples import NOON

PASSED, FAILED, UNVERIFIED = Outcome.PASSED, Outcome.FAILED, Outcome.UNVERIFIED


def verified(*steps: tuple[Outcome, str, str], name: str = "b1") -> None:
    """Write verifications into the history: outcome, level asked for, level reached."""
    before = Verification.objects.count()
    for minutes, (outcome, level, reached) in enumerate(steps, before):
        at = NOON + timedelta(minutes=minutes)
        Verification.objects.create(
            backup_name=name, outcome=outcome, level=level, reached=reached, started_at=at, finished_at=at, exit_code=0
        )


@pytest.mark.django_db
class TestProofs:
    """From verifications to a proof."""

    @pytest.mark.parametrize(
        ("steps", "proof"),
        [
            ([], Proof.NONE),
            ([(PASSED, "stored", "stored")], Proof.VERIFIED),
            ([(PASSED, "readable", "readable")], Proof.VERIFIED),
            ([(PASSED, "restored", "restored")], Proof.DRILLED),
            ([(PASSED, "models", "models")], Proof.DRILLED),
            ([(PASSED, "application", "application")], Proof.DRILLED),
            ([(FAILED, "models", "models")], Proof.FAILED),
            # A verification that could not run says nothing, in either direction.
            ([(UNVERIFIED, "models", "")], Proof.NONE),
            ([(PASSED, "models", "models"), (UNVERIFIED, "models", "stored")], Proof.DRILLED),
            ([(FAILED, "models", "models"), (UNVERIFIED, "models", "")], Proof.FAILED),
            # A later look at the stored bytes takes no drill's proof away.
            ([(PASSED, "models", "models"), (PASSED, "stored", "stored")], Proof.DRILLED),
            ([(PASSED, "models", "models"), (FAILED, "stored", "")], Proof.FAILED),
            # Nor does it take away what a drill has found.
            ([(FAILED, "models", "models"), (PASSED, "stored", "stored")], Proof.FAILED),
            ([(FAILED, "models", "restored"), (PASSED, "restored", "restored")], Proof.FAILED),
            ([(FAILED, "models", "models"), (PASSED, "models", "models")], Proof.DRILLED),
            ([(FAILED, "models", "models"), (PASSED, "application", "application")], Proof.DRILLED),
            # What failed at once, and passes again, was a copy that somebody has mended.
            ([(FAILED, "models", ""), (PASSED, "stored", "stored")], Proof.VERIFIED),
            ([(PASSED, "models", "models"), (FAILED, "stored", ""), (PASSED, "stored", "stored")], Proof.DRILLED),
            # A level that this version does not know proves nothing here.
            ([(PASSED, "invented", "invented")], Proof.NONE),
        ],
    )
    def test_verifications__add_up(self, steps: list[tuple[Outcome, str, str]], proof: Proof) -> None:
        """A failure stands until a verification at least as deep has passed."""
        verified(*steps)

        assert {"b1": proof} == proofs(["b1"])

    def test_others__kept_apart(self) -> None:
        """Each backup has its own proof, and names that begin alike are different names."""
        verified((PASSED, "models", "models"), name="b1")
        verified((FAILED, "models", "models"), name="b11")

        assert {"b1": Proof.DRILLED, "b11": Proof.FAILED, "b2": Proof.NONE} == proofs(["b1", "b11", "b2"])

    def test_nobody_asked_for__nothing(self) -> None:
        """No names, no proofs."""
        assert {} == proofs([]) == known_proofs([])

    def test_one_query__however_many(self, django_assert_num_queries: object) -> None:
        """A thousand backups cost as much as one."""
        with django_assert_num_queries(1):  # type: ignore[operator]  # pytest-django's own object
            proofs([f"b{number}" for number in range(1000)])


@pytest.mark.django_db(transaction=True)
def test_history_that_cannot_be_read__nothing_is_known() -> None:
    """Without the tables nothing is proven, and that is told apart from a backup that nobody has verified."""
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE erp_backup_verification RENAME TO gone")
    try:
        known, shown = known_proofs(["b1"]), proofs(["b1"])
    finally:
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE gone RENAME TO erp_backup_verification")

    assert known is None
    assert {"b1": Proof.NONE} == shown
