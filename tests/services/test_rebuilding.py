"""The history of an empty server, from the manifests in the locations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from erp_backup.core import manifest as manifests
from erp_backup.core.names import manifest_name
from erp_backup.models import Backup, BackupStatus, Copy, CopyState, Event
from erp_backup.services.history import History
from erp_backup.services.rebuilding import rebuild
from tests.services.conftest import Listener, MakeEnvironment
from tests.support.samples import NOON, store_backup


@pytest.fixture
def history() -> History:
    """A history that nobody has written to."""
    return History("tester")


@pytest.mark.django_db
class TestRebuilding:
    """`rebuild`."""

    def test_empty_history__a_row_for_each_backup(
        self, make_environment: MakeEnvironment, history: History, listener: Listener
    ) -> None:
        """With its copies, as its own run has left them; what is lost is said."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1)
        away = (environment.location("away"),)
        store_backup(environment, "b2", number=2, taken_at=NOON + timedelta(days=1), locations=away)
        added = rebuild(environment, history)
        first, second = Backup.objects.order_by("number")

        assert (2, "") == (added, history.problem)
        assert ("b1", BackupStatus.COMPLETE, NOON, "") == (first.name, first.status, first.taken_at, first.actor)
        assert "b1" == manifests.read(first.manifest.encode(), environment.verifier()).id
        assert {"local", "away"} == {copy.location for copy in first.copies.all()}
        assert [("away", CopyState.STORED)] == list(second.copies.values_list("location", "state"))
        event = Event.objects.get()
        assert ("history", "tester", {"backups": 2}) == (event.kind, event.actor, event.data)
        assert "How they were verified is not known any more." in listener.notes[0]

    def test_rows_that_exist__stay(self, make_environment: MakeEnvironment, history: History) -> None:
        """What is known of a backup is more than its manifest says."""
        environment = make_environment("local")
        for number in (1, 2):
            store_backup(environment, f"b{number}", number=number)
        kept = Backup.objects.create(name="b1", kind="full", started_at=NOON, status="deleted", actor="ann")

        assert 1 == rebuild(environment, history)
        assert ("deleted", "ann") == Backup.objects.values_list("status", "actor").get(pk=kept.pk)
        assert 0 == Copy.objects.filter(backup=kept).count()

    def test_again__nothing_more(self, make_environment: MakeEnvironment, history: History) -> None:
        """And no event that says nothing."""
        environment = make_environment("local")
        store_backup(environment, "b1", number=1)
        rebuild(environment, history)

        assert 0 == rebuild(environment, history)
        assert (1, 1) == (Backup.objects.count(), Event.objects.count())

    def test_manifest_damaged_or_location_away__the_others(
        self, make_environment: MakeEnvironment, history: History, listener: Listener
    ) -> None:
        """What cannot be believed is left out; a location that cannot be listed is warned of."""
        environment = make_environment("local", "away")
        for number in (1, 2):
            store_backup(environment, f"b{number}", number=number, locations=(environment.location("local"),))
        folder = environment.config.location("local").folder
        away = environment.config.location("away").folder
        assert folder is not None
        assert away is not None
        (folder / manifest_name("b1.sqlite3.zst")).write_bytes(b"{}")
        away.parent.mkdir(exist_ok=True)
        if away.is_dir():
            away.rmdir()
        away.write_text("a file where a folder should be")

        assert 1 == rebuild(environment, history)
        assert ["b2"] == [backup.name for backup in Backup.objects.all()]
        assert "The location 'away' could not be read" in listener.warnings[0]

    def test_nowhere_to_write__kept_as_the_problem(self, make_environment: MakeEnvironment, history: History) -> None:
        """A table is missing: the restore goes on and says it."""
        environment = make_environment("local")
        store_backup(environment, "b1", number=1)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE erp_backup_copy RENAME TO lost")
        added = rebuild(environment, history)

        assert 0 == added
        assert "erp_backup_copy" in history.problem
        assert not Backup.objects.exists()
