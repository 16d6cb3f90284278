"""What dead attempts left: a whole backup is kept and recorded, anything less goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from erp_backup.core import jsondata
from erp_backup.core.names import manifest_name
from erp_backup.core.workspace import LEFTOVERS, Leftovers
from erp_backup.engines.base import Engine
from erp_backup.models import Backup, BackupStatus, Event
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.heads import Head, advance_head, read_heads
from erp_backup.services.history import History
from erp_backup.services.leftovers import clean_up
from tests.services.conftest import Listener, MakeEnvironment
from tests.support.samples import NOON, store_backup

NAME = "erp1"
ARCHIVE = f"{NAME}.sqlite3.zst"


def dead_job(environment: Environment, *locations: str) -> Path:
    """The folder of a job that died after it had noted what it writes."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    folder = environment.config.state_dir / "jobs" / f"backup-{process.pid}-0123abcd"
    folder.mkdir(parents=True)
    note = Leftovers(backup=NAME, archive=ARCHIVE, locations=list(locations))
    (folder / LEFTOVERS).write_bytes(jsondata.canonical(jsondata.to_data(note)))
    Backup.objects.create(name=NAME, database="default", kind="full", started_at=NOON)
    return folder


def names(folder: Path) -> set[str]:
    """All that lies in a folder, hidden files included."""
    return {path.name for path in folder.iterdir()}


def clean_after(environment: Environment) -> None:
    """Clean up as every run does first."""
    engine: Engine = environment.engine("default")
    clean_up(environment, engine, History("next run"))


@pytest.mark.django_db
class TestUnfinished:
    """Attempts that had not come to their manifest."""

    def test_archive_without_manifest__goes(
        self, make_environment: MakeEnvironment, tmp_path: Path, listener: Listener
    ) -> None:
        """Archive and unfinished files go in every location, the row says that it failed, and people are told."""
        environment = make_environment("local", "away")
        folder = dead_job(environment, "local", "away")
        environment.locations[0].save(ARCHIVE, [b"whole"])
        (tmp_path / "away").mkdir()
        (tmp_path / "away" / f".{ARCHIVE}.0123abcd.partial").write_bytes(b"half")
        (tmp_path / "away" / f".{manifest_name(ARCHIVE)}.0123abcd.partial").write_bytes(b"half")
        clean_after(environment)
        row = Backup.objects.get()

        assert set() == names(tmp_path / "local") | names(tmp_path / "away")
        assert not folder.exists()
        assert (BackupStatus.FAILED, 1) == (row.status, row.exit_code)
        assert "Its process ended" in row.error
        assert [f"Removed {tmp_path}/local/{ARCHIVE}, which a run that died had not finished."] == listener.notes

    def test_other_files__left_alone(self, environment: Environment, tmp_path: Path) -> None:
        """Only what the note names is touched."""
        dead_job(environment, "local")
        for name in (f"{NAME}.sqlite3", "other.dump"):
            environment.locations[0].save(name, [b"whole"])
        (tmp_path / "local" / ".other.dump.0123abcd.partial").write_bytes(b"half")
        clean_after(environment)

        assert {f"{NAME}.sqlite3", "other.dump", ".other.dump.0123abcd.partial"} == names(tmp_path / "local")

    def test_nothing_noted__only_the_folder_goes(self, environment: Environment) -> None:
        """A job that had not come so far left nothing elsewhere."""
        folder = dead_job(environment, "local")
        (folder / LEFTOVERS).unlink()
        clean_after(environment)

        assert not folder.exists()
        assert BackupStatus.RUNNING == Backup.objects.get().status

    def test_folder_given_on_the_command_line__cleaned_too(self, environment: Environment, tmp_path: Path) -> None:
        """What went to `--output-path` is found again by its path, wherever the next run is started."""
        folder = dead_job(environment, str(tmp_path / "elsewhere"))
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / ARCHIVE).write_bytes(b"whole")
        clean_after(environment)

        assert set() == names(tmp_path / "elsewhere")
        assert not folder.exists()


