"""The whole preflight of a restore: everything that would go wrong, as a list, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import DatabaseError, InterfaceError

from erp_backup.core.errors import BackupError, InterruptedBySignal, KeyUnavailableError, NoSpaceError
from erp_backup.core.figures import Severity
from erp_backup.core.spaces import require_space
from erp_backup.engines.base import Engine, Problem
from erp_backup.modelchecks.declared import checks_for
from erp_backup.models import Outcome, RestoreTarget, Verification
from erp_backup.services import migrating
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment
from erp_backup.services.restoring import choosing
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest, require_consistent

# Which targets change the live database, and which of them by a switch?
CHANGES_LIVE = frozenset({RestoreTarget.SWITCH, RestoreTarget.TABLES, RestoreTarget.IN_PLACE})


def plan_restore(environment: Environment, engine: Engine, request: RestoreRequest) -> RestorePlan:
    """Return what a restore would do and what is in its way. Changes nothing.

    Raises NoBackupError, UsageError, RefusedError and their kin where the question itself has no answer.
    """
    require_consistent(request)
    environment.reporter.phase("preflight")
    backup = choosing.choose(environment, request)
    has_live, live_problems = _live(engine)
    problems = [*live_problems, *_problems(environment, engine, request, backup)]
    return RestorePlan(
        request=request,
        backup=backup,
        database_name=engine.database.name,
        has_live=has_live,
        age=environment.clock.now() - backup.manifest.taken_at,
        steps=tuple(_steps(environment, request, has_live=has_live)),
        problems=tuple(problems),
        restore_seconds=_last_drill(backup.name),
    )


def _live(engine: Engine) -> tuple[bool, list[Problem]]:
    try:
        return engine.has_live(), []
    except InterruptedBySignal:
        raise
    except BackupError as error:
        return False, [Problem(message=error.message, remedy=error.remedy, error=type(error))]


def _problems(environment: Environment, engine: Engine, request: RestoreRequest, backup: Found) -> Iterator[Problem]:
    manifest = backup.manifest
    if manifest.database.engine != engine.vendor:
        yield Problem(
            message=f"It is a backup of a {manifest.database.engine} database; {request.database!r} is {engine.vendor}.",
            remedy="Restore it where DATABASES has such a database.",
        )
        return
    if manifest.kind != "full":
        yield Problem(
            message=f"{backup.name} holds {manifest.kind} only: it is no whole state.",
            remedy="Restore a full backup; look into this one by hand (RECOVERY.md in its location says how).",
        )
    if manifest.excluded_tables and request.target in CHANGES_LIVE:
        yield Problem(
            message=f"It does not hold the rows of {', '.join(manifest.excluded_tables)}: they would be empty.",
            remedy="They stay in the replaced database; copy them from there if they are needed.",
            severity=Severity.NOTE,
        )
    yield from _found(lambda: environment.decoders(manifest.archive.codecs), KeyUnavailableError)
    yield from _found(
        lambda: require_space(environment.config.state_dir, manifest.archive.uncompressed_size), NoSpaceError
    )
    yield from _migrations(environment, request, backup)
    yield from _model_checks(environment, backup)
    yield from engine.restore_preflight(manifest, switch=request.target is RestoreTarget.SWITCH)


def _found(step: Callable[[], object], *kinds: type[BackupError]) -> Iterator[Problem]:
    """What a step that changes nothing raises, as a problem."""
    try:
        step()
    except kinds as error:
        yield Problem(message=error.message, remedy=error.remedy, error=type(error))


def _migrations(environment: Environment, request: RestoreRequest, backup: Found) -> Iterator[Problem]:
    compared = migrating.compare(environment, backup.manifest)
    if compared.behind and request.target in {RestoreTarget.SWITCH, RestoreTarget.INTO} and not request.migrate:
        is_switch = request.target is RestoreTarget.SWITCH
        yield Problem(
            message=f"Its schema is older than the code: {_listed(compared.behind)} would have to be applied.",
            remedy="Add --migrate: it is migrated beside the live database and verified before it takes its place."
            if is_switch
            else "Add --migrate if the code is to run on it.",
            severity=Severity.FAILED if is_switch else Severity.NOTE,
        )
    if compared.ahead and request.target is not RestoreTarget.INTO:
        yield Problem(
            message=f"Its schema is newer than the code: {_listed(compared.ahead)} are not known here.",
            remedy="Deploy the release that it was made with, then restore.",
        )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004 - as many as are shown


def _model_checks(environment: Environment, backup: Found) -> Iterator[Problem]:
    known = {check.name for check in checks_for(backup.manifest.database.alias, environment.config.model_checks)}
    gone = [m.check for m in backup.manifest.measurements if m.check not in known]
    if gone:
        yield Problem(
            message=f"The code no longer has the model checks {_listed(tuple(gone))}: they cannot be compared.",
            remedy="The tables' figures are compared all the same.",
            severity=Severity.NOTE,
        )


def _steps(environment: Environment, request: RestoreRequest, *, has_live: bool) -> Iterator[str]:
    changes = request.target in CHANGES_LIVE and has_live
    if changes and request.safety_backup:
        yield "back up the live database as it is now"
    elif changes:
        yield "NO safety backup of the live database"
    yield "restore beside the live database and compare everything with the manifest"
    if request.migrate:
        yield "migrate the restored database and run the model checks"
    if request.target is RestoreTarget.SWITCH:
        yield "carry the history over, end the restored sessions"
        if request.maintenance:
            yield "maintenance mode on"
        yield "switch, in one atomic step; the replaced database is kept" if has_live else "put it in its place"
        yield "check through a fresh connection, maintenance mode off"
    elif request.target is RestoreTarget.INTO:
        yield f"leave it as {request.into}"
    elif request.target is RestoreTarget.TABLES:
        yield f"replace the rows of {', '.join(request.tables)} in one transaction"
    if has_live and not environment.config.read_back:
        yield "(copies are not read back: READ_BACK is off)"


def _last_drill(name: str) -> float | None:
    """How long the restore of this backup took when it was last drilled, in seconds."""
    drills = Verification.objects.filter(backup_name=name, outcome=Outcome.PASSED, restore_seconds__isnull=False)
    try:
        return drills.values_list("restore_seconds", flat=True).first()
    except (DatabaseError, InterfaceError):
        return None
