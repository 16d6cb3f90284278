"""A backup restored beside the live database and proven equal to its manifest, for whoever takes rows from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from erp_backup.core.errors import DifferenceError, RefusedError
from erp_backup.core.figures import Outcome, Severity
from erp_backup.engines.base import Engine, Scratch
from erp_backup.services.catalog import Found
from erp_backup.services.drill import Drill
from erp_backup.services.environment import Environment
from erp_backup.services.verification import VerificationResult, VerifyRequest


def engine_of(environment: Environment, backup: Found) -> Engine:
    """Return the engine of the database that the backup is of. Raises RefusedError where it is of another kind."""
    database = backup.manifest.database
    engine = environment.engine(database.alias)
    if engine.vendor != database.engine:
        raise RefusedError(
            f"It is a backup of a {database.engine} database; {database.alias!r} is {engine.vendor} here."
        )
    if backup.manifest.kind != "full":
        raise RefusedError(f"It is a backup of the {backup.manifest.kind} only.", remedy="Choose a full backup.")
    return engine


@contextlib.contextmanager
def restored_beside(environment: Environment, engine: Engine, backup: Found) -> Iterator[Scratch]:
    """Restore into a scratch database, compare everything, and yield it; it is gone afterwards.

    Raises DifferenceError unless the copy is the state of the snapshot, CorruptError and its kin.
    """
    drill = Drill(environment=environment, backup=backup, request=VerifyRequest(level="models"))
    with environment.workspace.folder("rows") as folder:
        drill.read_copies()
        dump = drill.decode(engine, folder)
        with engine.scratch(backup.manifest.database, folder) as scratch:
            drill.restore(engine, scratch, dump)
            dump.unlink(missing_ok=True)
            _require_equal(environment, drill.result())
            yield scratch


def _require_equal(environment: Environment, result: VerificationResult) -> None:
    if result.error is not None:
        raise result.error
    if result.outcome is Outcome.FAILED:
        failed = [finding for finding in result.findings if finding.severity is Severity.FAILED]
        first = failed[0]
        raise DifferenceError(
            f"{result.name} does not restore to the state that was saved: {len(failed)} differences, the first: "
            f"{first.kind} {first.subject}. {first.message}".rstrip(),
            remedy="'verifybackup' shows them all. Choose another backup.",
        )
    if result.outcome is Outcome.UNVERIFIED:
        environment.reporter.warning(f"{result.name} could not be compared in full; 'verifybackup' says what is open.")
