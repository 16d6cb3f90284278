"""Programs: their output, their failures, their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erp_backup.core.clock import SystemClock
from erp_backup.core.codecs import closing_source
from erp_backup.core.errors import ProgramError, ProgramMissingError, TimeLimitError
from erp_backup.core.process import Command, ProcessRunner, base_environment, find_program, says_no_space
from erp_backup.core.tail import Tail


class SteppingClock:
    """A clock that goes on by a step whenever somebody looks at it; sleeping costs no time."""

    def __init__(self, step: float = 0.0) -> None:
        self.seconds = 0.0
        self.step = step

    def now(self) -> datetime:
        """Return that many seconds after 1970."""
        return datetime.fromtimestamp(self.seconds, tz=UTC)

    def monotonic(self) -> float:
        """Go on by a step."""
        self.seconds += self.step
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Go on at once."""
        self.seconds += seconds


class Boom(Exception):  # noqa: N818 - it only has to be nobody else's
    """An error that only these tests raise."""


def python(script: str, *arguments: str) -> Command:
    """A command that runs a Python script."""
    argv = (sys.executable, "-c", textwrap.dedent(script), *arguments)
    return Command(argv=argv, env=base_environment())


def shell(script: str, **env: str) -> Command:
    """A command that runs a shell script: only tests may."""
    return Command(argv=("sh", "-c", script), env=base_environment() | env)


def eventually(claim: Callable[[], bool]) -> bool:
    """Whether the claim becomes true within a time no healthy machine needs."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.01)
    return False


def stat_fields(pid: int | str) -> list[str]:
    """State, parent and so on of a process, nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_gone(pid: int) -> bool:
    """Whether no such process runs; a zombie that its new parent has not reaped yet does not run."""
    return stat_fields(pid)[:1] in ([], ["Z"])


def children() -> set[str]:
    """The processes whose parent is this one, zombies included."""
    pids = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid for pid in pids if stat_fields(pid)[1:2] == [str(os.getpid())]}


