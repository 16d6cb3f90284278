"""What ``recoverrows`` is asked and what it answers: data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SAMPLES = 5  # rows of each model that people are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRequest:
    """Which rows of which backup, and what is to be done with them."""

    backup: str
    model: str  # app.Model
    keys: tuple[str, ...] = ()  # only these primary keys
    where: tuple[str, ...] = ()  # only rows with FIELD=VALUE, in Django's lookups
    changed: bool = False  # look for rows that are other than they were, too
    overwrite_changed: bool = False  # and put them back
    with_dependents: bool = False
    skip_conflicts: bool = False
    export: Path | None = None
    apply: bool = False
    with_signals: bool = False
    safety_backup: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The first rows of something, as text; None is no value."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRows:
    """Rows of one model that are in the backup, not in the live database, and would come back."""

    model: str
    table: str
    count: int
    reason: str  # "asked for", "needed", "part", "relation", "dependent"
    sample: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One column of a row that is other than it was."""

    key: str
    column: str
    backup: str | None
    live: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRows:
    """Rows of one table that are in both, and not the same; ``columns`` says in which columns, and how many."""

    model: str
    table: str
    count: int
    columns: dict[str, int]
    sample: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Rows that referred to rows that are missing, and are missing as well; they would not come back by themselves."""

    model: str
    field: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Why rows cannot come back; ``keys`` are the first of them, ``others`` the live rows in their way."""

    model: str
    subject: str  # the unique index, or the foreign key
    kind: str  # "unique" or "reference"
    count: int
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsPlan:
    """What was found, and what would be done."""

    backup: str
    database: str  # the alias
    destination: str  # the database's name
    model: str
    selected: int  # rows of the model in the backup that were asked for
    models: tuple[ModelRows, ...] = ()
    changed: tuple[ChangedRows, ...] = ()
    dependents: tuple[Dependents, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    skipped: int = 0  # rows left out because of conflicts
    overwrites: bool = False
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """How many rows would be inserted."""
        return sum(rows.count for rows in self.models)

    @property
    def overwritten(self) -> int:
        """How many rows would be put back as they were."""
        return sum(rows.count for rows in self.changed) if self.overwrites else 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.missing and not self.overwritten


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckChange:
    """A model check before the rows came back, and after; ``is_worse`` when a rule is broken that was not."""

    check: str
    before: str
    after: str
    is_worse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsResult:
    """What was done."""

    plan: RowsPlan
    applied: bool = False
    restore: str = ""  # the identifier in the history
    safety_backup: str = ""
    exported: str = ""
    exported_rows: int = 0
    checks: tuple[CheckChange, ...] = ()
    problems: tuple[str, ...] = field(default=())  # what could not be done although the rows are back

    @property
    def exit_code(self) -> int:
        """0, or 3 when something beside the rows failed."""
        return 3 if self.problems else 0
