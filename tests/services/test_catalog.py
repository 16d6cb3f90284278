"""The list of backups, as the manifests in the locations say, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from erp_backup.core import jsondata
from erp_backup.core.errors import (
    CorruptError,
    InterruptedBySignal,
    KeyUnavailableError,
    LocationError,
    NoBackupError,
    UsageError,
    VersionError,
)
from erp_backup.core.names import manifest_name
from erp_backup.core.signing import create_key
from erp_backup.services import catalog
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment
from tests.services.conftest import MakeEnvironment
from tests.support.samples import NOON, named_manifest, store_backup

DAY = timedelta(days=1)


def found_in(environment: Environment) -> list[Found]:
    """The backups of all locations."""
    return catalog.group(catalog.read_all(environment))


def broken_in(environment: Environment) -> Entry:
    """The one manifest that is not believed."""
    [entry] = [entry for entry in catalog.read_all(environment) if entry.error is not None]
    return entry


class TestReading:
    """All manifests of all locations."""

    def test_nothing_stored__nothing(self, environment: Environment) -> None:
        """A new installation has no backups."""
        assert [] == catalog.read_all(environment)

    def test_several__newest_first_and_unreadable_last(self, environment: Environment, tmp_path: Path) -> None:
        """People read from the top."""
        for number, age in ((1, 3), (2, 1), (3, 2)):
            store_backup(environment, f"b{number}", number=number, taken_at=NOON - age * DAY)
        (tmp_path / "local" / "a.dump.manifest.json").write_text("nonsense")

        assert ["b2", "b3", "b1", None] == [e.manifest and e.manifest.id for e in catalog.read_all(environment)]

    def test_other_files__not_looked_at(self, environment: Environment, tmp_path: Path) -> None:
        """Archives without a manifest, other people's files and hidden ones are no backups."""
        (tmp_path / "local").mkdir()
        for name in ("erp.dump", "notes.txt", "x.json", ".x.manifest.json", "-x.manifest.json"):
            (tmp_path / "local" / name).write_text("{}")

        assert [] == catalog.read_all(environment)

    def test_copies__one_backup_in_two_locations(self, make_environment: MakeEnvironment) -> None:
        """The same manifest in two locations is one backup with two copies."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1)
        store_backup(environment, "b2", number=2, locations=environment.locations[:1])

        assert {"b1": ["local", "away"], "b2": ["local"]} == {
            backup.name: [copy.location.alias for copy in backup.copies] for backup in found_in(environment)
        }

    def test_only_some_locations__those(self, make_environment: MakeEnvironment) -> None:
        """A location that is not asked is not read."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1, locations=environment.locations[:1])

        assert [] == catalog.read_all(environment, environment.locations[1:])

    def test_location_that_cannot_be_listed__said(self, environment: Environment, tmp_path: Path) -> None:
        """A location that is away is not an empty one."""
        (tmp_path / "local").write_text("a file")
        with pytest.raises(LocationError, match="'local'"):
            catalog.read_all(environment)


