"""Full disks: exit 31, the disk named, and nothing left on it."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.host import REPOSITORY, Host


@pytest.fixture(params=["postgresql", "sqlite"])
def seeded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """A demo with some hundred kilobytes to back up."""
    databases = None
    if request.param == "postgresql":
        databases = {"default": request.getfixturevalue("pg_database")}
    host = Host(tmp_path / "host", databases=databases)
    host.migrate()
    host.seed(users=20, items=200, transactions=3000)
    yield host
    host.close()


def back_up_with_at_most(host: Host, size: int) -> subprocess.CompletedProcess[str]:
    """Back up while no file may grow beyond `size` bytes: what a full disk does to a write, without being root.

    The limit holds for every file of the process, also for coverage's: it is not measured.
    """
    measured = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    environment = {name: value for name, value in host.environment.items() if name not in measured}
    return subprocess.run(
        [sys.executable, "manage.py", "dbbackup"],
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": str(host.folder)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def small_disk(path: Path, size: str) -> None:
    """Mount a real small file system."""
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", path], check=True)


@pytest.mark.parametrize("seeded", ["postgresql"], indirect=True)
def test_disk_full_at_any_byte__no_backup_and_nothing_left(seeded: Host) -> None:
    """Wherever it fills up, the answer is exit 31; with room enough the same command works."""
    seeded.manage("dbbackup", "-q")
    (name,) = leftovers.backups(seeded).values()
    size = (seeded.backups_dir / name).stat().st_size
    for percent in (0, 1, 50, 99):
        result = back_up_with_at_most(seeded, size * percent // 100)

        assert 31 == result.returncode, (percent, result.stdout, result.stderr)
        assert "No space left" in result.stderr
        assert "Traceback" not in result.stderr
        assert [name] == list(leftovers.backups(seeded).values())
        leftovers.assert_nothing_left(seeded)


@pytest.mark.parametrize("seeded", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", ["16k", "400k", "1m"])
def test_no_room_for_the_copy__no_backup_and_nothing_left(seeded: Host, tmp_path: Path, size: str) -> None:
    """The copy that a snapshot of SQLite is needs room in the state folder."""
    small = tmp_path / "small"
    small_disk(small, size)
    try:
        result = seeded.manage("dbbackup", check=False, env={"ERP_BACKUP_STATE_DIR": str(small)})
        left = {path.name for path in (small / "jobs").glob("*")}
    finally:
        subprocess.run(["umount", small], check=True)

    assert 31 == result.returncode, str(result)
    assert set() == left
    assert [] == list(seeded.backups_dir.glob("*"))


def test_location_full__names_the_folder(seeded: Host, tmp_path: Path) -> None:
    """A real small file system as location: the message names it, and the next run with room works."""
    small = tmp_path / "small"
    small_disk(small, "64k")
    try:
        result = seeded.manage("dbbackup", check=False, env={"ERP_BACKUP_BACKUPS_DIR": str(small / "b")})

        assert 31 == result.returncode, str(result)
        assert str(small) in result.stderr
        assert [] == list((small / "b").iterdir())
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        seeded.manage("dbbackup", env={"ERP_BACKUP_BACKUPS_DIR": str(small / "b")})
    finally:
        subprocess.run(["umount", small], check=True)


def test_no_room_for_a_drill__could_not_verify(seeded: Host, tmp_path: Path) -> None:
    """A drill that has no room for the decoded dump is no pass."""
    small = tmp_path / "small"
    seeded.manage("dbbackup")
    small_disk(small, "100k")
    try:
        for name in ("signing.key", "heads.json"):
            (small / name).write_bytes((seeded.state_dir / name).read_bytes())
            (small / name).chmod(0o600)
        result = seeded.manage("verifybackup", check=False, env={"ERP_BACKUP_STATE_DIR": str(small)})
    finally:
        subprocess.run(["umount", small], check=True)

    assert 31 == result.returncode, str(result)
    assert "COULD NOT VERIFY" in result.stdout
