"""Which backup a restore takes: the one that was named, or the newest that is good; never one by mistake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.errors import MissingError, NoBackupError, RefusedError, UsageError
from erp_backup.core.manifest import Origin
from erp_backup.models import Outcome, Verification
from erp_backup.services.environment import Environment
from erp_backup.services.restoring.choosing import choose
from erp_backup.services.restoring.request import RestoreRequest
from tests.services.conftest import Listener, MakeEnvironment
from tests.support.samples import NOON, sample_manifest, store_backup

HOUR = timedelta(hours=1)
OTHER = replace(sample_manifest().database, alias="archive")
ORIGIN = Origin(name="old.sql", size=1, sha256="12" * 32)

pytestmark = pytest.mark.django_db


def chosen(environment: Environment, **request: Any) -> str:
    """Return the name of what would be restored."""
    return choose(environment, RestoreRequest(**{"database": "default", **request})).name


@pytest.fixture
def stored(environment: Environment) -> Environment:
    """Three good backups of one database, an hour apart."""
    for number in (1, 2, 3):
        store_backup(environment, f"b{number}", number=number, taken_at=NOON + number * HOUR)
    return environment


def failed(name: str, outcome: Outcome = Outcome.FAILED) -> None:
    """Write a verification into the history."""
    Verification.objects.create(
        backup_name=name,
        outcome=outcome,
        level="models",
        reached="models",
        started_at=NOON,
        finished_at=NOON,
        exit_code=6,
    )


class TestNewest:
    """Nothing is named."""

    def test_default__the_newest(self, stored: Environment) -> None:
        """By the time of its state."""
        assert "b3" == chosen(stored)

    @pytest.mark.parametrize(("after", "expected"), [(3 * HOUR, "b2"), (3.5 * HOUR, "b3"), (1.5 * HOUR, "b1")])
    def test_before__its_state_is_older(self, stored: Environment, after: timedelta, expected: str) -> None:
        """A state of that very moment is not from before it."""
        assert expected == chosen(stored, before=NOON + after)

    def test_before_all__none(self, stored: Environment) -> None:
        """The message says before when."""
        with pytest.raises(NoBackupError, match="from before 2026-01-05 12:00:00"):
            chosen(stored, before=NOON)

    def test_failed_verification__passed_over(self, stored: Environment) -> None:
        """The one before it is proven better; one that could not be verified is not known to be bad."""
        failed("b3")
        failed("b2", Outcome.UNVERIFIED)

        assert "b2" == chosen(stored)

    def test_all_failed__none_and_how_many(self, stored: Environment) -> None:
        """Somebody may insist on one by its name."""
        for name in ("b1", "b2", "b3"):
            failed(name)

        with pytest.raises(NoBackupError, match="3 failed their last verification"):
            chosen(stored)
        assert "b2" == chosen(stored, backup="b2")

    @pytest.mark.parametrize(
        "changes",
        [
            {"purpose": "safety"},
            {"origin": ORIGIN},
            {"kind": "schema"},
            {"kind": "data"},
            {"schemas": ("public",)},
            {"database": OTHER},
        ],
        ids=str,
    )
    def test_not_a_state_that_one_wants__by_name_only(self, stored: Environment, changes: dict[str, Any]) -> None:
        """Safety backups, imported ones, parts, those of other databases: none is taken because it is the newest."""
        store_backup(stored, "odd", number=4, taken_at=NOON + 4 * HOUR, **changes)

        assert "b3" == chosen(stored)
        if "database" not in changes:
            assert "odd" == chosen(stored, backup="odd")

    def test_server_name__as_it_stands_in_names(self, stored: Environment) -> None:
        """Names have `_` where a server's has `-` or a dot."""
        store_backup(stored, "erp_web_1_full_20260105_120000_abcdef", number=4, taken_at=NOON)

        assert "erp_web_1_full_20260105_120000_abcdef" == chosen(stored, server_name="web-1")
        with pytest.raises(NoBackupError):
            chosen(stored, server_name="db-9")