class TestDisbelieved:
    """Manifests that are not what they should be."""

    def test_damaged__corrupt_with_its_path(self, environment: Environment, tmp_path: Path) -> None:
        """The message names the file and says what to do."""
        store_backup(environment, "b1", number=1)
        path = tmp_path / "local" / "b1.sqlite3.zst.manifest.json"
        path.write_bytes(path.read_bytes()[:-2])
        error = broken_in(environment).error

        assert isinstance(error, CorruptError)
        assert str(path) in error.message
        assert error.remedy

    def test_replayed_under_another_name__corrupt(self, environment: Environment, tmp_path: Path) -> None:
        """An older manifest in the place of a newer one is found, though every byte of it is genuine."""
        store_backup(environment, "older", number=1)
        store_backup(environment, "newer", number=2)
        older, newer = (tmp_path / "local" / f"{name}.sqlite3.zst.manifest.json" for name in ("older", "newer"))
        newer.write_bytes(older.read_bytes())
        entry = broken_in(environment)

        assert isinstance(entry.error, CorruptError)
        assert "in place of another" in entry.error.message
        assert newer.name == entry.name
        assert ["older"] == [backup.name for backup in found_in(environment)]

    def test_copied_under_another_name__corrupt(self, environment: Environment, tmp_path: Path) -> None:
        """Nor does a manifest become a second backup by being copied."""
        store_backup(environment, "b1", number=1)
        path = tmp_path / "local" / "b1.sqlite3.zst.manifest.json"
        (tmp_path / "local" / "b2.sqlite3.zst.manifest.json").write_bytes(path.read_bytes())

        assert isinstance(broken_in(environment).error, CorruptError)
        assert 1 == len(found_in(environment))

    def test_signed_by_a_stranger__key_unavailable(self, environment: Environment, tmp_path: Path) -> None:
        """Another installation's backup is told apart from damage."""
        environment.signer()
        store_backup(environment, "b1", number=1, signer=create_key(tmp_path / "stranger.key"))
        error = broken_in(environment).error

        assert isinstance(error, KeyUnavailableError)
        assert "VERIFY_KEYS" in error.remedy

    def test_format_of_a_later_version__version_error(self, environment: Environment, tmp_path: Path) -> None:
        """People are sent to upgrade, not to look for damage."""
        store_backup(environment, "b1", number=1)
        path = tmp_path / "local" / "b1.sqlite3.zst.manifest.json"
        payload = {**json.loads(path.read_bytes()), "format": 2}
        del payload["signature"]
        payload["signature"] = environment.signer().sign(jsondata.canonical(payload))
        path.write_bytes(jsondata.canonical(payload))

        assert isinstance(broken_in(environment).error, VersionError)

    def test_enormous__refused_without_reading_it_all(self, environment: Environment, tmp_path: Path) -> None:
        """A file that is too large for a manifest does not fill the memory."""
        environment.signer()
        (tmp_path / "local").mkdir()
        with (tmp_path / "local" / "b1.dump.manifest.json").open("wb") as file:
            file.truncate(2**40)

        assert isinstance(broken_in(environment).error, CorruptError)

    def test_damaged_in_one_location__whole_in_the_other(
        self, make_environment: MakeEnvironment, tmp_path: Path
    ) -> None:
        """One bad copy does not take the backup away."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1)
        (tmp_path / "local" / "b1.sqlite3.zst.manifest.json").write_text("{}")
        [backup] = found_in(environment)

        assert ["away"] == [copy.location.alias for copy in backup.copies]
        assert "local" == broken_in(environment).location.alias

    def test_signal_while_reading__not_taken_for_damage(self, environment: Environment, tmp_path: Path) -> None:
        """Whoever stops a run is not told that a backup is damaged."""
        store_backup(environment, "b1", number=1)
        location = environment.locations[0]

        class Stopped(type(location)):  # type: ignore[misc]  # a location that is stopped while it is read
            def open(self, name: str) -> Iterator[bytes]:
                raise InterruptedBySignal(15, "SIGTERM")

        stopped = Stopped(location.config, FileSystemStorage(tmp_path / "local"))
        with pytest.raises(InterruptedBySignal):
            catalog.read_entry(stopped, manifest_name("b1.sqlite3.zst"), environment.verifier())


class TestFinding:
    """One backup by its name."""

    @pytest.mark.parametrize(
        "wanted",
        [
            "b1",
            "b1.sqlite3.zst",
            "b1.sqlite3.zst.manifest.json",
            "/srv/backups/b1.sqlite3.zst",
            "x/b1.sqlite3.zst.manifest.json",
        ],
    )
    def test_any_of_its_names__found(self, environment: Environment, wanted: str) -> None:
        """Its id, its archive, its manifest, with or without a path."""
        store_backup(environment, "b1", number=1)
        store_backup(environment, "b11", number=2)

        assert "b1" == catalog.find(found_in(environment), wanted).name

    @pytest.mark.parametrize("wanted", ["b", "b12", "", "b1.sqlite3", "B1"])
    def test_nearly_a_name__never_guessed(self, environment: Environment, wanted: str) -> None:
        """A part of a name is none: the wrong backup would be restored."""
        store_backup(environment, "b1", number=1)
        with pytest.raises(NoBackupError, match="listbackups"):
            catalog.find(found_in(environment), wanted)

    def test_same_id_twice__asks_for_the_archive(self, environment: Environment) -> None:
        """Two different backups under one id are not chosen between; their archives' names still tell them apart."""
        store_backup(environment, "b1", number=1)
        archive = named_manifest("other", number=2, taken_at=NOON)[0].archive
        store_backup(environment, "other", number=2, id="b1", archive=archive)
        found = found_in(environment)

        assert 2 == len(found)
        with pytest.raises(UsageError, match="2 backups are called 'b1'"):
            catalog.find(found, "b1")
        assert 2 == catalog.find(found, "other.sqlite3.zst").manifest.number

    def test_same_archive_in_two_states__two_backups(self, make_environment: MakeEnvironment) -> None:
        """Copies that differ are not copies: they are two backups, and neither hides the other."""
        environment = make_environment("local", "away")
        store_backup(environment, "b1", number=1, locations=environment.locations[:1])
        store_backup(environment, "b1", number=1, locations=environment.locations[1:], host="elsewhere")

        assert [["away"], ["local"]] == sorted(
            [copy.location.alias for copy in backup.copies] for backup in found_in(environment)
        )


class TestNewest:
    """The newest backup of each database."""

    def test_numbers_decide(self, environment: Environment) -> None:
        """A clock that went back does not make an older backup the newest."""
        store_backup(environment, "b1", number=1, taken_at=NOON + DAY)
        store_backup(environment, "b2", number=2, taken_at=NOON)

        assert {"default": "b2"} == {
            alias: backup.name for alias, backup in catalog.newest_by_database(found_in(environment)).items()
        }
