"""Compares ``dbbackup`` and ``verifybackup`` with bare tools and with django-dbbackup, on the same data."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import machine, report
from benchmarks.contests import CONTESTS, Contest
from benchmarks.data import SIZES, Volume
from benchmarks.measuring import StepFailedError, measure_round
from benchmarks.ratios import judge
from benchmarks.report import Outcome

_RESULTS = Path(__file__).parent / "RESULTS.md"


def main(arguments: Sequence[str]) -> int:
    """Run the contests, print their tables, write the results; 1 when a limit is not kept, 2 when a step failed."""
    options = _options(arguments)
    volume = Volume(size=options.size, rows=options.rows)
    signal.signal(signal.SIGTERM, _leave)  # so that clusters and folders go
    facts = machine.describe()
    try:
        outcomes = [_run(engine, volume, options.rounds) for engine in options.engines]
    except StepFailedError as error:
        _say(str(error))
        return 2
    facts["Load after"] = machine.load()
    options.output.write_text(report.document(facts, outcomes, _command(options)))
    _say(f"Written to {options.output}.")
    return int(any(verdict.is_kept is False for outcome in outcomes for verdict in outcome.verdicts))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument(
        "--size", choices=SIZES, default="medium", help="of the database: 100 MB, 1 GB (the default) or 4 GB"
    )
    parser.add_argument("--rows", type=_positive, help="about this many rows instead")
    parser.add_argument("--rounds", type=_positive, default=3, help="how often everything is run (3)")
    parser.add_argument(
        "--engines", nargs="+", choices=tuple(CONTESTS), default=tuple(CONTESTS), help="which databases (all)"
    )
    parser.add_argument("--output", type=Path, default=_RESULTS, help="the file for the results (RESULTS.md here)")
    return parser.parse_args(arguments)


def _command(options: argparse.Namespace) -> str:
    """Return the command that repeats this run, wherever its results go."""
    volume = f"--rows {options.rows}" if options.rows else f"--size {options.size}"
    return f"benchmarks/run.py {volume} --rounds {options.rounds} --engines {' '.join(options.engines)}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _run(engine: str, volume: Volume, rounds: int) -> Outcome:
    with _contest(engine, volume) as contest:
        samples = []
        log = contest.host.folder / "log"
        for number in range(1, rounds + 1):
            _say(f"{contest.title}, round {number} of {rounds}")
            samples.append(measure_round(contest.steps, contest.server, log, _say))
        facts = contest.facts()
    outcome = Outcome(title=contest.title, facts=facts, rounds=samples, verdicts=judge(contest.title, samples, facts))
    _say(f"\n{report.text(outcome)}\n")
    return outcome


@contextlib.contextmanager
def _contest(engine: str, volume: Volume) -> Iterator[Contest]:
    """Make the data in a temporary folder, and remove everything afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        _say(f"{engine}: making the data ({volume})")
        begun = time.monotonic()
        with CONTESTS[engine](Path(folder), volume) as contest:
            _say(f"  {time.monotonic() - begun:.0f} s")
            yield contest


def _say(line: str) -> None:
    print(line, flush=True)


def _leave(_number: int, _frame: object) -> None:
    sys.exit(128 + signal.SIGTERM)
