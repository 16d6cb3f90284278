"""Folders as locations, on real file systems: small ones, read-only ones, ones without hard links."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from django.test import override_settings

from erp_backup.conf import LocationConfig
from erp_backup.core.errors import LocationError
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations import kinds, location_for
from erp_backup.locations.base import Location
from erp_backup.locations.filesystem import FileSystemLocation
from tests.contracts.location import CONTENT, NAME, ROOM, Everything, LocationContract, PrivateLocationContract

SAVING = """
import signal, sys
from pathlib import Path
from django.conf import settings
from erp_backup.conf import LocationConfig
from erp_backup.locations import location_for
settings.configure()
def endless():
    yield b"a part"
    print("a part is written", flush=True)
    signal.pause()
def short():
    yield b"a hundred bytes" * 10
location = location_for(LocationConfig(alias="local", folder=Path(sys.argv[1])))
location.save(sys.argv[2], globals()[sys.argv[3]]())
"""


def at(folder: Path) -> Location:
    """The location of a folder."""
    return location_for(LocationConfig(alias="local", folder=folder))


def listed(folder: Path) -> list[str]:
    """All names in a folder that may not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def mount(folder: Path, *options: str) -> None:
    """Mount a small file system in memory, or change its options."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)


class TestFileSystem(LocationContract, PrivateLocationContract):
    """The contract, for folders."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where the files go."""
        return tmp_path / "mount" / "backups"

    @pytest.fixture
    def location(self, folder: Path) -> Location:
        """A location whose folder is not there yet."""
        return at(folder)

    @pytest.fixture
    def everything(self, folder: Path) -> Everything:
        """What is really in the folder."""
        return lambda: listed(folder)

    @pytest.fixture
    def saving(self, folder: Path) -> list[str]:
        """A process that never ends writing."""
        return [sys.executable, "-c", SAVING, str(folder), NAME, "endless"]

    @pytest.fixture
    def full(self, tmp_path: Path) -> Iterator[Location]:
        """A small file system in memory; without the right to mount one, files that may not grow."""
        folder = tmp_path / "small"
        if os.geteuid() == 0:
            mount(folder, f"size={ROOM + 4 * 4096}")
            yield at(folder)
            subprocess.run(["umount", folder], check=True)
        else:
            yield from _limited(folder)

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Location:
        """A file stands where the folder should be."""
        (tmp_path / "file").touch()
        return at(tmp_path / "file")

    @pytest.fixture
    def read_only(self, tmp_path: Path) -> Iterator[Location]:
        """A file system mounted for reading; without the right to, a folder that may not be written."""
        folder = tmp_path / "archive"
        if os.geteuid() == 0:
            mount(folder, "size=1m")
            at(folder).save(NAME, [CONTENT])
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            yield at(folder)
            subprocess.run(["umount", folder], check=True)
        else:
            at(folder).save(NAME, [CONTENT])
            folder.chmod(0o500)
            yield at(folder)
            folder.chmod(0o700)


