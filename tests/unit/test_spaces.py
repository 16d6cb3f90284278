"""Full disks, really full: a small file system where we may mount one, else a limit on the size of files."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from erp_backup.core.errors import NoSpaceError
from erp_backup.core.spaces import no_space_as_error, require_space

SIZE = 64 * 1024


@pytest.fixture
def full_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which not more than 64 KiB can be written."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", tmp_path], check=True)
        yield tmp_path
        subprocess.run(["umount", tmp_path], check=True)
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, before[1]))
        yield tmp_path
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class TestNoSpaceAsError:
    """What the operating system says."""

    def test_really_full__no_space(self, full_folder: Path) -> None:
        """A write that finds no room is told apart, with the place and what to do."""
        with (
            pytest.raises(NoSpaceError, match=f"No space left at {full_folder}") as caught,
            no_space_as_error(full_folder),
        ):
            (full_folder / "file").write_bytes(bytes(2 * SIZE))

        assert 31 == caught.value.exit_code
        assert "Free space" in caught.value.remedy
        assert isinstance(caught.value.__cause__, OSError)

    def test_room_enough__nothing(self, full_folder: Path) -> None:
        """With room, nothing happens."""
        with no_space_as_error(full_folder):
            (full_folder / "file").write_bytes(bytes(SIZE // 2))

        assert SIZE // 2 == (full_folder / "file").stat().st_size

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_full_in_other_words__no_space(self, number: int) -> None:
        """A quota and a limit are as full as a disk."""
        with pytest.raises(NoSpaceError), no_space_as_error("here"):
            raise OSError(number, os.strerror(number))

    @pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), PermissionError(errno.EACCES, "no"), ValueError()])
    def test_anything_else__passes(self, error: Exception) -> None:
        """Other errors are others' business, and pass as they are."""
        with pytest.raises(type(error)) as caught, no_space_as_error("here"):
            raise error

        assert error is caught.value


class TestRequireSpace:
    """Asking before."""

    def test_room_enough__nothing(self, tmp_path: Path) -> None:
        """A little fits anywhere."""
        require_space(tmp_path, 1)

    def test_too_much__both_sizes(self, tmp_path: Path) -> None:
        """What is needed and what is free are both told."""
        with pytest.raises(NoSpaceError, match=r"100\.0 PB are needed at .*, .* are free") as caught:
            require_space(tmp_path, 10**17)

        assert caught.value.remedy
