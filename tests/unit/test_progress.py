"""Progress: what each form shows, and that none of them can fail the job."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import InterruptedBySignal
from erp_backup.core.progress import (
    CallbackReporter,
    ConsoleReporter,
    JournalReporter,
    JsonReporter,
    LineReporter,
    NullReporter,
    Progress,
    Reporter,
    TeeReporter,
    Update,
    choose_reporter,
)
from erp_backup.core.progress.console import progress_line
from erp_backup.core.progress.text import fitted, printable, width_of

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


class SettableClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return the start plus what has passed."""
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return what has passed."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let it pass at once."""
        self.seconds += seconds


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and can show what a terminal would."""

    def isatty(self) -> bool:
        """Say so."""
        return True

    def screen(self) -> list[str]:
        """The lines somebody would see: a carriage return goes back, what follows writes over."""
        return [self._seen(line) for line in self.getvalue().split("\n")]

    def widest(self) -> int:
        """The columns of the widest state of any line."""
        states = self.getvalue().replace("\n", "\r").split("\r")
        return max(map(width_of, states))

    @staticmethod
    def _seen(line: str) -> str:
        seen = ""
        for state in line.split("\r"):
            seen = state + seen[len(state) :]
        return seen.rstrip()


class SlowNumber(int):
    """A number that lets other threads run in the middle of an addition."""

    def __radd__(self, other: int) -> int:
        time.sleep(0.0005)
        return other + int(self)


class BrokenReporter(NullReporter):
    """A reporter whose notes and advances fail, and that counts them."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def note(self, text: str) -> None:
        """Fail."""
        self.calls += 1
        raise self.error

    def advance(self, amount: int, unit: str = "bytes") -> None:
        """Fail."""
        self.calls += 1
        raise self.error


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands."""
    return SettableClock()


@pytest.fixture
def plain() -> io.StringIO:
    """A stream that is no terminal."""
    return io.StringIO()


@pytest.fixture
def terminal() -> Terminal:
    """A stream that is one."""
    return Terminal()


def tell_a_job(reporter: Reporter, clock: SettableClock) -> None:
    """A job of two phases, told from beginning to end."""
    reporter.phase("Dump", total=4_000_000)
    for _ in range(4):
        clock.sleep(5)
        reporter.advance(1_000_000)
    reporter.note("12 tables")
    reporter.phase("Compare")
    reporter.advance(3, "tables")
    reporter.advance(1500, "rows")
    reporter.warning("a table has no key")
    clock.sleep(2)
    reporter.finish("Backup complete")


def events(text: str) -> list[dict[str, Any]]:
    """The JSON objects, one from each line."""
    return [json.loads(line) for line in text.splitlines()]


class TestConsoleReporter:
    """The line on a terminal."""

    def test_job__one_line_for_each_phase(self, terminal: Terminal, clock: SettableClock) -> None:
        """Each phase leaves one line, notes and the outcome stand between them."""
        tell_a_job(ConsoleReporter(terminal, clock, width=100), clock)

        assert [
            "12 tables",
            "Dump  [############################]  4.0 MB of 4.0 MB  200.0 kB/s  20 s",
            "Warning: a table has no key",
            "Compare  3 tables  1 tables/s  2.0 s",
            "Backup complete",
            "",
        ] == terminal.screen()

    def test_phase_without_total__no_bar_and_no_percentage(self, terminal: Terminal, clock: SettableClock) -> None:
        """How much is left is never made up."""
        reporter = ConsoleReporter(terminal, clock, width=80)
        reporter.phase("Dump")
        clock.sleep(10)
        reporter.advance(45_000_000)

        assert ["Dump  45.0 MB  4.5 MB/s  10 s"] == terminal.screen()
        assert "%" not in terminal.getvalue()

    def test_more_than_the_total__bar_is_full(self, terminal: Terminal, clock: SettableClock) -> None:
        """An estimate that was too low does not break the line."""
        line = progress_line(Progress(phase="Dump", total=10, done={"bytes": 25}, seconds=5), 80)

        assert "[############################]" in line
        assert "25 bytes of 10 bytes" in line

    def test_many_advances_in_a_moment__drawn_once(self, terminal: Terminal, clock: SettableClock) -> None:
        """A terminal is not flooded; the end of the phase shows the whole amount."""
        reporter = ConsoleReporter(terminal, clock, width=80)
        reporter.phase("Dump")
        for _ in range(10_000):
            reporter.advance(1000)
        drawn = terminal.getvalue().count("\r")
        reporter.finish("Done")

        assert 2 == drawn
        assert "Dump  10.0 MB  0.0 s" == terminal.screen()[0]

    @pytest.mark.parametrize("width", [1, 2, 5, 20, 40, 79, 80, 200])
    def test_any_width__never_wider_than_the_terminal(
        self, terminal: Terminal, clock: SettableClock, width: int
    ) -> None:
        """The line that updates itself never wraps, whatever the names are."""
        reporter = ConsoleReporter(terminal, clock, width=width)
        for name in ("Restoring to the scratch database erp_backup_scratch", "備份資料庫並驗證", "e\u0301" * 30):
            reporter.phase(name, total=10**12)
            clock.sleep(100)
            reporter.advance(123_456_789_012)

        assert width > terminal.widest()

    @given(st.text(max_size=60), st.none() | st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 150))
    def test_any_progress__fits(self, name: str, total: int | None, amount: int, width: int) -> None:
        """Whatever the figures and the name are, the line fits and is one line."""
        line = progress_line(Progress(phase=name, total=total, done={"bytes": amount}, seconds=77.7), width)

        assert width >= width_of(line)
        assert line.isprintable()

    def test_terminal_becomes_narrower__line_follows(
        self, terminal: Terminal, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The width is asked for each time."""
        widths = iter([120] * 2 + [30] * 20)
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((next(widths), 24)))
        monkeypatch.setattr(terminal, "fileno", lambda: 1)
        reporter = ConsoleReporter(terminal, clock)
        reporter.phase("Dump", total=10**9)
        clock.sleep(1)
        reporter.advance(10**6)
        states = terminal.getvalue().split("\r")
        clock.sleep(1)
        reporter.advance(10**6)
        later = terminal.getvalue().split("\r")[len(states) :]

        assert 30 > max(map(width_of, later))

    def test_text_with_control_characters__harmless(self, terminal: Terminal, clock: SettableClock) -> None:
        """A message of a server cannot steer the administrator's terminal."""
        reporter = ConsoleReporter(terminal, clock, width=80)
        reporter.note("a\x1b]0;owned\x07b\x1b[2Jc\r\nd\u202ee")

        assert "a?]0;owned?b?[2Jc d?e\n" == terminal.getvalue()

    def test_terminal_knows_no_accents__question_mark(self, clock: SettableClock) -> None:
        """A name that cannot be written does not fail."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")
        reporter = ConsoleReporter(stream, clock, width=80)
        reporter.note("Größe")

        assert b"Gr??e\n" == raw.getvalue()

    def test_real_terminal__its_width_is_used(self) -> None:
        """On a real terminal the width comes from the terminal."""
        leader, follower = os.openpty()
        with os.fdopen(leader, "rb", buffering=0) as screen, os.fdopen(follower, "w") as stream:
            subprocess.run(("stty", "cols", "33"), stdin=stream, check=True)
            reporter = choose_reporter(stream, json=False, quiet=False, clock=SystemClock())
            reporter.phase("A phase with a name that is much longer than this", total=10)
            drawn = screen.read(1000).decode()

        assert "A phase with a name that is much" == drawn


class TestLineReporter:
    """Plain lines."""

    def test_job__a_line_for_each_start_and_end(self, plain: io.StringIO, clock: SettableClock) -> None:
        """A log file shows what began and ended when, and nothing is written over."""
        tell_a_job(LineReporter(plain, clock), clock)

        assert [
            "Dump ...",
            "12 tables",
            "Dump: 4.0 MB in 20 s",
            "Compare ...",
            "Warning: a table has no key",
            "Compare: 3 tables, 1,500 rows in 2.0 s",
            "Backup complete",
        ] == plain.getvalue().splitlines()
        assert "\r" not in plain.getvalue()

    def test_note_of_several_lines__one_line(self, plain: io.StringIO, clock: SettableClock) -> None:
        """One event is one line, whatever is in it."""
        LineReporter(plain, clock).note("first\nsecond\tthird")

        assert "first second third\n" == plain.getvalue()


class TestJsonReporter:
    """JSON lines."""

    def test_job__events_with_times_and_figures(self, plain: io.StringIO, clock: SettableClock) -> None:
        """Every event is an object with its UTC time; progress comes at most once in a second."""
        tell_a_job(JsonReporter(plain, clock), clock)
        told = events(plain.getvalue())

        assert [
            *("phase", "progress", "progress", "progress", "progress", "note", "phase_end"),
            *("phase", "warning", "phase_end", "finish"),
        ] == [event["event"] for event in told]
        assert {
            "at": "2026-11-22T03:00:20.000+00:00",
            "event": "phase_end",
            "phase": "Dump",
            "total": 4_000_000,
            "done": {"bytes": 4_000_000},
            "seconds": 20.0,
        } == told[6]
        assert {"tables": 3, "rows": 1500} == told[9]["done"]

    def test_text_with_line_feeds__still_one_line(self, plain: io.StringIO, clock: SettableClock) -> None:
        """A reader can split at line feeds, and gets the text back as it was."""
        JsonReporter(plain, clock).warning("two\nlines\u2028 and é")

        assert ["two\nlines\u2028 and é"] == [event["text"] for event in events(plain.getvalue())]


class TestJournalReporter:
    """The file that survives the job."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where the journal is to be."""
        return tmp_path / "job.journal"

    def test_events__in_a_private_file_at_once(self, path: Path, clock: SettableClock) -> None:
        """What was told can be read while the job goes on, by its owner only, whatever the umask is."""
        before = os.umask(0)
        try:
            with JournalReporter(path, clock) as reporter:
                reporter.phase("Switch")
                during = events(path.read_text())
        finally:
            os.umask(before)

        assert [{"at": "2026-11-22T03:00:00.000+00:00", "event": "phase", "phase": "Switch", "total": None}] == during
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    def test_file_exists__appended_and_made_private(self, path: Path, clock: SettableClock) -> None:
        """A second run goes on behind the first one's events."""
        path.touch(mode=0o644)
        for text in ("first", "second"):
            with JournalReporter(path, clock) as reporter:
                reporter.note(text)

        assert ["first", "second"] == [event["text"] for event in events(path.read_text())]
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    def test_torn_line__ended_first(self, path: Path, clock: SettableClock) -> None:
        """Half a line of a process that died spoils no other."""
        path.write_text('{"event": "phase", "na')
        with JournalReporter(path, clock) as reporter:
            reporter.note("after")

        assert "after" == events(path.read_text().splitlines()[1])[0]["text"]

    def test_two_writers__lines_stay_whole(self, path: Path, clock: SettableClock) -> None:
        """Threads and processes that share the journal do not tear each other's lines."""
        with JournalReporter(path, clock) as one, JournalReporter(path, clock) as other:

            def write(reporter: JournalReporter, text: str) -> None:
                for _ in range(300):
                    reporter.note(text)

            writers = [
                threading.Thread(target=write, args=(reporter, text * 2000))
                for reporter, text in ((one, "a"), (one, "b"), (other, "c"))
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
        texts = [event["text"] for event in events(path.read_text())]

        assert {"a" * 2000: 300, "b" * 2000: 300, "c" * 2000: 300} == {text: texts.count(text) for text in texts}

    def test_link_in_its_place__refused(self, path: Path, tmp_path: Path, clock: SettableClock) -> None:
        """The journal does not write where a link leads."""
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            JournalReporter(path, clock)

        assert not (tmp_path / "elsewhere").exists()

    def test_process_is_killed__everything_told_is_there(self, path: Path) -> None:
        """Not even SIGKILL loses an event."""
        script = """
            import os, signal, sys
            from pathlib import Path
            from erp_backup.core.progress import JournalReporter

            reporter = JournalReporter(Path(sys.argv[1]))
            reporter.phase("Switch")
            reporter.advance(5, "steps")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        ended = subprocess.run((sys.executable, "-c", textwrap.dedent(script), str(path)), check=False)

        assert -signal.SIGKILL == ended.returncode
        assert ["phase", "progress"] == [event["event"] for event in events(path.read_text())]

    def test_closed__later_events_raise(self, path: Path, clock: SettableClock) -> None:
        """An event that cannot be kept is not silently lost."""
        with JournalReporter(path, clock) as reporter:
            pass
        with pytest.raises(OSError, match="Bad file descriptor"):
            reporter.note("too late")


class TestCallbackReporter:
    """A function that is called."""

    def test_job__updates_with_figures(self, clock: SettableClock) -> None:
        """The function gets each event with the phase as it is."""
        updates: list[Update] = []
        tell_a_job(CallbackReporter(updates.append, clock, interval=7), clock)

        assert [
            *("phase", "progress", "progress", "note", "phase_end"),
            *("phase", "warning", "phase_end", "finish"),
        ] == [update.event for update in updates]
        assert Progress(phase="Dump", total=4_000_000, done={"bytes": 1_000_000}, seconds=5.0) == updates[1].progress
        assert ("Backup complete", None) == (updates[-1].text, updates[-1].progress)

    def test_many_advances__function_is_called_rarely(self, clock: SettableClock) -> None:
        """A row is not written for every chunk, and the end has the whole figure."""
        updates: list[Update] = []
        reporter = CallbackReporter(updates.append, clock, interval=1)
        reporter.phase("Dump")
        for _ in range(1000):
            clock.sleep(0.01)
            reporter.advance(1)
        reporter.finish("Done")

        assert 10 == [update.event for update in updates].count("progress")
        assert updates[-2].progress is not None
        assert {"bytes": 1000} == updates[-2].progress.done

    def test_job_is_silent__heart_beats_until_the_end(self, clock: SettableClock) -> None:
        """A long silent step still shows that the job is alive; afterwards nothing beats."""
        updates: list[Update] = []
        has_beaten = threading.Event()

        def keep(update: Update) -> None:
            updates.append(update)
            if update.event == "heartbeat":
                has_beaten.set()

        before = threading.active_count()
        with CallbackReporter(keep, clock, heartbeat=0.01) as reporter:
            reporter.phase("Restore")
            is_beating = has_beaten.wait(30)
            reporter.finish("Done")

            assert is_beating
            assert before == threading.active_count()
        beat = next(update for update in updates if update.event == "heartbeat")

        assert beat.progress is not None
        assert "Restore" == beat.progress.phase
        assert "finish" == updates[-1].event

    def test_heartbeat_fails__next_event_raises_it(self, clock: SettableClock) -> None:
        """A failure in the reporter's own thread reaches the job's, where somebody can act on it."""
        has_failed = threading.Event()

        def fail(update: Update) -> None:
            if update.event == "heartbeat":
                has_failed.set()
                raise ConnectionError("the database is gone")

        with CallbackReporter(fail, clock, heartbeat=0.01) as reporter:
            reporter.phase("Restore")
            has_failed.wait(30)
            reporter.close()

            with pytest.raises(ConnectionError, match="the database is gone"):
                reporter.note("next")

    def test_job_dies__closing_ends_the_beats(self, clock: SettableClock) -> None:
        """A job that failed does not look alive."""
        before = threading.active_count()
        with CallbackReporter(lambda _: None, clock, heartbeat=1000) as reporter:
            reporter.phase("Restore")
            during = threading.active_count()

        assert (before + 1, before) == (during, threading.active_count())


class TestTeeReporter:
    """Several at once."""

    def test_job__each_is_told_everything(self, clock: SettableClock) -> None:
        """All reporters show the same job."""
        streams = [io.StringIO(), io.StringIO()]
        tell_a_job(TeeReporter(*(JsonReporter(stream, clock) for stream in streams)), clock)

        assert streams[0].getvalue() == streams[1].getvalue()
        assert 11 == len(events(streams[0].getvalue()))

    def test_one_fails__dropped_and_the_others_are_warned(self, plain: io.StringIO, clock: SettableClock) -> None:
        """A closed terminal does not fail the backup; the journal says that it was closed."""
        broken = BrokenReporter(BrokenPipeError("secret path"))
        tee = TeeReporter(broken, LineReporter(plain, clock))
        tee.note("one")
        tee.note("two")

        assert 1 == broken.calls
        assert {"one", "two", "Warning: Progress is no longer shown by BrokenReporter: BrokenPipeError."} == set(
            plain.getvalue().splitlines()
        )

    def test_one_fails_in_two_threads_at_once__one_warning(self, plain: io.StringIO, clock: SettableClock) -> None:
        """Two threads that see the same failure do not both tell it."""
        both_are_inside = threading.Barrier(2)

        class Failing(NullReporter):
            def note(self, text: str) -> None:
                both_are_inside.wait(30)
                raise OSError

        tee = TeeReporter(Failing(), LineReporter(plain, clock))
        threads = [threading.Thread(target=tee.note, args=("text",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1 == plain.getvalue().count("Warning: Progress is no longer shown by Failing: OSError.")

    def test_all_fail__job_goes_on(self) -> None:
        """Nothing is shown any more, and nothing is raised."""
        broken = [BrokenReporter(OSError()), BrokenReporter(ValueError())]
        tee = TeeReporter(*broken)
        for _ in range(3):
            tee.note("text")

        assert [1, 1] == [reporter.calls for reporter in broken]

    @pytest.mark.parametrize("error", [InterruptedBySignal(15, "SIGTERM"), KeyboardInterrupt(), SystemExit(3)])
    def test_run_is_asked_to_end__passes(self, error: BaseException) -> None:
        """A signal that arrives inside a reporter is nobody's failure."""
        with pytest.raises(type(error)):
            TeeReporter(BrokenReporter(error)).note("text")

    def test_many_threads__nothing_is_lost(self, plain: io.StringIO, clock: SettableClock) -> None:
        """Threads that advance together add up, while another reporter fails."""
        updates: list[Update] = []
        callback = CallbackReporter(updates.append, clock)
        tee = TeeReporter(callback, BrokenReporter(OSError()), LineReporter(plain, clock))
        tee.phase("Dump")

        def advance() -> None:
            for _ in range(20):
                tee.advance(SlowNumber(50), "rows")

        threads = [threading.Thread(target=advance) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tee.finish("Done")

        assert "Dump: 4,000 rows in 0.0 s" in plain.getvalue().splitlines()
        assert 1 == plain.getvalue().count("Warning")


class TestChooseReporter:
    """Who shows it."""

    @pytest.fixture
    def told(self, clock: SettableClock) -> Callable[..., str]:
        """What a job looks like on a stream."""

        def tell(stream: io.StringIO, *, json: bool = False, quiet: bool = False) -> str:
            tell_a_job(choose_reporter(stream, json=json, quiet=quiet, clock=clock), clock)
            return stream.getvalue()

        return tell

    def test_terminal__line_that_updates_itself(self, told: Callable[..., str], terminal: Terminal) -> None:
        """Somebody who watches sees it move."""
        assert "\r" in told(terminal)

    def test_file__plain_lines(self, told: Callable[..., str], plain: io.StringIO) -> None:
        """A log file gets lines."""
        assert "\r" not in told(plain)

    def test_dumb_terminal__plain_lines(
        self, told: Callable[..., str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A terminal that cannot go back gets lines, too."""
        monkeypatch.setenv("TERM", "dumb")

        assert "\r" not in told(terminal)

    def test_json__objects_even_on_a_terminal(self, told: Callable[..., str], terminal: Terminal) -> None:
        """A program that asks for JSON gets nothing else."""
        assert 11 == len(events(told(terminal, json=True)))

    def test_quiet__warnings_only(self, told: Callable[..., str], plain: io.StringIO) -> None:
        """Silence means that nothing is wrong."""
        assert "Warning: a table has no key\n" == told(plain, quiet=True)

    def test_quiet_json__warnings_as_json(self, told: Callable[..., str], plain: io.StringIO) -> None:
        """Quiet JSON is still JSON."""
        assert ["warning"] == [event["event"] for event in events(told(plain, json=True, quiet=True))]

    @pytest.mark.parametrize("kind", [Terminal, io.StringIO])
    def test_stream_is_closed__job_goes_on(
        self, kind: type[io.StringIO], clock: SettableClock, plain: io.StringIO
    ) -> None:
        """Whoever closes the terminal does not end the backup."""
        stream = kind()
        shown = [choose_reporter(stream, json=json, quiet=False, clock=clock) for json in (True, False)]
        stream.close()
        tell_a_job(TeeReporter(*shown, LineReporter(plain, clock)), clock)

        assert plain.getvalue().endswith("Backup complete\n")


class TestText:
    """Text from anywhere."""

    @given(st.text())
    def test_any_text__one_harmless_line(self, text: str) -> None:
        """No character of the result moves the cursor."""
        assert printable(text).isprintable()

    @given(st.text(), st.integers(0, 50))
    def test_any_text__fitted_to_the_width(self, text: str, width: int) -> None:
        """The longest beginning that fits is kept."""
        kept = fitted(text, width)

        assert text.startswith(kept)
        assert width >= width_of(kept)
        assert kept == text or width < width_of(text[: len(kept) + 1])
