"""Private folders of jobs: a dead job's is found, a living or kept one is left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erp_backup.core.errors import CorruptError, RefusedError, UsageError
from erp_backup.core.workspace import LEFTOVERS, Folder, Leftovers, Workspace, require_private

WORKING = """
import sys
from pathlib import Path
from erp_backup.core.workspace import Leftovers, Workspace
with Workspace(Path(sys.argv[1])).folder("backup") as folder:
    folder.note_leftovers(Leftovers(backup="b", archive="b.dump", locations=["local"]))
    if "keep" in sys.argv:
        folder.keep()
    print(folder.path, flush=True)
    sys.stdin.read()
"""
LEFT = Leftovers(backup="b", archive="b.dump", locations=["local"])


@contextlib.contextmanager
def job(state: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A job in another process, and its folder."""
    command = [sys.executable, "-c", WORKING, str(state), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def listed(folder: Path) -> list[str]:
    """The names in a folder."""
    return [path.name for path in folder.iterdir()]


def dead_pid() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace in an empty state folder."""
    return Workspace(tmp_path)


class TestFolder:
    """A job that ends."""

    def test_inside__private_and_empty(self, workspace: Workspace) -> None:
        """The folder holds nothing but its lock, and is its owner's only."""
        before = os.umask(0o022)
        try:
            with workspace.folder("backup") as folder:
                assert 0o700 == stat.S_IMODE(folder.path.stat().st_mode)
                assert ["owner.lock"] == listed(folder.path)
        finally:
            os.umask(before)

    def test_ended__gone_with_all_it_held(self, workspace: Workspace, tmp_path: Path) -> None:
        """A job leaves nothing."""
        with workspace.folder("backup") as folder:
            (folder.path / "sub").mkdir()
            (folder.path / "sub" / "dump").touch()

        assert [] == listed(tmp_path / "jobs")

    def test_error__gone_too(self, workspace: Workspace, tmp_path: Path) -> None:
        """Not even when it fails."""
        with pytest.raises(ZeroDivisionError), workspace.folder("backup"):
            raise ZeroDivisionError

        assert [] == listed(tmp_path / "jobs")

    def test_kept__stays_and_is_no_orphan(self, workspace: Workspace) -> None:
        """What somebody wants to look into stays."""
        with workspace.folder("verify") as folder:
            folder.keep()

        assert folder.path.is_dir()
        assert folder.is_kept
        assert [] == workspace.orphans()

    def test_state_folder_that_cannot_be_written__usage_error(self, tmp_path: Path) -> None:
        """The setting to look at is named."""
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="STATE_DIR"), Workspace(tmp_path / "file").folder("backup"):
            pytest.fail("There is no folder.")


