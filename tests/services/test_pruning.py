"""Deleting old backups: only ours, only for a reason, and never what is proven."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from erp_backup.conf import LocationConfig
from erp_backup.core import signing
from erp_backup.core.errors import KeyUnavailableError, LocationError
from erp_backup.models import Backup, BackupStatus, Copy, Event, Outcome, Verification
from erp_backup.services.environment import Environment
from erp_backup.services.pruning import plan, prune
from tests.services.conftest import Listener, MakeEnvironment
from tests.support.environments import environment_in
from tests.support.samples import NOON, FixedClock, store_backup

DAY = timedelta(days=1)


def store(environment: Environment, count: int, **changes: object) -> None:
    """Store a backup a day: `b1` is the oldest."""
    for number in range(1, count + 1):
        store_backup(environment, f"b{number}", number=number, taken_at=NOON - (count - number) * DAY, **changes)


def verified(name: str, outcome: Outcome, level: str = "models") -> None:
    """Write a verification into the history."""
    Verification.objects.create(
        backup_name=name, outcome=outcome, level=level, reached=level, started_at=NOON, finished_at=NOON, exit_code=0
    )


def left(folder: Path) -> set[str]:
    """The archives in a folder, each of which must have its manifest."""
    names = {path.name for path in folder.iterdir()}
    archives = {name for name in names if not name.endswith(".manifest.json")}
    assert {f"{name}.manifest.json" for name in archives} == names - archives
    return {name.partition(".")[0] for name in archives}


@pytest.mark.django_db
class TestPrune:
    """What goes and what stays."""

    def test_keep_last__the_older_ones_go(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """The last ones stay, with their archives and manifests; the others leave nothing."""
        environment = make_environment(keep_last=2)
        store(environment, 4)
        deleted = prune(environment, "default")

        assert {"b3", "b4"} == left(tmp_path / "local")
        assert ["b2", "b1"] == [decision.name for decision in deleted]

    def test_every_location__cleaned(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """A backup goes with all of its copies."""
        environment = make_environment("local", "away", keep_last=1)
        store(environment, 3)
        prune(environment, "default")

        assert {"b3"} == left(tmp_path / "local") == left(tmp_path / "away")

    def test_failed_verification__does_not_count(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Two that may be good stay beside the ones that are not."""
        environment = make_environment(keep_last=2)
        store(environment, 5)
        verified("b4", Outcome.FAILED)
        verified("b3", Outcome.FAILED)
        prune(environment, "default")

        assert {"b5", "b2"} == left(tmp_path / "local")

    def test_failed_drill_that_reads_back_well__still_does_not_count(
        self, make_environment: MakeEnvironment, tmp_path: Path
    ) -> None:
        """A nightly look at the stored bytes does not whitewash what the drill has found."""
        environment = make_environment(keep_last=1)
        store(environment, 3)
        verified("b2", Outcome.PASSED)
        verified("b3", Outcome.FAILED)
        verified("b3", Outcome.PASSED, level="stored")
        prune(environment, "default")

        assert {"b3", "b2"} == left(tmp_path / "local")

    def test_newest_verified_and_drilled__stay(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """However old they are, proof stays."""
        environment = make_environment(keep_last=1)
        store(environment, 5)
        verified("b1", Outcome.PASSED)
        verified("b2", Outcome.PASSED, level="stored")
        prune(environment, "default")

        assert {"b5", "b2", "b1"} == left(tmp_path / "local")

    def test_could_not_be_verified__counts(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """A verification that could not run says nothing against a backup."""
        environment = make_environment(keep_last=2)
        store(environment, 3)
        verified("b2", Outcome.UNVERIFIED)
        prune(environment, "default")

        assert {"b3", "b2"} == left(tmp_path / "local")

    def test_kinds__each_by_itself(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Backups of the schema do not push out full ones."""
        environment = make_environment(keep_last=1)
        store_backup(environment, "full1", number=1, taken_at=NOON - 4 * DAY)
        for number in (2, 3):
            store_backup(environment, f"schema{number}", number=number, taken_at=NOON - DAY, kind="schema")
        prune(environment, "default")

        assert {"full1", "schema3"} == left(tmp_path / "local")

    def test_history__says_what_went_and_why(self, make_environment: MakeEnvironment, listener: Listener) -> None:
        """Every deletion has a written reason; the row stays, its copies do not."""
        environment = make_environment(keep_last=1)
        store(environment, 2)
        row = Backup.objects.create(name="b1", database="default", kind="full", started_at=NOON)
        Copy.objects.create(backup=row, location="local", stored_at=NOON)
        prune(environment, "default")
        row.refresh_from_db()
        event = Event.objects.get()

        assert BackupStatus.DELETED == row.status
        assert not row.copies.exists()
        assert ("deleted", "b1", "older than the last 1, not verified", "tester") == (
            event.kind,
            event.subject,
            event.message,
            event.actor,
        )
        assert ["Deleted b1: older than the last 1, not verified."] == listener.notes

    def test_twice__nothing_more(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """What one run has left, the next one leaves."""
        environment = make_environment(keep_last=2)
        store(environment, 4)
        prune(environment, "default")

        assert [] == prune(environment, "default")
        assert {"b3", "b4"} == left(tmp_path / "local")

    def test_plan__deletes_nothing_and_is_what_happens(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """The plan that is shown is the one that is carried out."""
        environment = make_environment(keep_last=2)
        store(environment, 4)
        planned = [decision for _backup, decision in plan(environment, "default")]

        assert {"b1", "b2", "b3", "b4"} == left(tmp_path / "local")
        assert [decision for decision in planned if not decision.keep] == prune(environment, "default")

    def test_clock_set_back__nothing_goes(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """A clock that is wrong deletes nothing."""
        environment = make_environment(keep_last=1)
        store(environment, 4)
        prune(replace(environment, clock=FixedClock(NOON - 90 * DAY)), "default")

        assert {"b1", "b2", "b3", "b4"} == left(tmp_path / "local")


@pytest.mark.django_db
class TestNotOurs:
    """What is never touched."""

    @pytest.fixture
    def production(self, tmp_path: Path) -> Environment:
        """Another installation, with a key of its own, that keeps its backups in the same folder."""
        made = environment_in(
            tmp_path / "production", locations=(LocationConfig(alias="local", folder=tmp_path / "local"),)
        )
        store(made, 4)
        return made

    @pytest.mark.parametrize("is_trusted", [True, False])
    def test_other_installation_in_the_same_location__left_alone(
        self,
        make_environment: MakeEnvironment,
        production: Environment,
        tmp_path: Path,
        is_trusted: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        """Staging that may verify production's backups still deletes none of them, though it has the same aliases."""
        environment = make_environment(keep_last=1)
        if is_trusted:
            trusted = replace(
                environment.config.signing, verify_keys=(signing.format_public(production.signer().public),)
            )
            environment = replace(environment, config=replace(environment.config, signing=trusted))
        for number in (1, 2):
            store_backup(environment, f"staging{number}", number=number, taken_at=NOON - (3 - number) * DAY)
        prune(environment, "default")

        assert {"b1", "b2", "b3", "b4", "staging2"} == left(tmp_path / "local")

    def test_other_database__left_alone(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """A name that begins with ours is another's."""
        environment = make_environment(keep_last=1)
        facts = store_backup(environment, "erp1", number=1, taken_at=NOON - DAY).database
        for number in (2, 3):
            other = replace(facts, alias="default_archive")
            store_backup(environment, f"erp_archive{number}", number=number, taken_at=NOON - DAY, database=other)
        prune(environment, "default")

        assert {"erp1", "erp_archive2", "erp_archive3"} == left(tmp_path / "local")

    def test_other_files__left_alone(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Archives without a manifest, and other people's files, are nobody's to delete."""
        environment = make_environment(keep_last=1)
        store(environment, 2)
        others = {"b0.sqlite3.zst", "notes.txt", "b0.dump.manifest.json"}
        for name in others:
            (tmp_path / "local" / name).write_text("{}")
        prune(environment, "default")

        assert others < {path.name for path in (tmp_path / "local").iterdir()}

    def test_two_of_one_name__neither_goes(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """What cannot be told apart is left to people."""
        environment = make_environment("local", "away", keep_last=1)
        store(environment, 1, host="elsewhere")
        store_backup(environment, "b9", number=9, locations=environment.locations[:1])
        store_backup(environment, "b0", number=0, taken_at=NOON - 9 * DAY, locations=environment.locations[:1])
        store_backup(environment, "b0", number=0, taken_at=NOON - 8 * DAY, locations=environment.locations[1:])
        prune(environment, "default")

        assert {"b9", "b0"} == left(tmp_path / "local")
        assert {"b0"} == left(tmp_path / "away")

    def test_no_key_of_ours__nothing_goes(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Without a key nobody can say what is ours."""
        environment = make_environment(keep_last=1)
        store(environment, 3)
        environment.config.signing.key_file.unlink()
        with pytest.raises(KeyUnavailableError):
            prune(environment, "default")

        assert {"b1", "b2", "b3"} == left(tmp_path / "local")


@pytest.mark.django_db
class TestTrouble:
    """Locations and histories that are away."""

    def test_location_away__nothing_goes(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Where a location cannot be looked into, nobody knows what there is: nothing is deleted elsewhere."""
        environment = make_environment("local", "away", keep_last=1)
        store(environment, 3)
        (tmp_path / "away").rename(tmp_path / "unmounted")
        (tmp_path / "away").write_text("a file")
        with pytest.raises(LocationError, match="'away'"):
            prune(environment, "default")

        assert {"b1", "b2", "b3"} == left(tmp_path / "local")

    def test_interrupted_between_archive_and_manifest__completed_by_the_next(
        self, make_environment: MakeEnvironment, tmp_path: Path
    ) -> None:
        """A manifest whose archive is gone already goes with the next run."""
        environment = make_environment(keep_last=1)
        store(environment, 3)
        (tmp_path / "local" / "b1.sqlite3.zst").unlink()
        prune(environment, "default")

        assert {"b3"} == left(tmp_path / "local")


@pytest.mark.django_db(transaction=True)
def test_history_that_cannot_be_read__nothing_goes(make_environment: MakeEnvironment, tmp_path: Path) -> None:
    """Nobody knows then which backup is the newest verified one: all of them stay, and the reason is written."""
    environment = make_environment(keep_last=1)
    store(environment, 3)
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE erp_backup_verification RENAME TO gone")
    try:
        reasons = {decision.reason for _backup, decision in plan(environment, "default")}
        prune(environment, "default")
    finally:
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE gone RENAME TO erp_backup_verification")

    assert {"b1", "b2", "b3"} == left(tmp_path / "local")
    assert {"the history cannot be read: what is proven is not known"} == reasons