@pytest.mark.django_db
class TestFinished:
    """Attempts that died when their backup existed already."""

    def test_manifest_everywhere__kept_and_recorded(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """A whole backup is a backup: history and head say so."""
        environment = make_environment("local", "away")
        dead_job(environment, "local", "away")
        store_backup(environment, NAME, number=4)
        clean_after(environment)
        row = Backup.objects.get()

        assert {ARCHIVE, manifest_name(ARCHIVE)} == names(tmp_path / "local") == names(tmp_path / "away")
        assert (BackupStatus.COMPLETE, 0, 4, "") == (row.status, row.exit_code, row.number, row.error)
        assert {"local", "away"} == {copy.location for copy in row.copies.all()}
        assert (4, NAME, row.manifest_sha256) == (
            read_heads(environment.config.state_dir)["default"].number,
            read_heads(environment.config.state_dir)["default"].name,
            read_heads(environment.config.state_dir)["default"].sha256,
        )
        assert "recorded by the next run" in Event.objects.get().message

    def test_manifest_in_one_location__partial(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Where it had not come to, the archive goes, and the row says where it is missing."""
        environment = make_environment("local", "away")
        dead_job(environment, "local", "away")
        store_backup(environment, NAME, number=4, locations=environment.locations[:1])
        environment.locations[1].save(ARCHIVE, [b"whole"])
        clean_after(environment)
        row = Backup.objects.get()

        assert {ARCHIVE, manifest_name(ARCHIVE)} == names(tmp_path / "local")
        assert set() == names(tmp_path / "away")
        assert (BackupStatus.PARTIAL, 3) == (row.status, row.exit_code)
        assert "away" in row.error

    def test_manifest_damaged__kept_for_people_and_failed(
        self, environment: Environment, tmp_path: Path, listener: Listener
    ) -> None:
        """What cannot be read is not deleted, and is no backup."""
        dead_job(environment, "local")
        store_backup(environment, NAME, number=4)
        (tmp_path / "local" / manifest_name(ARCHIVE)).write_text("{}")
        clean_after(environment)

        assert {ARCHIVE, manifest_name(ARCHIVE)} == names(tmp_path / "local")
        assert BackupStatus.FAILED == Backup.objects.get().status
        assert "damaged" in listener.warnings[0]

    def test_folder_of_somebodys_own__recorded_but_no_head(self, environment: Environment, tmp_path: Path) -> None:
        """What was stored outside all locations is a backup, and no location withholds it."""
        dead_job(environment, str(tmp_path / "usb"))
        store_backup(environment, NAME, number=4, locations=(folder_location(tmp_path / "usb"),))
        clean_after(environment)

        assert BackupStatus.COMPLETE == Backup.objects.get().status
        assert {} == read_heads(environment.config.state_dir)

    def test_dead_jobs_head__never_goes_back(self, environment: Environment) -> None:
        """A backup that died long ago does not become the newest one."""
        advance_head(environment.config.state_dir, "default", Head(number=9, sha256="x", name="newest"))
        dead_job(environment, "local")
        store_backup(environment, NAME, number=4)
        clean_after(environment)

        assert "newest" == read_heads(environment.config.state_dir)["default"].name


@pytest.mark.django_db
class TestTrouble:
    """What cannot be cleaned now."""

    def test_location_away__warned_and_tried_again(
        self, make_environment: MakeEnvironment, tmp_path: Path, listener: Listener
    ) -> None:
        """The run goes on, people are warned, and the next run tries again."""
        environment = make_environment("local", "away")
        folder = dead_job(environment, "local", "away")
        (tmp_path / "away").write_text("a file")
        clean_after(environment)

        assert folder.exists()
        assert "could not be removed" in listener.warnings[0]
        assert "'away'" in listener.warnings[0]

        (tmp_path / "away").unlink()
        clean_after(environment)

        assert not folder.exists()

    def test_location_renamed_in_the_settings__warned(self, environment: Environment, listener: Listener) -> None:
        """A location that nobody knows any more is not taken for a folder of that name somewhere."""
        folder = dead_job(environment, "former")
        clean_after(environment)

        assert folder.exists()
        assert "There is no location 'former'" in listener.warnings[0]

    @pytest.mark.parametrize("note", [b"", b"{}", b"[1]", b"\xff"])
    def test_note_damaged__warned_and_never_in_the_way(
        self, environment: Environment, listener: Listener, note: bytes
    ) -> None:
        """A damaged note costs no backup."""
        folder = dead_job(environment, "local")
        (folder / LEFTOVERS).write_bytes(note)
        clean_after(environment)

        assert folder.exists()
        assert str(folder) in listener.warnings[0]