class TestOrphans:
    """Jobs that died."""

    def test_killed_process__orphan_with_its_leftovers(self, workspace: Workspace, tmp_path: Path) -> None:
        """The folder of a killed process is found, and says what it was writing."""
        with job(tmp_path) as (process, path):
            process.send_signal(signal.SIGKILL)
            process.wait()

        [orphan] = workspace.orphans()
        assert path == orphan.path
        assert LEFT == orphan.leftovers()

    def test_living_process__left_alone(self, workspace: Workspace, tmp_path: Path) -> None:
        """While its process lives, a folder is nobody's business."""
        with job(tmp_path) as (_process, path):
            assert [] == workspace.orphans()
            assert path.is_dir()

    def test_stopped_process__left_alone(self, workspace: Workspace, tmp_path: Path) -> None:
        """A process that was only stopped is not dead."""
        with job(tmp_path) as (process, _path):
            process.send_signal(signal.SIGSTOP)

            assert [] == workspace.orphans()

    def test_kept_folder_of_a_killed_process__left_alone(self, workspace: Workspace, tmp_path: Path) -> None:
        """What was to be kept is kept, however its process ended."""
        with job(tmp_path, "keep") as (process, path):
            process.kill()
            process.wait()

        assert [] == workspace.orphans()
        assert path.is_dir()

    @pytest.mark.parametrize(
        "name", ["notes", "my-own-notes", "lost+found", "backup-12-zz", "Backup-1-00000000", "a-b"]
    )
    def test_folder_of_somebody_else__left_alone(self, workspace: Workspace, tmp_path: Path, name: str) -> None:
        """What is not called like a job's folder is not ours, and does not stop any run."""
        (tmp_path / "jobs" / name).mkdir(parents=True)

        assert [] == workspace.orphans()

    def test_file_among_the_jobs__left_alone(self, workspace: Workspace, tmp_path: Path) -> None:
        """Nor is a file."""
        (tmp_path / "jobs").mkdir()
        (tmp_path / "jobs" / f"backup-{dead_pid()}-0123abcd").touch()

        assert [] == workspace.orphans()

    def test_killed_before_it_had_its_name__orphan(self, workspace: Workspace, tmp_path: Path) -> None:
        """A process killed at its very first step leaves a hidden folder, which goes as well."""
        path = tmp_path / "jobs" / f".backup-{dead_pid()}-0123abcd"
        path.mkdir(parents=True)

        assert [Folder(path)] == workspace.orphans()

    def test_living_before_it_has_its_name__left_alone(self, workspace: Workspace, tmp_path: Path) -> None:
        """A living process between its first two steps is left alone, and its lock is not touched."""
        path = tmp_path / "jobs" / f".backup-{os.getpid()}-0123abcd"
        path.mkdir(parents=True)
        (path / "owner.lock").touch()

        assert [] == workspace.orphans()

    def test_no_job_ever__none(self, workspace: Workspace) -> None:
        """A new installation has none."""
        assert [] == workspace.orphans()

    def test_removed__gone(self, workspace: Workspace, tmp_path: Path) -> None:
        """An orphan that is removed is not found again."""
        with job(tmp_path) as (process, _path):
            process.kill()
            process.wait()
        for orphan in workspace.orphans():
            orphan.remove()

        assert [] == workspace.orphans()
        assert [] == listed(tmp_path / "jobs")


class TestLeftovers:
    """What a job says it is about to write."""

    def test_noted__read(self, tmp_path: Path) -> None:
        """What is noted is read, and private."""
        folder = Folder(tmp_path)
        folder.note_leftovers(LEFT)

        assert LEFT == folder.leftovers()
        assert 0o600 == stat.S_IMODE((tmp_path / LEFTOVERS).stat().st_mode)
        assert [LEFTOVERS] == listed(tmp_path)

    def test_nothing_noted__none(self, tmp_path: Path) -> None:
        """A job that had not come so far has none."""
        assert Folder(tmp_path).leftovers() is None

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"{}", b'{"backup":1,"archive":"a","locations":[]}', b"\xff"]
    )
    def test_damaged__said_with_what_to_do(self, tmp_path: Path, content: bytes) -> None:
        """A note that cannot be read is an error of ours, which a clean-up can warn of."""
        (tmp_path / LEFTOVERS).write_bytes(content)
        with pytest.raises(CorruptError, match=LEFTOVERS) as caught:
            Folder(tmp_path).leftovers()

        assert str(tmp_path) in caught.value.remedy

    def test_note_of_a_later_version__read(self, tmp_path: Path) -> None:
        """Another version's note, with more in it, is read as far as it is known."""
        note = b'{"archive":"b.dump","backup":"b","locations":["local"],"invented":1}'
        (tmp_path / LEFTOVERS).write_bytes(note)

        assert LEFT == Folder(tmp_path).leftovers()


class TestRequirePrivate:
    """The state folder."""

    def test_missing__made_private(self, tmp_path: Path) -> None:
        """It is made as it must be, parents included."""
        require_private(tmp_path / "a" / "state")

        assert 0o700 == stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode)

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o720])
    def test_open_to_others__refused_with_the_command(self, tmp_path: Path, mode: int) -> None:
        """Others might read the signing key: the remedy is the command."""
        (tmp_path / "state").mkdir()
        (tmp_path / "state").chmod(mode)
        with pytest.raises(RefusedError, match=f"chmod 700 {tmp_path}/state"):
            require_private(tmp_path / "state")

    def test_file_in_its_place__usage_error(self, tmp_path: Path) -> None:
        """A path that is no folder is said to be none."""
        (tmp_path / "state").touch()
        with pytest.raises(UsageError, match="cannot be used"):
            require_private(tmp_path / "state")

    def test_removed_while_running__made_again(self, tmp_path: Path) -> None:
        """Nothing is remembered between calls."""
        for _ in range(2):
            require_private(tmp_path / "state")
            shutil.rmtree(tmp_path / "state")

        assert not (tmp_path / "state").exists()