def _limited(folder: Path) -> Iterator[Location]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    yield at(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


class TestPrefix:
    """A folder within the storage."""

    def test_prefix__a_folder_of_its_own(self, tmp_path: Path) -> None:
        """Two locations in one storage do not see each other's files."""
        storage = FileSystemStorage(tmp_path)
        one, other = (
            FileSystemLocation(LocationConfig(alias="l", prefix=prefix), storage) for prefix in ("erp/one", "erp/other")
        )
        one.save(NAME, [CONTENT])

        assert [NAME] == listed(tmp_path / "erp" / "one")
        assert [] == other.names()

    @pytest.mark.parametrize("prefix", ["../elsewhere", "/etc", "a/../../b"])
    def test_prefix_that_leads_out__configuration_error(self, tmp_path: Path, prefix: str) -> None:
        """A prefix stays within its storage: anything else is said when the location is made."""
        with pytest.raises(ConfigurationError, match="'local' cannot be used"):
            location_for(LocationConfig(alias="local", folder=tmp_path / "storage", prefix=prefix))

        assert [] == listed(tmp_path / "elsewhere")


class TestOtherThings:
    """What lies in the folder and is not ours."""

    def test_hidden_files_and_folders__not_listed(self, tmp_path: Path) -> None:
        """Only whole files count; others are left alone."""
        (tmp_path / ".hidden").touch()
        (tmp_path / "folder").mkdir()
        (tmp_path / "foreign.txt").touch()

        assert ["foreign.txt"] == at(tmp_path).names()
        assert not at(tmp_path).exists("folder")

    def test_folder_of_somebody__keeps_its_mode(self, tmp_path: Path) -> None:
        """A folder that was there is not taken away from its users."""
        tmp_path.chmod(0o755)
        at(tmp_path).save(NAME, [CONTENT])

        assert 0o755 == tmp_path.stat().st_mode & 0o777

    def test_link_under_the_name__taken(self, tmp_path: Path) -> None:
        """A symbolic link is not followed out of the folder."""
        (tmp_path / "backups").mkdir()
        (tmp_path / "backups" / NAME).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(LocationError, match="already a file"):
            at(tmp_path / "backups").save(NAME, [CONTENT])

        assert not (tmp_path / "elsewhere").exists()


class TestFileSystemsWithFaults:
    """File systems that cannot, or do not, do what they should; system calls answer as theirs do."""

    @staticmethod
    def save(folder: Path, *strace: str) -> subprocess.CompletedProcess[str]:
        """Save a small file in a process under strace."""
        command = ["strace", "-qq", *strace, sys.executable, "-B", "-c", SAVING, str(folder), NAME, "short"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_no_hard_links__stored(self, tmp_path: Path) -> None:
        """FAT and some shares have none."""
        result = self.save(tmp_path, "-o", "/dev/null", "-e", "inject=link,linkat:error=EPERM")

        assert 0 == result.returncode, result.stderr
        assert [NAME] == listed(tmp_path)
        assert 150 == at(tmp_path).size(NAME)

    def test_no_hard_links_and_taken__untouched(self, tmp_path: Path) -> None:
        """There, too, a clash touches nothing."""
        at(tmp_path).save(NAME, [CONTENT])
        result = self.save(tmp_path, "-o", "/dev/null", "-e", "inject=link,linkat:error=EPERM")

        assert "LocationError" in result.stderr
        assert CONTENT == b"".join(at(tmp_path).open(NAME))

    def test_takes_less_than_it_says__found(self, tmp_path: Path) -> None:
        """A share that says it has written what it has not is found out before the file has its name."""
        result = self.save(tmp_path, "-o", "/dev/null", "-e", "inject=write:retval=150:when=1")

        assert "LocationError" in result.stderr
        assert "took 150 bytes and holds 0" in result.stderr
        assert [] == listed(tmp_path)

    @pytest.mark.parametrize("calls", ["fsync", "link,linkat", "write", "fchmod"])
    def test_disk_breaks__location_error_and_nothing_left(self, tmp_path: Path, calls: str) -> None:
        """An error of the disk at any step leaves nothing."""
        result = self.save(tmp_path, "-o", "/dev/null", "-e", f"inject={calls}:error=EIO:when=1")

        assert "LocationError: The location 'local'" in result.stderr
        assert "Input/output error" in result.stderr
        assert [] == listed(tmp_path)

    def test_folder_cannot_be_synced__taken_back(self, tmp_path: Path) -> None:
        """A name that would not outlive a power failure is no name."""
        result = self.save(tmp_path, "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=2")

        assert "LocationError" in result.stderr
        assert [] == listed(tmp_path)

    def test_stored__durable_before_it_has_its_name(self, tmp_path: Path) -> None:
        """First the bytes reach the disk, then the name is given, then the folder reaches the disk."""
        trace = tmp_path / "trace"
        folder = tmp_path / "backups"
        folder.mkdir()
        self.save(folder, "-y", "-o", str(trace), "-e", "trace=fsync,link,linkat")
        calls = [re.sub(r"\(.*?<?([^/<>\"]*)>?[\",)].*", r" \1", line) for line in trace.read_text().splitlines()]

        assert ["fsync", "link", "fsync"] == [re.sub("linkat", "link", call.split()[0]) for call in calls]
        assert calls[0].endswith(".partial")
        assert calls[2].endswith("backups")


class TestKinds:
    """Which storages can be locations."""

    def test_file_system__its_kind(self, tmp_path: Path) -> None:
        """Every storage with a folder is a folder."""
        assert FileSystemLocation in kinds()
        assert FileSystemLocation.accepts(FileSystemStorage(tmp_path))
        assert isinstance(at(tmp_path), FileSystemLocation)

    def test_storage_without_a_place__configuration_error(self) -> None:
        """A storage that forgets everything keeps no backups."""
        memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        with (
            override_settings(STORAGES={**settings.STORAGES, "memory": memory}),
            pytest.raises(ConfigurationError, match="InMemoryStorage, which cannot keep archives"),
        ):
            location_for(LocationConfig(alias="m", storage="memory"))

        assert not FileSystemLocation.accepts(InMemoryStorage())

    @pytest.mark.parametrize(
        "entry",
        [
            {"BACKEND": "no.such.Storage"},
            {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"folder": "/x"}},
        ],
    )
    def test_storage_that_cannot_be_made__configuration_error(self, entry: dict[str, Any]) -> None:
        """A storage that is configured wrongly is said in words, naming the location and the setting."""
        with (
            override_settings(STORAGES={**settings.STORAGES, "broken": entry}),
            pytest.raises(ConfigurationError, match="'offsite' cannot be used") as caught,
        ):
            location_for(LocationConfig(alias="offsite", storage="broken"))

        assert "STORAGES['broken']" in caught.value.remedy
