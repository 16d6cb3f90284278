"""Locks between real processes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erp_backup.core.errors import LockedError
from erp_backup.core.filelock import hold, is_free, wait_for

HOLDING = """
import sys
from pathlib import Path
from erp_backup.core.filelock import hold
with hold(Path(sys.argv[1]), holder="the other process"):
    print("held", flush=True)
    sys.stdin.read()
print("free", flush=True)
"""
WAITING = """
import sys
from pathlib import Path
from erp_backup.core.filelock import wait_for
print("waiting", flush=True)
with wait_for(Path(sys.argv[1])):
    print("had it", flush=True)
"""


@contextlib.contextmanager
def running(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, once it has said its first word; killed at the end if it still runs."""
    command = [sys.executable, "-c", code, str(path)]
    # Descriptors are inherited, unless they were opened not to be.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The lock file."""
    return tmp_path / "backup.lock"


class TestHold:
    """One holder at a time."""

    def test_held_by_another_process__named(self, path: Path) -> None:
        """The message says who has it and what to do."""
        with running(HOLDING, path):
            assert not is_free(path)
            with (
                pytest.raises(LockedError, match=r"the other process holds backup\.lock") as caught,
                hold(path, holder="we"),
            ):
                pytest.fail("It was held twice.")

        assert "Wait" in caught.value.remedy

    def test_holder_killed__free(self, path: Path) -> None:
        """A lock dies with its process: nobody has to remove a file."""
        with running(HOLDING, path) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()

            assert is_free(path)
            with hold(path, holder="we"):
                assert "we" == path.read_text()

    def test_holder_ended__free_and_nameless(self, path: Path) -> None:
        """Nobody is named once he has let go."""
        with running(HOLDING, path) as process:
            process.communicate()

        assert is_free(path)
        assert "" == path.read_text()

    def test_error_inside__free(self, path: Path) -> None:
        """An error lets go as well."""
        with pytest.raises(ZeroDivisionError), hold(path, holder="we"):
            raise ZeroDivisionError

        assert is_free(path)

    def test_held_in_the_same_process__refused(self, path: Path) -> None:
        """Two threads of one process are two holders."""
        with hold(path, holder="the first"), pytest.raises(LockedError, match="the first"), hold(path, holder="second"):
            pytest.fail("It was held twice.")

    def test_longer_name_before__not_mixed(self, path: Path) -> None:
        """A name written over a longer one is the whole name."""
        path.write_text("somebody with a very long name")
        with hold(path, holder="we"):
            assert "we" == path.read_text()

    def test_program_started_inside__does_not_hold_it(self, path: Path) -> None:
        """A child that outlives us does not keep the lock."""
        with contextlib.ExitStack() as stack:
            with hold(path, holder="we"):
                stack.enter_context(running("print('started', flush=True); input()", path))

            assert is_free(path)

    def test_mode__private(self, path: Path) -> None:
        """The file says who runs what: others need not read it."""
        with hold(path, holder="we"):
            assert 0o600 == stat.S_IMODE(path.stat().st_mode)


class TestIsFree:
    """Asking."""

    def test_no_file__free(self, path: Path) -> None:
        """What nobody ever held is free, and asking does not make it."""
        assert is_free(path)
        assert not path.exists()

    def test_asked_while_free__still_to_be_had(self, path: Path) -> None:
        """Asking leaves nothing held."""
        path.touch()

        assert is_free(path)
        with hold(path, holder="we"):
            assert not is_free(path)


class TestWaitFor:
    """Short steps, one after the other."""

    def test_held__waits_until_it_is_free(self, path: Path) -> None:
        """The other process gets it when we let go, and not before."""
        with contextlib.ExitStack() as stack:
            with wait_for(path):
                process = stack.enter_context(running(WAITING, path))
                assert process.stdout is not None
                os.set_blocking(process.stdout.fileno(), False)
                with pytest.raises(BlockingIOError) as caught:
                    os.read(process.stdout.fileno(), 100)
            os.set_blocking(process.stdout.fileno(), True)

            assert errno.EAGAIN == caught.value.errno
            assert "had it\n" == process.stdout.readline()

    def test_missing_folder__made(self, tmp_path: Path) -> None:
        """The first one makes the folder of locks."""
        with wait_for(tmp_path / "locks" / "heads.lock"):
            assert 0o700 == stat.S_IMODE((tmp_path / "locks").stat().st_mode)
