"""What a verification is asked and what it answers: data, and the rules from findings to outcome and exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from erp_backup.core.errors import BackupError, CorruptError, DifferenceError, PartialError
from erp_backup.core.figures import Figures, Finding, Measurement, Outcome, Severity, outcome_of
from erp_backup.core.manifest import Manifest

LEVELS = ("stored", "readable", "restored", "models", "application")
DEFAULT_LEVEL = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What is to be verified, and how deep. Without ``backup`` and ``everything``: the newest of each database."""

    backup: str = ""
    everything: bool = False
    databases: tuple[str, ...] = ()  # only these aliases
    locations: tuple[str, ...] = ()  # only copies in these
    level: str = DEFAULT_LEVEL
    keep: bool = False  # leave the scratch database of a drill


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """What one verification found. ``error`` is why it could not go on, where it could not."""

    name: str
    level: str
    reached: str = ""
    location: str = ""
    manifest: Manifest | None = None
    findings: tuple[Finding, ...] = ()
    error: BackupError | None = None
    restore_milliseconds: int | None = None
    total_milliseconds: int = 0
    figures: Figures | None = None  # as found on the restored copy
    measurements: tuple[Measurement, ...] = ()  # likewise
    kept: str = ""  # the command that opens the scratch database that was kept

    @property
    def outcome(self) -> Outcome:
        """Passed, failed, or could not verify: a verification that did not reach its level never passed."""
        if isinstance(self.error, CorruptError):
            return Outcome.FAILED
        found = outcome_of(self.findings)
        if found is Outcome.PASSED and (self.error is not None or self.reached != self.level):
            return Outcome.UNVERIFIED
        return found

    @property
    def exit_code(self) -> int:
        """The exit code that tells this result."""
        if self.error is not None and (isinstance(self.error, CorruptError) or self.outcome is not Outcome.FAILED):
            return self.error.exit_code
        if any(
            finding.kind in {"archive", "manifest"} and finding.severity is Severity.FAILED for finding in self.findings
        ):
            return CorruptError.exit_code
        codes = {
            Outcome.PASSED: 0,
            Outcome.FAILED: DifferenceError.exit_code,
            Outcome.UNVERIFIED: PartialError.exit_code,
        }
        return codes[self.outcome]


# When several backups are verified, the code of the worst one tells: corrupt, then key, then differences, then the
# rest.
_WORST_FIRST = (5, 8, 6)


def worst_exit_code(results: Iterable[VerificationResult]) -> int:
    """Return the exit code of several results together."""
    codes = {result.exit_code for result in results} - {0}
    return next((code for code in _WORST_FIRST if code in codes), max(codes, default=0))
