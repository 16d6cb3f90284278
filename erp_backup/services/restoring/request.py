"""What a restore is asked, what it would do, and what came out: data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from erp_backup.core.errors import DifferenceError, RefusedError, UsageError
from erp_backup.core.figures import Severity
from erp_backup.engines.base import Place, Problem, Replaced
from erp_backup.models import RestoreTarget
from erp_backup.services.catalog import Found
from erp_backup.services.verification import VerificationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Which state is wanted, and where it is to go."""

    database: str  # the alias it goes to
    backup: str = ""  # a backup's name, its archive's or its manifest's
    path: Path | None = None  # an archive outside the locations, its manifest beside it
    before: datetime | None = None  # the newest backup whose state is older; None and no name: the newest of all
    server_name: str = ""  # only backups with this in their name (django-dbbackup's --servername)
    locations: tuple[str, ...] = ()  # only copies in these
    target: RestoreTarget = RestoreTarget.SWITCH
    into: str = ""  # the new database's name, with target INTO
    tables: tuple[str, ...] = ()  # with target TABLES
    schemas: tuple[str, ...] = ()  # likewise: all tables of these schemas
    migrate: bool = False
    waivers: Mapping[str, str] = field(default_factory=dict)  # risks that are taken, each with its reason
    safety_backup: bool = True
    maintenance: bool = True  # the web answers 503 from just before the switch until it is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore would do, seen before anything is touched. ``restore_time`` is that of its last drill."""

    request: RestoreRequest
    backup: Found
    database_name: str  # what is typed to confirm
    place: Place  # where it is restored beside, or (INTO) to stay
    destination: str  # in words, for people and the history
    has_live: bool
    age: timedelta
    steps: tuple[str, ...]
    problems: tuple[Problem, ...]
    restore_seconds: float | None = None

    @property
    def is_possible(self) -> bool:
        """Whether nothing stands in the way."""
        return all(problem.severity is not Severity.FAILED for problem in self.problems)

    def require_possible(self) -> None:
        """Raise the first thing in the way as its error; the others stand in its message."""
        failed = [problem for problem in self.problems if problem.severity is Severity.FAILED]
        if not failed:
            return
        error = failed[0].as_error()
        more = len(failed) - 1
        if more:
            error.remedy = f"{error.remedy} {more} more in the way: see dbrestore --dry-run.".strip()
        raise error


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What came out of a restore that was done."""

    name: str
    backup: str
    database: str
    target: RestoreTarget
    destination: str = ""
    verification: VerificationResult | None = None
    replaced: Replaced | None = None
    safety_backup: str = ""
    how_to_look: str = ""
    report: dict[str, Any]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()  # what could not be done beside it: then the run is partial
    differences: tuple[str, ...] = ()  # between what is live now and the manifest, after a restore in place
    milliseconds: int = 0

    @property
    def exit_code(self) -> int:
        """0, 6 when what is live differs from the manifest, or 3 when something beside the restore failed."""
        if self.differences:
            return DifferenceError.exit_code
        return 3 if self.problems else 0


def require_consistent(request: RestoreRequest) -> None:
    """Raise UsageError for a request that says two things at once."""
    chosen = [bool(request.backup), request.path is not None, request.before is not None]
    if sum(chosen) > 1:
        raise UsageError("More than one way to choose the backup is given.", remedy="Name it, or a time, or a file.")
    if request.target is RestoreTarget.INTO and not request.into:
        raise UsageError("The new database has no name.", remedy="Use --into NAME.")
    if request.target is RestoreTarget.TABLES and not (request.tables or request.schemas):
        raise UsageError("No table is named.", remedy="Use --tables a,b.")
    if request.target is RestoreTarget.IN_PLACE and not request.safety_backup:
        raise RefusedError(
            "A restore in place keeps nothing of what it replaces: the safety backup is the only way back.",
            remedy="Leave --no-safety-backup out.",
        )
    if request.migrate and request.target not in {RestoreTarget.SWITCH, RestoreTarget.INTO}:
        raise UsageError("--migrate goes with --switch and --into only.")
