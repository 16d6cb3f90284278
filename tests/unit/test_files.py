"""Files and folders: private, whole or not there, and never in the place of another."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erp_backup.core.files import create_whole, give_name, make_private_folder, replace_whole

LIMITED = """
import resource, sys
from pathlib import Path
from erp_backup.core import files
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
getattr(files, sys.argv[1])(Path(sys.argv[2]), b"x" * 100)
"""


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Any umask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def listed(folder: Path) -> list[str]:
    """The names in a folder."""
    return [path.name for path in folder.iterdir()]


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def fail_for_lack_of_space(function: str, path: Path) -> str:
    """Call a function where no file may grow beyond ten bytes, and return what it said."""
    command = [sys.executable, "-c", LIMITED, function, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 1 == result.returncode
    return result.stderr


class TestFolders:
    """Private folders."""

    def test_missing__all_of_them_private(self, tmp_path: Path, umask: int) -> None:
        """Every folder that has to be made is its owner's only."""
        make_private_folder(tmp_path / "a" / "b" / "c")

        assert [0o700] * 3 == [mode(tmp_path / path) for path in ("a", "a/b", "a/b/c")]

    def test_existing__left_as_it_is(self, tmp_path: Path) -> None:
        """A folder that somebody made keeps the mode that he gave it."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(0o750)
        make_private_folder(tmp_path / "a")
        make_private_folder(tmp_path / "a" / "b")

        assert (0o750, 0o700) == (mode(tmp_path / "a"), mode(tmp_path / "a" / "b"))

    @pytest.mark.parametrize("path", ["file", "file/below"])
    def test_file_in_its_place__error(self, tmp_path: Path, path: str) -> None:
        """A file is no folder."""
        (tmp_path / "file").touch()
        with pytest.raises((FileExistsError, NotADirectoryError)):
            make_private_folder(tmp_path / path)


class TestCreate:
    """Files that were not there."""

    def test_new__whole_and_private(self, tmp_path: Path, umask: int) -> None:
        """It has its bytes, mode 0600, and nothing beside it."""
        create_whole(tmp_path / "key", b"content")

        assert b"content" == (tmp_path / "key").read_bytes()
        assert 0o600 == mode(tmp_path / "key")
        assert ["key"] == listed(tmp_path)

    def test_taken__untouched(self, tmp_path: Path) -> None:
        """What stands there is never replaced."""
        (tmp_path / "key").write_bytes(b"older")
        with pytest.raises(FileExistsError):
            create_whole(tmp_path / "key", b"content")

        assert b"older" == (tmp_path / "key").read_bytes()
        assert ["key"] == listed(tmp_path)

    def test_leftover_of_a_dead_process__replaced(self, tmp_path: Path) -> None:
        """What a killed process left beside does not stand in the way."""
        (tmp_path / ".key.new").write_bytes(b"half")
        create_whole(tmp_path / "key", b"content")

        assert ["key"] == listed(tmp_path)

    def test_disk_full__nothing(self, tmp_path: Path) -> None:
        """Half a file is no file."""
        assert "File too large" in fail_for_lack_of_space("create_whole", tmp_path / "key")
        assert [] == listed(tmp_path)


class TestReplace:
    """Files that change."""

    def test_any__new_content_and_private(self, tmp_path: Path, umask: int) -> None:
        """Whatever mode the old one had, the new one is private."""
        (tmp_path / "heads").write_bytes(b"older")
        (tmp_path / "heads").chmod(0o644)
        replace_whole(tmp_path / "heads", b"newer")

        assert b"newer" == (tmp_path / "heads").read_bytes()
        assert 0o600 == mode(tmp_path / "heads")
        assert ["heads"] == listed(tmp_path)

    def test_disk_full__the_old_one(self, tmp_path: Path) -> None:
        """Until the new one is whole, the old one stands."""
        (tmp_path / "heads").write_bytes(b"older")

        assert "File too large" in fail_for_lack_of_space("replace_whole", tmp_path / "heads")
        assert b"older" == (tmp_path / "heads").read_bytes()
        assert ["heads"] == listed(tmp_path)


class TestGiveName:
    """Publishing a finished file."""

    @staticmethod
    def without_links(folder: Path, *faults: str) -> subprocess.CompletedProcess[str]:
        """Publish `folder/partial` as `folder/final` in a process whose system calls fail as `faults` say."""
        code = "import sys; from pathlib import Path; from erp_backup.core.files import give_name; "
        code += "give_name(Path(sys.argv[1], 'partial'), Path(sys.argv[1], 'final'))"
        injected = [part for fault in faults for part in ("-e", f"inject={fault}")]
        return subprocess.run(
            ["strace", "-qq", "-o", "/dev/null", *injected, sys.executable, "-c", code, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_finished__under_its_name_only(self, tmp_path: Path) -> None:
        """The file has its name, and no other."""
        (tmp_path / "partial").write_bytes(b"content")
        give_name(tmp_path / "partial", tmp_path / "final")

        assert ["final"] == listed(tmp_path)

    def test_dangling_link_under_the_name__taken(self, tmp_path: Path) -> None:
        """A symbolic link that leads nowhere is not followed, nor replaced."""
        (tmp_path / "partial").write_bytes(b"content")
        (tmp_path / "final").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            give_name(tmp_path / "partial", tmp_path / "final")

        assert {"partial", "final"} == set(listed(tmp_path))

    @pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
    def test_no_hard_links__renamed(self, tmp_path: Path, error: str) -> None:
        """On file systems without hard links, whatever they answer, the file is renamed."""
        (tmp_path / "partial").write_bytes(b"content")
        result = self.without_links(tmp_path, f"link,linkat:error={error}")

        assert 0 == result.returncode, result.stderr
        assert ["final"] == listed(tmp_path)

    def test_no_hard_links_and_taken__untouched(self, tmp_path: Path) -> None:
        """There, too, nothing is overwritten."""
        (tmp_path / "partial").write_bytes(b"content")
        (tmp_path / "final").write_bytes(b"older")
        result = self.without_links(tmp_path, "link,linkat:error=EPERM")

        assert "FileExistsError" in result.stderr
        assert b"older" == (tmp_path / "final").read_bytes()

    def test_name_not_durable__taken_back(self, tmp_path: Path) -> None:
        """A name that the disk did not take for good is no name: the caller is told that it failed."""
        (tmp_path / "partial").write_bytes(b"content")
        result = self.without_links(tmp_path, "fsync,fdatasync:error=EIO")

        assert "Input/output error" in result.stderr
        assert [] == listed(tmp_path)
