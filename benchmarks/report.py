"""Tables of results: for the terminal, and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contests import Facts
from benchmarks.measuring import Sample
from benchmarks.ratios import Rounds, Verdict

_HEADINGS = ("Step", "Wall s", "CPU s", "Server CPU s", "Memory MB", "Temporary MB", "Unfinished MB", "Result MB")
_VERDICT_HEADINGS = ("What", "At most", "Measured", "Least", "Most", "Kept")
_KEPT = {True: "yes", False: "NO", None: ""}
_MEGABYTE = 1e6
_EXPLANATION = """\
Medians of the rounds; in each round all steps ran in turn on the same data, and ratios are taken within a round.
**CPU** is user and system time of the program and all it started, **server CPU** that of PostgreSQL's processes
meanwhile. **Memory** is the peak of what the program and all it started used together (shared pages once), sampled
every 50 ms. **Temporary** is the peak of files that are gone at the end, nameless ones included; **unfinished** that of
the result before it has its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that is known after a contest."""

    title: str
    facts: Facts
    rounds: Rounds
    verdicts: Sequence[Verdict]


def document(machine: Mapping[str, str], outcomes: Sequence[Outcome], command: str) -> str:
    """Return the whole of RESULTS.md."""
    parts = ["# Results of the benchmark", f"Written by `{command}`.", _EXPLANATION, _pairs(machine)]
    for outcome in outcomes:
        parts += [f"## {outcome.title}", _about(outcome), *_tables(outcome)]
    return "\n\n".join(parts) + "\n"


def text(outcome: Outcome) -> str:
    """Return one contest's tables for the terminal."""
    return "\n\n".join([f"{outcome.title}: {_about(outcome)}", *_tables(outcome)])


def _about(outcome: Outcome) -> str:
    facts = outcome.facts
    return (
        f"{facts.version}, {facts.size / _MEGABYTE:,.0f} MB of database, {facts.tables} tables, {facts.rows:,} rows, "
        f"{facts.checks} model checks; the dump has {facts.dump / _MEGABYTE:,.0f} MB. {len(outcome.rounds)} rounds."
    )


def _tables(outcome: Outcome) -> list[str]:
    steps = [_step(name, [samples[name] for samples in outcome.rounds]) for name in outcome.rounds[0]]
    return [_table(_HEADINGS, steps), _table(_VERDICT_HEADINGS, [_verdict(verdict) for verdict in outcome.verdicts])]


def _step(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    seconds = [median(getattr(sample, key) for sample in samples) for key in ("wall", "cpu", "server_cpu")]
    sizes = [
        median(getattr(sample, key) for sample in samples) / _MEGABYTE
        for key in ("memory", "temporary", "unfinished", "result")
    ]
    return (name, *(f"{value:.1f}" for value in seconds), *(f"{value:,.0f}" for value in sizes))


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    claim = verdict.claim
    limit = "" if verdict.limit is None else f"{verdict.limit:g} {claim.unit}"
    figures = (f"{value:.3g} {claim.unit}" for value in (verdict.value, verdict.least, verdict.most))
    return (claim.what, limit, *figures, _KEPT[verdict.is_kept])


def _pairs(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up, so that a terminal shows it well too."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (headings, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(aligned)} |"