class TestNamed:
    """By the name of the backup, of its archive, of its manifest."""

    @pytest.mark.parametrize("name", ["b1", "b1.sqlite3.zst", "b1.sqlite3.zst.manifest.json"])
    def test_name__that_one(self, stored: Environment, name: str) -> None:
        """However it is written."""
        assert "b1" == chosen(stored, backup=name)

    def test_unknown__no_other(self, stored: Environment) -> None:
        """Nothing is taken in its place."""
        with pytest.raises(NoBackupError, match="b9"):
            chosen(stored, backup="b9")

    def test_of_another_database__refused(self, stored: Environment) -> None:
        """Its rows belong to somebody else; the message names the way, if it is meant."""
        store_backup(stored, "other", number=1, database=OTHER)

        with pytest.raises(RefusedError, match="--database archive"):
            chosen(stored, backup="other")
        assert "other" == chosen(stored, backup="other", database="archive")

    def test_that_failed__taken_and_warned_of(self, stored: Environment, listener: Listener) -> None:
        """It is verified again before it goes anywhere."""
        failed("b1")

        assert "b1" == chosen(stored, backup="b1")
        assert "The last verification of b1 failed" in listener.warnings[0]


class TestPath:
    """A file outside the locations."""

    @pytest.mark.parametrize("suffix", ["", ".manifest.json"])
    def test_with_its_manifest__taken(self, make_environment: MakeEnvironment, tmp_path: Path, suffix: str) -> None:
        """The archive or its manifest is named."""
        store_backup(make_environment("stick"), "b7", number=7)
        here = make_environment("local")

        assert "b7" == chosen(here, path=tmp_path / "stick" / f"b7.sqlite3.zst{suffix}")

    def test_without_manifest__to_be_imported(self, environment: Environment, tmp_path: Path) -> None:
        """Nothing says what it holds."""
        path = tmp_path / "old.dump"
        path.write_bytes(b"PGDMP")

        with pytest.raises(RefusedError, match=f"importbackup {path}"):
            chosen(environment, path=path)

    def test_no_file__missing(self, environment: Environment, tmp_path: Path) -> None:
        """Nor is it looked for elsewhere."""
        with pytest.raises(MissingError, match="nosuch"):
            chosen(environment, path=tmp_path / "nosuch")


class TestLocations:
    """Where the copies are."""

    def test_one_away__the_others_and_a_warning(
        self, make_environment: MakeEnvironment, tmp_path: Path, listener: Listener
    ) -> None:
        """A location that cannot be read keeps no restore from happening."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1)
        self.block(tmp_path / "away")

        assert "b1" == chosen(environment)
        assert listener.warnings[0].startswith("away: ")

    def test_only_one_and_away__its_own_error(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """That there is no backup would not be true."""
        environment = make_environment("away")
        store_backup(environment, "b1", number=1)
        self.block(tmp_path / "away")

        with pytest.raises(Exception, match="away") as caught:
            chosen(environment)
        assert not isinstance(caught.value, NoBackupError)

    def test_named__only_its_copies(self, make_environment: MakeEnvironment) -> None:
        """The newest one is elsewhere."""
        environment = make_environment("local", "offsite")
        store_backup(environment, "both", number=1)
        store_backup(environment, "here", number=2, taken_at=NOON + HOUR, locations=(environment.location("local"),))

        assert ("here", "both") == (chosen(environment), chosen(environment, locations=("offsite",)))
        with pytest.raises(UsageError):
            chosen(environment, locations=("nosuch",))

    def test_edited_manifest__warned_of_and_passed_over(
        self, stored: Environment, tmp_path: Path, listener: Listener
    ) -> None:
        """What nobody signed is no backup."""
        path = tmp_path / "local" / "b3.sqlite3.zst.manifest.json"
        path.write_text(path.read_text().replace('"host":"db1"', '"host":"db2"'))

        assert "b2" == chosen(stored)
        assert "b3" in listener.warnings[0]

    @staticmethod
    def block(folder: Path) -> None:
        """Let a file stand where the location's folder was: not even root can look into it."""
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("no folder")
