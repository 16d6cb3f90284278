"""What the samples must show: ratios of one run's steps, with the limits that the design sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import contests
from benchmarks.contests import Facts
from benchmarks.measuring import Sample

SMALL = 200_000_000
LARGE = 500_000_000
"""Bytes of database: below, starting Python is most of the work."""

Round = dict[str, Sample]
Rounds = Sequence[Round]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is at most ``limit`` in each round (None: only shown); ``figure`` takes a round and the data's facts."""

    what: str
    figure: Callable[[Round, Facts], float]
    limit: float | None = None
    unit: str = "x"
    least: float = 0  # bytes of database from which the limit holds
    most: float = math.inf  # bytes of database up to which it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim, and what the rounds say: median, least and most. ``limit`` is None where none holds for this data."""

    claim: Claim
    limit: float | None
    value: float
    least: float
    most: float

    @property
    def is_kept(self) -> bool | None:
        """Whether the median is within the limit; None where there is none."""
        return None if self.limit is None else self.value <= self.limit


def quotient(step: str, base: str, limit: float | None = None) -> Claim:
    """Return the claim about the wall time of one step as a multiple of another's; it holds for large databases."""
    return Claim(
        what=f"{step} / {base}",
        figure=lambda samples, _: samples[step].wall / samples[base].wall,
        limit=limit,
        least=LARGE,
    )


def effort(step: str, base: str) -> Claim:
    """Return the same about processor time, the server's included: it hardly depends on who else uses the machine."""
    return Claim(
        what=f"{step} / {base}: processor time",
        figure=lambda samples, _: total_cpu(samples[step]) / total_cpu(samples[base]),
    )


def total_cpu(sample: Sample) -> float:
    """Return the seconds of everybody's processor time."""
    return sample.cpu + sample.server_cpu


def _peak_memory(samples: Round, _facts: Facts) -> float:
    ours = (contests.BACKUP, contests.READABLE, contests.DRILL)
    return max(samples[name].memory for name in ours) / 1e6


def _temporary_copy(samples: Round, facts: Facts) -> float:
    return samples[contests.BACKUP].temporary / facts.dump


def _beyond_a_dump(samples: Round, _facts: Facts) -> float:
    return samples[contests.BACKUP].wall - samples[contests.DUMP].wall


MEMORY = Claim(what="peak memory of our processes together, any command", figure=_peak_memory, limit=150.0, unit="MB")
CLAIMS: dict[str, list[Claim]] = {
    "PostgreSQL": [
        quotient(contests.BACKUP, contests.DUMP, 0.5),
        quotient(contests.BACKUP, contests.DIRECTORY, 2.0),
        quotient(contests.BACKUP, contests.DBBACKUP_Z, 0.3),
        quotient(contests.BACKUP, contests.PIPE),
        Claim(
            what=f"{contests.BACKUP} - {contests.DUMP} (a small database)",
            figure=_beyond_a_dump,
            limit=3.0,
            unit="s",
            most=SMALL,
        ),
        quotient(contests.READABLE, contests.RESTORE, 0.15),
        quotient(contests.DRILL, contests.RESTORE, 1.25),
        MEMORY,
        Claim(
            what="temporary files of dbbackup / size of the dump (no copy of it)", figure=_temporary_copy, limit=0.05
        ),
        effort(contests.BACKUP, contests.DIRECTORY),
        effort(contests.DRILL, contests.RESTORE),
    ],
    "SQLite": [
        quotient(contests.BACKUP, contests.ONLINE, 0.3),
        quotient(contests.BACKUP, contests.DBBACKUP_Z),
        quotient(contests.DRILL, contests.BACKUP),
        MEMORY,
        effort(contests.BACKUP, contests.ONLINE),
    ],
}


def judge(title: str, rounds: Rounds, facts: Facts) -> list[Verdict]:
    """Return the verdicts of one contest. Ratios are taken within each round, then their median."""
    return [_verdict(claim, rounds, facts) for claim in CLAIMS[title]]


def _verdict(claim: Claim, rounds: Rounds, facts: Facts) -> Verdict:
    figures = [claim.figure(samples, facts) for samples in rounds]
    limit = claim.limit if claim.least <= facts.size <= claim.most else None
    return Verdict(claim=claim, limit=limit, value=median(figures), least=min(figures), most=max(figures))