def open_files() -> set[str]:
    """The descriptors this process holds."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


@pytest.fixture
def runner() -> ProcessRunner:
    """A runner on the machine's clock that does not wait long before it kills."""
    return ProcessRunner(SystemClock(), grace=0.2)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test may leave a child, a thread or a descriptor behind."""
    processes, files, threads = children(), open_files(), set(threading.enumerate())

    yield

    assert set() == children() - processes
    assert set() == set(threading.enumerate()) - threads
    assert set() == open_files() - files


class TestStream:
    """Output, and how its end is judged."""

    def test_program_succeeds__output_is_whole(self, runner: ProcessRunner) -> None:
        """All of the output arrives, in chunks no larger than asked for."""
        chunks = list(runner.stream(shell("head -c 5000000 /dev/zero"), chunk_size=100_000))

        assert b"\0" * 5_000_000 == b"".join(chunks)
        assert 100_000 >= max(map(len, chunks))

    def test_program_fails_after_output__error_at_the_end(self, runner: ProcessRunner) -> None:
        """Whoever reads to the end learns that the program failed."""
        stream = runner.stream(shell("echo half; echo disk on fire >&2; exit 3"))
        first = next(stream)
        with pytest.raises(ProgramError) as caught:
            next(stream)

        assert b"half\n" == first
        assert ("sh", 3, "disk on fire\n") == (caught.value.program, caught.value.status, caught.value.stderr)
        assert "sh ended with status 3. It said: disk on fire" == str(caught.value)

    def test_program_is_killed__status_is_the_signal(self, runner: ProcessRunner) -> None:
        """A program that a signal ended has a negative status."""
        with pytest.raises(ProgramError, match="was killed by SIGSEGV") as caught:
            list(runner.stream(shell("kill -SEGV $$")))

        assert -signal.SIGSEGV == caught.value.status

    def test_program_is_missing__package_is_named(self, runner: ProcessRunner) -> None:
        """The error says what to install."""
        command = Command(argv=("pg_dunp",), env=base_environment(), package="postgresql-client-15")
        with pytest.raises(ProgramMissingError) as caught:
            list(runner.stream(command))

        assert "The program pg_dunp is not installed. Install the package postgresql-client-15." == str(caught.value)

    def test_folder_is_missing__program_is_not_blamed(self, runner: ProcessRunner, tmp_path: Path) -> None:
        """The system's error is the same as for a missing program; ours is not."""
        command = Command(argv=("true",), env=base_environment(), cwd=tmp_path / "nowhere")
        with pytest.raises(ProgramError, match="true could not be started: No such file or directory"):
            list(runner.stream(command))

    def test_file_is_not_executable__program_error(self, runner: ProcessRunner, tmp_path: Path) -> None:
        """A file that may not be run is named with the reason."""
        (tmp_path / "tool").write_text("not a program")
        command = Command(argv=(str(tmp_path / "tool"),), env=base_environment())
        with pytest.raises(ProgramError, match="tool could not be started: Permission denied"):
            list(runner.stream(command))

    def test_stderr_floods__no_deadlock_and_its_end_is_kept(self, runner: ProcessRunner) -> None:
        """Ten megabytes of messages neither block the program nor fill the memory."""
        script = """
            import sys
            for number in range(100_000):
                sys.stderr.write(f"{number:07} {'x' * 92}\\n")
                if number % 100 == 0:
                    sys.stdout.write("o" * 10_000)
            sys.exit(4)
        """
        sizes: list[int] = []
        with pytest.raises(ProgramError) as caught:
            sizes.extend(map(len, runner.stream(python(script))))

        assert 10_000_000 == sum(sizes)
        assert 65_536 == len(caught.value.stderr)
        assert caught.value.stderr.splitlines()[-1].startswith("0099999 ")

    def test_stderr_floods_while_nobody_reads__program_goes_on(self, runner: ProcessRunner, tmp_path: Path) -> None:
        """Messages are drained even while the reader is busy elsewhere."""
        done = tmp_path / "done"
        script = f"echo first; head -c 3000000 /dev/zero | tr '\\0' x >&2; touch {done}"
        with closing_source(runner.stream(shell(script))) as stream:
            next(stream)

            assert eventually(done.exists)

    def test_status_is_lost__not_taken_for_success(self, runner: ProcessRunner) -> None:
        """With SIGCHLD ignored nobody can know how a program ended, which is not a success."""
        previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with pytest.raises(ProgramError, match="its exit status was lost"):
                list(runner.stream(shell("exit 7")))
        finally:
            signal.signal(signal.SIGCHLD, previous)

    def test_heir_holds_the_output__error(
        self, runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A program that leaves somebody behind who may still write has not delivered."""
        monkeypatch.setattr("erp_backup.core.child._LONGEST_HELD", 0.3)
        pid_file = tmp_path / "pid"
        with pytest.raises(ProgramError, match="something it started still holds its input or output"):
            list(runner.stream(shell(f"sleep 1000 & echo $! > {pid_file}; exit 0")))

        assert eventually(lambda: is_gone(int(pid_file.read_text())))

    def test_silent_heir_of_another_session_holds_stderr__no_wait(self, runner: ProcessRunner) -> None:
        """Somebody outside the group who keeps stderr open does not keep us."""
        script = "setsid --fork sh -c 'echo $$; exec sleep 1000 > /dev/null' < /dev/null"
        pid = int(b"".join(runner.stream(shell(script))))
        is_alive = not is_gone(pid)
        os.kill(pid, signal.SIGKILL)

        assert is_alive
        assert eventually(lambda: is_gone(pid))

    def test_loud_heir_of_another_session_holds_stderr__no_wait(self, runner: ProcessRunner) -> None:
        """One who never stops writing neither: it ends by itself only once we have let go of its stderr."""
        script = "setsid --fork sh -c 'echo $$; exec yes >&2' < /dev/null"
        pid = int(b"".join(runner.stream(shell(script))))

        assert eventually(lambda: is_gone(pid))


class TestGivingUp:
    """Nothing outlives the reader."""

    def test_reader_closes__whole_group_is_gone(self, runner: ProcessRunner) -> None:
        """The program and what it has started are killed."""
        with closing_source(runner.stream(shell("sleep 1000 & echo $$ $!; wait"))) as stream:
            pids = [int(word) for word in next(stream).split()]

        assert 2 == len(pids)
        assert all(eventually(lambda pid=pid: is_gone(pid)) for pid in pids)  # type: ignore[misc]  # bound at once

    def test_reader_fails__program_is_gone(self, runner: ProcessRunner) -> None:
        """An error in the loop's body ends the program before it leaves the block."""
        pids = []

        def read_and_fail() -> None:
            with closing_source(runner.stream(shell("echo $$; sleep 1000"))) as stream:
                pids.append(int(next(stream)))
                raise Boom

        with pytest.raises(Boom):
            read_and_fail()

        assert [True] == [is_gone(pid) for pid in pids]

    def test_program_ignores_term__killed_after_the_grace(self, runner: ProcessRunner) -> None:
        """A program that does not listen, and its child that does not either, are killed."""
        script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait"
        with closing_source(runner.stream(shell(script))) as stream:
            pid = int(next(stream))

        assert eventually(lambda: is_gone(pid))

    def test_program_listens_to_term__it_may_clean_up(self, tmp_path: Path) -> None:
        """The program is asked before it is killed."""
        clean = tmp_path / "clean"
        command = shell(f"trap 'touch {clean}; exit' TERM; echo ready; while :; do sleep 0.01; done")
        with closing_source(ProcessRunner(SystemClock(), grace=30).stream(command)) as stream:
            next(stream)

        assert clean.exists()

    @pytest.mark.parametrize(
        ("number", "status"),
        [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    )
    def test_we_are_killed__program_is_gone(self, number: int, status: int) -> None:
        """Whatever signal ends us ends the program: KILL by the kernel, the others by our own clean-up."""
        script = """
            import sys
            from erp_backup.core.clock import SystemClock
            from erp_backup.core.errors import BackupError
            from erp_backup.core.interrupts import signals_as_exceptions
            from erp_backup.core.process import Command, ProcessRunner, base_environment

            command = Command(argv=("sh", "-c", "echo $$; exec sleep 1000"), env=base_environment())
            try:
                with signals_as_exceptions():
                    for chunk in ProcessRunner(SystemClock()).stream(command):
                        print(chunk.decode(), end="", flush=True)
            except BackupError as error:
                sys.exit(error.exit_code)
        """
        argv = (sys.executable, "-c", textwrap.dedent(script))
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as ours:
            assert ours.stdout is not None
            pid = int(ours.stdout.readline())
            ours.send_signal(number)
            ours.wait()

        assert status == ours.returncode
        assert eventually(lambda: is_gone(pid))


class TestLimits:
    """Silence and duration."""

    def test_program_is_silent__stopped(self) -> None:
        """A program without a sign of life is stopped, and what it said last is told."""
        runner = ProcessRunner(SteppingClock(step=4.0))
        with pytest.raises(TimeLimitError) as caught:
            list(runner.stream(shell("echo waiting for lock >&2; exec sleep 1000"), idle_limit=20))

        assert "sh was silent for more than 20 s and was stopped." in str(caught.value)
        assert "waiting for lock\n" == caught.value.stderr

    def test_program_runs_too_long__stopped(self) -> None:
        """A program that is busy all the time is stopped at its limit all the same."""
        runner = ProcessRunner(SteppingClock(step=1.0))
        with pytest.raises(TimeLimitError, match="yes ran for more than 50 s and was stopped"):
            list(runner.stream(Command(argv=("yes",), env=base_environment()), total_limit=50))

    def test_program_closes_output_and_stays__stopped(self) -> None:
        """The limits hold after the last byte, too."""
        runner = ProcessRunner(SteppingClock(step=1.0))
        with pytest.raises(TimeLimitError, match="silent"):
            list(runner.stream(shell("exec >&- ; exec sleep 1000"), idle_limit=20))

    def test_reader_is_slow__not_the_programs_silence(self) -> None:
        """The time a reader takes for a chunk is not held against the program."""
        clock = SteppingClock()
        chunks = []
        for chunk in ProcessRunner(clock).stream(shell("echo a; sleep 0.5; echo b"), idle_limit=10):
            chunks.append(chunk)
            clock.seconds += 1000

        assert b"a\nb\n" == b"".join(chunks)

    def test_source_is_slow__not_the_programs_silence(self) -> None:
        """The time it takes to get the input is not held against the program."""
        clock = SteppingClock()

        def source() -> Iterator[bytes]:
            for _ in range(3):
                clock.seconds += 1000
                yield b"x"

        command = Command(argv=("cat",), env=base_environment())

        assert b"xxx" == b"".join(ProcessRunner(clock).stream(command, stdin=source(), idle_limit=10))

    @pytest.mark.parametrize("script", ["exec sleep 1000", "exec yes", "exec >&-; exec sleep 1000"])
    def test_somebody_sets_stop__ended_while_its_reader_waits(self, runner: ProcessRunner, script: str) -> None:
        """Another thread's word ends a program that is silent, busy, or done with its output; its reader is told."""
        stop = threading.Event()
        stream = runner.stream(shell(f"echo $$; {script}"), stop=stop)
        pid = int(next(stream).split()[0])
        hand = threading.Timer(0.3, stop.set)
        hand.start()
        with pytest.raises(ProgramError, match="sh was stopped"):
            list(stream)
        hand.join()

        assert is_gone(pid)

    def test_messages_only__a_sign_of_life(self) -> None:
        """A program that only writes messages is not silent."""
        clock = SteppingClock(step=5.0)
        script = "i=0; while [ $i -lt 30 ]; do echo $i >&2; sleep 0.05; i=$((i+1)); done"

        assert [] == list(ProcessRunner(clock).stream(shell(script), idle_limit=20))


class TestInput:
    """What a program reads."""

    def test_large_input_and_output__no_deadlock(self, runner: ProcessRunner) -> None:
        """A program that answers while it is fed gets all, and all of its answer arrives."""
        given = [bytes([number]) * 700_000 for number in range(20)]

        assert b"".join(given) == b"".join(runner.stream(shell("cat"), stdin=iter(given)))

    def test_no_input__end_of_file(self, runner: ProcessRunner) -> None:
        """A program that is given nothing finds nothing: never our terminal."""
        assert b"" == runner.run(shell("cat")).stdout

    def test_empty_chunks__input_goes_on(self, runner: ProcessRunner) -> None:
        """An empty chunk is not the end."""
        assert b"ab" == runner.run(shell("cat"), stdin=[b"", b"a", b"", b"b", b""]).stdout

    def test_source_fails__program_is_killed_and_error_passes(self, runner: ProcessRunner) -> None:
        """Half of an input must not look like all of it to the program."""
        finished = []

        def source() -> Iterator[bytes]:
            yield b"half"
            raise Boom

        with pytest.raises(Boom):
            finished.append(runner.run(shell("cat"), stdin=source()))

        assert [] == finished

    def test_program_stops_reading_and_succeeds__no_error(self, runner: ProcessRunner) -> None:
        """A program may know enough before the end; the source is closed."""
        closed = []

        def source() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                closed.append(True)

        assert b"xxx" == runner.run(shell("head -c 3"), stdin=source()).stdout
        assert [True] == closed

    def test_program_stops_reading_and_fails__its_status_decides(self, runner: ProcessRunner) -> None:
        """A broken pipe never hides why the program ended."""
        with pytest.raises(ProgramError, match="It said: bad header") as caught:
            runner.run(shell("echo bad header >&2; exit 5"), stdin=(b"x" * 100_000 for _ in range(100)))

        assert 5 == caught.value.status

    def test_one_program_feeds_another__failure_of_the_first_passes(self, runner: ProcessRunner) -> None:
        """The death of a dump is not hidden by the pipe behind it."""
        dump = runner.stream(shell("echo data; exit 9"))
        with pytest.raises(ProgramError) as caught:
            runner.run(shell("cat"), stdin=dump)

        assert 9 == caught.value.status

    def test_program_is_missing__source_is_closed(self, runner: ProcessRunner) -> None:
        """The program that would have fed it ends as well."""
        dump = runner.stream(shell("echo $$; sleep 1000"))
        pid = int(next(dump))
        with pytest.raises(ProgramMissingError):
            runner.run(Command(argv=("nowhere-to-be-found",), env=base_environment()), stdin=dump)

        assert is_gone(pid)


class TestSurroundings:
    """What a program gets from us, and what it does not."""

    def test_environment__only_what_was_given(self, runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of our environment passes by itself."""
        monkeypatch.setenv("DJANGO_SECRET_KEY", "hush")
        command = Command(argv=("/usr/bin/env",), env={"PGHOST": "db", "PATH": "/usr/bin"})

        assert {b"PGHOST=db", b"PATH=/usr/bin"} == set(runner.run(command).stdout.split())

    def test_files_it_makes__private(self, runner: ProcessRunner, tmp_path: Path) -> None:
        """Files of a program are 0600 whatever our umask is."""
        runner.run(shell(f"touch {tmp_path}/made; mkdir {tmp_path}/folder"))

        assert 0o600 == (tmp_path / "made").stat().st_mode & 0o777
        assert 0o700 == (tmp_path / "folder").stat().st_mode & 0o777

    def test_our_descriptors__not_inherited(self, runner: ProcessRunner, tmp_path: Path) -> None:
        """Even a descriptor marked as inheritable stays ours."""
        with (tmp_path / "private").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            listing = runner.run(shell("ls -l /proc/self/fd")).stdout

        assert b"private" not in listing

    def test_session__its_own(self, runner: ProcessRunner) -> None:
        """A program has a session of its own, so that no terminal's key ends it before we know."""
        session = int(runner.run(python("import os; print(os.getsid(0) == os.getpid(), end='')")).stdout == b"True")

        assert 1 == session

    def test_secret_is_repeated__hidden(self, runner: ProcessRunner) -> None:
        """A program that repeats its password does not get it into our error."""
        command = shell('echo "wrong: $PGPASSWORD in $PGPASSFILE" >&2; exit 1', PGPASSWORD="s3cr3t", PGPASSFILE="/p")
        with pytest.raises(ProgramError) as caught:
            runner.run(command)

        assert "wrong: *** in /p\n" == caught.value.stderr
        assert "s3cr3t" not in f"{caught.value} {command!r}"

    def test_unchecked_run__status_is_returned(self, runner: ProcessRunner) -> None:
        """Who asks not to be told by an error gets the status."""
        completed = runner.run(shell("echo out; echo err >&2; exit 2"), check=False)

        assert (b"out\n", "err\n", 2) == (completed.stdout, completed.stderr, completed.status)


class TestTail:
    """The end of what a program says."""

    def test_flood_never_ends__finished_all_the_same(self) -> None:
        """Somebody who writes for ever does not keep us."""
        with Path("/dev/zero").open("rb") as endless:
            tail = Tail(endless.fileno(), limit=10)
            tail.finish()

            assert "\0" * 10 == tail.text()

    def test_rest_is_in_the_pipe__kept(self) -> None:
        """What was said before the end is not lost, and what is no text does not fail."""
        read, write = os.pipe()
        with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb") as program:
            tail = Tail(pipe.fileno())
            program.write(b"last words \xff")
            program.flush()
            tail.finish()

        assert "last words \ufffd" == tail.text()


class TestBaseEnvironment:
    """The variables every program may see."""

    def test_secrets_and_libpq__stay_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the allowed names pass."""
        for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        environment = base_environment()

        assert "Asia/Tokyo" == environment["TZ"]
        assert set() == {name for name in environment if name.startswith(("PG", "AWS", "LD_", "PY"))}

    def test_language_of_the_machine__characters_kept_but_messages_in_english(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Messages stay searchable and recognizable, names stay readable."""
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        environment = base_environment()

        assert ("de_DE.UTF-8", "C") == (environment["LANG"], environment["LC_MESSAGES"])
        assert "LC_ALL" not in environment

    def test_single_locale_variables__kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without LC_ALL the single variables pass as they are."""
        monkeypatch.delenv("LC_ALL", raising=False)
        monkeypatch.setenv("LC_CTYPE", "C.UTF-8")

        assert "C.UTF-8" == base_environment()["LC_CTYPE"]


class TestFindProgram:
    """Programs in given folders."""

    def test_first_executable__found(self, tmp_path: Path) -> None:
        """The folders' order decides, and a file that is not executable does not count."""
        for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "pg_dump").touch(mode=mode)
        folders = [tmp_path / folder for folder in ("a", "b", "c", "missing")]

        assert tmp_path / "b" / "pg_dump" == find_program("pg_dump", folders)

    def test_none__none(self, tmp_path: Path) -> None:
        """Nothing found is said, not guessed."""
        (tmp_path / "pg_dump").mkdir()

        assert find_program("pg_dump", [tmp_path]) is None


class TestSaysNoSpace:
    """Full disks in programs' words."""

    @pytest.mark.parametrize(
        "message",
        [
            "pg_dump: error: could not write to file: No space left on device",
            'ERROR:  could not extend file "base/16384/2619": No space left on device',
            "Error: database or disk is full",
            "write failed: Disk quota exceeded",
        ],
    )
    def test_full_disk__recognized(self, message: str) -> None:
        """These are what full disks are called."""
        assert says_no_space(message)

    def test_another_failure__not_taken_for_one(self) -> None:
        """A refused password is not a full disk."""
        assert not says_no_space('FATAL:  password authentication failed for user "erp"')

    def test_real_full_device__recognized(self, runner: ProcessRunner) -> None:
        """What a real program says about a real full device is recognized."""
        completed = runner.run(shell("cat > /dev/full"), stdin=[b"x" * 100_000], check=False)

        assert 0 != completed.status
        assert says_no_space(completed.stderr)
