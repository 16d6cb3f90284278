"""The whole preflight of a restore: everything that would go wrong, as a list, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from django.db import DatabaseError, InterfaceError

from erp_backup.core.errors import (
    BackupError,
    InterruptedBySignal,
    KeyUnavailableError,
    NoSpaceError,
    UsageError,
    VersionError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import Manifest
from erp_backup.core.spaces import require_space
from erp_backup.engines.base import Engine, Place, Problem
from erp_backup.modelchecks.declared import checks_for
from erp_backup.models import Outcome, RestoreTarget, Verification
from erp_backup.services import foreign, migrating
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment
from erp_backup.services.restoring import choosing
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest, require_consistent

# Which targets change the live database, and which take a whole copy that can be migrated?
CHANGES_LIVE = frozenset({RestoreTarget.SWITCH, RestoreTarget.TABLES, RestoreTarget.IN_PLACE})
MIGRATABLE = frozenset({RestoreTarget.SWITCH, RestoreTarget.INTO})


def plan_restore(environment: Environment, engine: Engine, request: RestoreRequest) -> RestorePlan:
    """Return what a restore would do and what is in its way. Changes nothing.

    Raises NoBackupError, UsageError, RefusedError and their kin where the question itself has no answer.
    """
    require_consistent(request)
    if request.target is RestoreTarget.IN_PLACE and engine.in_place() is None:
        request = replace(request, target=RestoreTarget.SWITCH)  # which is in place there
    place = _place(engine, request)
    backup = choosing.choose(environment, request)
    has_live, live_problems = _live(engine)
    if request.target is RestoreTarget.IN_PLACE and not has_live and not live_problems:
        live_problems = [
            Problem(message="There is no live database to restore into.", remedy="Use --switch, which makes one.")
        ]
    problems = [*live_problems, *_problems(environment, place.engine, request, backup)]
    return RestorePlan(
        request=request,
        backup=backup,
        database_name=engine.database.name,
        place=place,
        destination=_destination(request, place),
        has_live=has_live,
        age=environment.clock.now() - backup.manifest.taken_at,
        steps=tuple(_steps(request, place, has_live=has_live, is_foreign=backup.manifest.is_foreign)),
        problems=tuple(_waived(problem, request) for problem in problems),
        restore_seconds=_last_drill(backup.name),
    )


def _waived(problem: Problem, request: RestoreRequest) -> Problem:
    """A risk that somebody takes, for a reason that is written down, is worth a note."""
    reason = request.waivers.get(problem.waiver, "") if problem.waiver else ""
    if not reason:
        return problem
    return replace(problem, severity=Severity.NOTE, remedy=f"Taken because: {reason}")


def _place(engine: Engine, request: RestoreRequest) -> Place:
    if request.target is RestoreTarget.INTO:
        return engine.elsewhere(request.into)
    name = engine.database.name
    return Place(engine=engine, name=name, shown=name)


def _destination(request: RestoreRequest, place: Place) -> str:
    return ", ".join(request.tables) if request.target is RestoreTarget.TABLES and request.tables else place.shown


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
            message=f"It is a backup of {manifest.database.engine}; {request.database!r} is {engine.vendor}.",
            remedy="Restore it where DATABASES has such a database.",
        )
        return
    if manifest.kind != "full":
        yield Problem(
            message=f"{backup.name} holds {manifest.kind} only: it is no whole state.",
            remedy="Restore a full backup; look into this one by hand (RECOVERY.md in its location says how).",
        )
    if manifest.excluded_tables and request.target in CHANGES_LIVE - {RestoreTarget.IN_PLACE}:
        yield Problem(
            message=f"It does not hold the rows of {', '.join(manifest.excluded_tables)}: they would be empty.",
            remedy="They stay in the replaced database; copy them from there if they are needed.",
            severity=Severity.NOTE,
        )
    yield from _found(lambda: environment.decoders(manifest.archive.codecs), KeyUnavailableError)
    yield from _found(
        lambda: require_space(environment.config.state_dir, manifest.archive.uncompressed_size), NoSpaceError
    )
    if manifest.is_foreign:
        yield from _foreign(request, manifest)
    else:
        yield from _tables(request, manifest)
    yield from schema_problems(request, manifest.figures.migrations)
    yield from _model_checks(environment, backup)
    in_place = engine.in_place()
    if in_place is not None and request.target is RestoreTarget.IN_PLACE:
        yield from in_place.preflight(manifest)
    else:
        yield from engine.restore_preflight(manifest, switch=request.target is RestoreTarget.SWITCH)


def _found(step: Callable[[], object], *kinds: type[BackupError]) -> Iterator[Problem]:
    """What a step that changes nothing raises, as a problem."""
    try:
        step()
    except kinds as error:
        yield Problem(message=error.message, remedy=error.remedy, error=type(error))


def _foreign(request: RestoreRequest, manifest: Manifest) -> Iterator[Problem]:
    """What is known before of an archive that was not made here; the restored copy tells the rest."""
    yield Problem(
        message="It was not made here: nobody measured its source, nothing says what it should hold.",
        remedy=f"Look at it first: manage.py verifybackup {manifest.id}",
        severity=Severity.NOTE,
    )
    if request.target is not RestoreTarget.INTO:
        yield from foreign.reasons_against_switch(manifest, manifest.figures)


def _tables(request: RestoreRequest, manifest: Manifest) -> Iterator[Problem]:
    """Tables and schemas that were asked for and are not in the backup."""
    tables = manifest.figures.tables
    known = {table.name for table in tables} | {table.label for table in tables}
    for kind, asked, there in (
        ("table", request.tables, known),
        ("schema", request.schemas, {table.schema for table in tables}),
    ):
        missing = [name for name in asked if name not in there]
        if missing:
            yield Problem(
                message=f"{manifest.id} has no {kind} {_listed(missing)}.",
                remedy="Name them as the database does, or choose a backup that has them.",
                error=UsageError,
            )


def schema_problems(request: RestoreRequest, migrations: Sequence[str]) -> Iterator[Problem]:
    """Yield what a state with these ``migrations`` lacks, or has too many, for the code."""
    try:
        compared = migrating.compare(migrations)
    except VersionError as error:
        yield Problem(message=error.message, remedy=error.remedy, error=VersionError)
        return
    takes_over = request.target in {RestoreTarget.SWITCH, RestoreTarget.IN_PLACE}
    behind = [f"{app.app}.{name}" for app in compared.behind for name in app.unapplied]
    if behind and request.target in {*MIGRATABLE, RestoreTarget.IN_PLACE} and not request.migrate:
        can_migrate = request.target in MIGRATABLE
        yield Problem(
            message=f"Its schema is older than the code: {_listed(behind)} would have to be applied.",
            remedy="Add --migrate: it is migrated beside the live database and verified before it takes its place."
            if can_migrate
            else "Restore in place with the release that it was made with, then migrate; or use --switch --migrate.",
            severity=Severity.FAILED if takes_over else Severity.NOTE,
        )
    ahead = [f"{app.app}.{name}" for app in compared.ahead for name in app.unknown]
    if ahead and request.target is not RestoreTarget.INTO:
        yield Problem(
            message=f"Its schema is newer than the code, which does not know {_listed(ahead)}.",
            remedy="Deploy the release that it was made with, then restore.",
            error=VersionError,
        )
    removed = [app.app for app in compared.removed]
    if removed:
        yield Problem(
            message=f"It has tables of apps that are not installed here: {_listed(removed)}.",
            remedy="They stay in it, unused.",
            severity=Severity.NOTE,
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004 - as many as are shown


def _model_checks(environment: Environment, backup: Found) -> Iterator[Problem]:
    known = {check.name for check in checks_for(backup.manifest.database.alias, environment.config.model_checks)}
    gone = [m.check for m in backup.manifest.measurements if m.check not in known]
    if gone:
        yield Problem(
            message=f"The code no longer has the model checks {_listed(gone)}: they cannot be compared.",
            remedy="The tables' figures are compared all the same.",
            severity=Severity.NOTE,
        )


def _steps(request: RestoreRequest, place: Place, *, has_live: bool, is_foreign: bool) -> Iterator[str]:
    if request.target in CHANGES_LIVE and has_live:
        yield "back up the live database as it is now" if request.safety_backup else "NO safety backup is taken"
    where = "beside the live database" if place.name == place.shown else f"at the server of {place.shown}"
    allowed = ", where that is allowed," if request.target is RestoreTarget.IN_PLACE else ""
    how = "ask its model checks" if is_foreign else "compare everything with the manifest"
    yield f"restore {where}{allowed} and {how}"
    if request.migrate:
        yield "migrate the restored database and run the model checks"
    if request.target is RestoreTarget.INTO:
        yield f"leave it as {place.shown}"
    else:
        yield from _LAST_STEPS[request.target](request, has_live)


def _switch_steps(request: RestoreRequest, has_live: bool) -> Iterator[str]:  # noqa: FBT001 - called by table
    yield "carry the history over, end the restored sessions"
    if request.maintenance:
        yield "maintenance mode on"
    yield "switch, in one atomic step; the replaced database is kept" if has_live else "put it in its place"
    yield "check through a fresh connection" + (", maintenance mode off" if request.maintenance else "")


def _in_place_steps(request: RestoreRequest, _has_live: bool) -> Iterator[str]:  # noqa: FBT001 - called by table
    if request.maintenance:
        yield "maintenance mode on"
    yield "IN PLACE, in one transaction: drop what the live database has (but the history), restore, compare, commit;"
    yield "everybody waits while that runs, and only the safety backup leads back"
    yield "compare the live database with the manifest" + (", maintenance mode off" if request.maintenance else "")


_LAST_STEPS: Mapping[RestoreTarget, Callable[[RestoreRequest, bool], Iterable[str]]] = {
    RestoreTarget.SWITCH: _switch_steps,
    RestoreTarget.IN_PLACE: _in_place_steps,
    RestoreTarget.TABLES: lambda request, _: [
        f"replace the rows of {', '.join((*request.tables, *request.schemas))} in one transaction"
    ],
}


def _last_drill(name: str) -> float | None:
    """How long the restore of this backup took when it was last drilled, in seconds."""
    drills = Verification.objects.filter(backup_name=name, outcome=Outcome.PASSED, restore_seconds__isnull=False)
    try:
        return drills.values_list("restore_seconds", flat=True).first()
    except (DatabaseError, InterfaceError):
        return None
