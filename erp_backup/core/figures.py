"""What is measured in a snapshot, and how two sets of such figures are compared.

Everything here is data and pure functions: engines and model checks measure, the manifest keeps,
a drill measures again, :mod:`erp_backup.core.comparison` tells the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFigure:
    """Rows and content of one table.

    ``fingerprint`` is a decimal number as text: an order-independent sum of one hash per row over ``columns``,
    in that order. An empty table has ``"0"``. ``schema`` is ``""`` where the engine has none.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    rows: int
    fingerprint: str

    @property
    def label(self) -> str:
        """``schema.name`` as people read it."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceFigure:
    """A sequence, and the column it feeds where it feeds one.

    ``column_max`` is the greatest value of that column in the snapshot, None when empty or unowned.
    """

    schema: str
    name: str
    last_value: int
    is_called: bool
    increment: int = 1
    table: str = ""
    column: str = ""
    column_max: int | None = None

    @property
    def label(self) -> str:
        """``schema.name`` as people read it."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def is_behind(self) -> bool:
        """Whether the next value would collide with a row that exists."""
        if self.column_max is None:
            return False
        following = self.last_value + (self.increment if self.is_called else 0)
        return following <= self.column_max if self.increment > 0 else following >= self.column_max


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaObject:
    """Something of the schema that has a definition: column, index, constraint, trigger, function, view, type ...

    ``digest`` is the SHA-256 of its definition, the first 16 hexadecimal digits.
    """

    kind: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that an engine measures of one database in one snapshot."""

    tables: tuple[TableFigure, ...] = ()
    sequences: tuple[SequenceFigure, ...] = ()
    objects: tuple[SchemaObject, ...] = ()
    extensions: dict[str, str] = field(default_factory=dict)  # name -> version
    migrations: tuple[str, ...] = ()  # "app.0001_name", as applied, in order of their ids
    # How content and definitions were digested; digests made in different ways cannot be compared.
    methods: dict[str, str] = field(default_factory=dict)  # "fingerprint", "definition" -> name and version
    large_objects: TableFigure | None = None  # all large objects together, where there are any


class MeasurementKind(StrEnum):
    """What a model check measures."""

    NUMBER = "number"  # one figure
    MAPPING = "mapping"  # a figure per key
    INVARIANT = "invariant"  # the rows that break a rule; none is good


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The value of one model check, taken in the snapshot or on the restored copy.

    ``value`` is a decimal number as text: the number; for a mapping the total of its values; for an invariant how many
    rows break it. ``count`` and ``digest`` describe a mapping as a whole, ``rows`` (key -> value as text) holds it
    where it is small, for an invariant it holds samples (key -> what the row says). ``labels`` say what keys mean to
    people. ``error`` is set, and ``value`` empty, when the check raised or passed its time limit (``timed_out``).
    """

    check: str
    kind: MeasurementKind = MeasurementKind.NUMBER
    value: str = ""
    unit: str = ""
    count: int | None = None
    digest: str = ""
    rows: dict[str, str] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    error: str = ""
    timed_out: bool = False
    milliseconds: int = 0


class Severity(StrEnum):
    """What a finding does to the outcome of a verification."""

    FAILED = "failed"  # the restored state is not the state of the snapshot
    UNVERIFIED = "unverified"  # something could not be compared
    SOURCE = "source"  # it was already so in the source; the restore did not cause it
    NOTE = "note"  # worth knowing, nothing is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference, named with its subject, the figure expected and the one found."""

    kind: str  # table, sequence, column, index ... model check, archive, manifest, program
    subject: str
    expected: str = ""
    found: str = ""
    message: str = ""
    severity: Severity = Severity.FAILED


class Outcome(StrEnum):
    """The three outcomes of a verification; there is no fourth."""

    PASSED = "passed"  # everything asked for was compared and equal
    FAILED = "failed"  # at least one comparison found a difference
    UNVERIFIED = "could not verify"  # something asked for could not be compared; never a pass


def outcome_of(findings: tuple[Finding, ...] | list[Finding]) -> Outcome:
    """Return the outcome that ``findings`` add up to."""
    severities = {finding.severity for finding in findings}
    if Severity.FAILED in severities:
        return Outcome.FAILED
    if Severity.UNVERIFIED in severities:
        return Outcome.UNVERIFIED
    return Outcome.PASSED
