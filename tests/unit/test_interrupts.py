"""Signals as exceptions: what is raised, what is put back, what is held."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from erp_backup.core.errors import InterruptedBySignal
from erp_backup.core.interrupts import signals_as_exceptions, signals_held

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[signal.Signals, object]]:
    """The handlers before the test, which must be there again after it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    yield dict(before)

    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert before == after


def interrupt(number: int) -> None:
    """Raise a signal inside the block under test."""
    with signals_as_exceptions():
        signal.raise_signal(number)


class TestSignalsAsExceptions:
    """The block that every command runs in."""

    @pytest.mark.parametrize(
        ("number", "code", "name"),
        [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP"), (signal.SIGINT, 130, "SIGINT")],
    )
    def test_signal__exception_with_its_exit_code(self, number: int, code: int, name: str) -> None:
        """Each signal raises, and carries the exit code shells expect."""
        with pytest.raises(InterruptedBySignal, match=f"Stopped by {name}") as caught:
            interrupt(number)

        assert (code, number) == (caught.value.exit_code, caught.value.signal_number)

    def test_second_and_third_signal__cleanup_completes(self) -> None:
        """Impatience does not tear the clean-up apart."""
        steps = []

        def impatient() -> None:
            with signals_as_exceptions():
                try:
                    signal.raise_signal(signal.SIGTERM)
                finally:
                    steps.append("begun")
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGTERM)
                    steps.append("completed")

        with pytest.raises(InterruptedBySignal) as caught:
            impatient()

        assert ["begun", "completed"] == steps
        assert signal.SIGTERM == caught.value.signal_number

    def test_second_signal_while_generators_close__cleanup_completes(self) -> None:
        """A clean-up deep inside generators is protected like any other."""
        steps = []

        def source() -> Iterator[int]:
            try:
                yield 1
            finally:
                try:
                    int("an error of the clean-up's own")
                except ValueError:
                    signal.raise_signal(signal.SIGTERM)
                steps.append("closed")

        def impatient() -> None:
            numbers = source()
            with signals_as_exceptions():
                try:
                    next(numbers)
                    signal.raise_signal(signal.SIGHUP)
                finally:
                    numbers.close()  # type: ignore[attr-defined]  # it is a generator

        with pytest.raises(InterruptedBySignal):
            impatient()

        assert ["closed"] == steps

    def test_exception_was_swallowed__next_signal_raises_again(self) -> None:
        """Somebody's "except Exception" does not make the run unstoppable."""
        steps = []

        def swallowing() -> None:
            with signals_as_exceptions():
                try:
                    signal.raise_signal(signal.SIGTERM)
                except Exception:  # noqa: BLE001 - the fault under test
                    steps.append("swallowed")
                signal.raise_signal(signal.SIGTERM)
                steps.append("not reached")

        with pytest.raises(InterruptedBySignal):
            swallowing()

        assert ["swallowed"] == steps

    def test_ignored_signal__stays_ignored(self) -> None:
        """A job under nohup survives the end of its terminal."""
        previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            interrupt(signal.SIGHUP)
            after = signal.getsignal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, previous)

        assert signal.SIG_IGN == after

    def test_block_ends__previous_handlers_are_back(self, handlers: dict[signal.Signals, object]) -> None:
        """Nothing of ours stays behind."""
        with signals_as_exceptions():
            inside = {number: signal.getsignal(number) for number in SIGNALS}

        assert handlers == {number: signal.getsignal(number) for number in SIGNALS}
        assert all(inside[number] != handlers[number] for number in SIGNALS)

    def test_inner_block__leaves_the_outer_in_charge(self) -> None:
        """A command called by a command does not make its clean-up interruptible."""
        steps = []

        def nested() -> None:
            with signals_as_exceptions():
                try:
                    interrupt(signal.SIGTERM)
                finally:
                    signal.raise_signal(signal.SIGTERM)
                    steps.append("completed")

        with pytest.raises(InterruptedBySignal):
            nested()

        assert ["completed"] == steps

    def test_other_thread__nothing_happens(self, handlers: dict[signal.Signals, object]) -> None:
        """Outside the main thread, where handlers cannot be set, the block is just a block."""
        found: list[dict[signal.Signals, object]] = []

        def work() -> None:
            with signals_as_exceptions(), signals_held():
                found.append({number: signal.getsignal(number) for number in SIGNALS})

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

        assert [handlers] == found

    def test_real_signals_to_a_waiting_process__finally_runs(self) -> None:
        """A process that waits in a lock is woken, cleans up and says which signal it was."""
        script = """
            import sys, threading
            from erp_backup.core.errors import BackupError
            from erp_backup.core.interrupts import signals_as_exceptions

            try:
                with signals_as_exceptions():
                    try:
                        print("ready", flush=True)
                        threading.Event().wait()
                    finally:
                        print("clean", flush=True)
            except BackupError as error:
                sys.exit(error.exit_code)
        """
        argv = (sys.executable, "-c", textwrap.dedent(script))
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.terminate()
            rest = process.stdout.read()

        assert ("ready\n", "clean\n", 143) == (first, rest, process.returncode)


class TestSignalsHeld:
    """The few steps that must not be torn apart."""

    def test_signal_during_the_steps__raised_after_them(self) -> None:
        """All steps are done before the signal is heard."""
        steps = []

        def work() -> None:
            with signals_as_exceptions():
                with signals_held():
                    signal.raise_signal(signal.SIGTERM)
                    with signals_held():
                        steps.append("inner")
                    steps.append("outer")
                steps.append("not reached")

        with pytest.raises(InterruptedBySignal):
            work()

        assert ["inner", "outer"] == steps

    def test_steps_fail_and_signal_came__signal_is_raised_with_the_error_behind_it(self) -> None:
        """Neither what went wrong nor the signal is lost."""

        def work() -> None:
            with signals_as_exceptions(), signals_held():
                signal.raise_signal(signal.SIGTERM)
                raise ValueError("broken")

        with pytest.raises(InterruptedBySignal) as caught:
            work()

        assert isinstance(caught.value.__context__, ValueError)

    def test_no_block_around__signals_are_as_ever(self) -> None:
        """Without the command's block nothing is held: the host's handlers stay in charge."""
        with pytest.raises(KeyboardInterrupt), signals_held():
            signal.raise_signal(signal.SIGINT)
