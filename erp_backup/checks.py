"""System checks: what is wrong with the set-up, said before a backup is needed. Ids are documented API.

Those that ask a database run with ``manage.py check --database default``, as Django has it for all such checks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, Warning  # noqa: A004 - Django's name
from django.db import DEFAULT_DB_ALIAS

from erp_backup.conf import DatabaseConfig, current_problems, get_config
from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import BackupError, RefusedError, VersionError
from erp_backup.core.figures import Severity
from erp_backup.core.process import ProcessRunner
from erp_backup.engines import engine_for
from erp_backup.engines.base import DumpRequest, Engine, Problem, Tools
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations import location_for, locations_for
from erp_backup.modelchecks.declared import all_checks
from erp_backup.modelchecks.registry import validate


def check_app_order(**_kwargs: Any) -> list[CheckMessage]:
    """E001: the app that stands first in INSTALLED_APPS wins a command's name, silently."""
    labels = [config.name for config in apps.get_app_configs()]
    if "dbbackup" not in labels or labels.index("erp_backup") < labels.index("dbbackup"):
        return []
    return [
        Error(
            "'dbbackup' stands before 'erp_backup' in INSTALLED_APPS: its commands run instead of ours.",
            hint="Put 'erp_backup' before 'dbbackup'.",
            id="erp_backup.E001",
        )
    ]


def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """E002: ERP_BACKUP says something that means nothing."""
    return [Error(problem.message, hint=problem.remedy or None, id="erp_backup.E002") for problem in current_problems()]


def check_locations(**_kwargs: Any) -> list[CheckMessage]:
    """E003: a location uses a storage that cannot keep archives, or is the same place as another."""
    if current_problems():
        return []
    found: list[CheckMessage] = []
    for location in get_config().locations:
        try:
            location_for(location)
        except ConfigurationError as error:
            found.append(_unusable(error))
    if not found:
        try:
            locations_for(get_config().locations)
        except ConfigurationError as error:
            found.append(_unusable(error))
    return found


def _unusable(error: ConfigurationError) -> CheckMessage:
    return Error(error.message, hint=error.remedy or None, id="erp_backup.E003")


def check_state_dir(**_kwargs: Any) -> list[CheckMessage]:
    """E004: others can read the folder that holds the signing key and running jobs' files."""
    if current_problems():
        return []
    folder = get_config().state_dir
    if not folder.is_dir() or not folder.stat().st_mode & 0o077:
        return []
    return [
        Error(
            f"The state folder {folder} can be read by others (mode {folder.stat().st_mode & 0o777:04o}).",
            hint=f"Run: chmod 700 {folder}",
            id="erp_backup.E004",
        )
    ]


def check_encryption(**_kwargs: Any) -> list[CheckMessage]:
    """W005, only with --deploy: archives are stored as they are, for everyone who gets at them."""
    if current_problems() or get_config().encryption.recipients:
        return []
    return [
        Warning(
            "Backups are not encrypted.",
            hint="Name public keys in ERP_BACKUP['ENCRYPTION']['RECIPIENTS'] (age-keygen makes a pair).",
            id="erp_backup.W005",
        )
    ]


def check_model_checks(**_kwargs: Any) -> list[CheckMessage]:
    """E006: a model check names a model or a field that does not exist."""
    if current_problems():
        return []
    try:
        declared = all_checks(DEFAULT_DB_ALIAS, get_config().model_checks)
    except ConfigurationError as error:
        return [Error(error.message, hint=error.remedy or None, id="erp_backup.E006")]
    return [Error(text, id="erp_backup.E006") for text in validate(declared)]


def check_programs(**_kwargs: Any) -> list[CheckMessage]:
    """W010: a program that dumps or restores is not installed. A warning: a web server need not have them."""
    return [
        Warning(problem.message, hint=problem.remedy or None, id="erp_backup.W010")
        for engine in _engines({database.alias for database in _configured()})
        for problem in engine.missing_programs()
    ]


def check_databases(databases: Iterable[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """W011 to W013: versions and rights of each database that is to be backed up.

    Warnings, because ``migrate`` runs this too, and for the same reason nothing is said of a database that is not there
    yet.
    """
    excluded = {database.alias: database.excluded_tables for database in _configured()}
    found: list[CheckMessage] = []
    for engine in _engines(excluded.keys() & set(databases or ())):
        alias = engine.database.alias
        with contextlib.suppress(BackupError):  # one that cannot be reached is not this check's business
            request = DumpRequest(excluded_tables=excluded[alias])
            found += [_message(problem, alias) for problem in engine.preflight(request)]
    return [message for message in found if message.id]


def _configured() -> tuple[DatabaseConfig, ...]:
    return () if current_problems() else get_config().databases


def _engines(aliases: Iterable[str]) -> Iterator[Engine]:
    """The engines of these aliases; that a kind of database has none is said when it is backed up."""
    wanted = sorted(aliases)
    if not wanted:  # also where the settings mean nothing: that is said by E002
        return
    config, clock = get_config(), SystemClock()
    tools = Tools(
        clock=clock,
        runner=ProcessRunner(clock),
        program_dirs=config.program_dirs,
        maintenance_database=config.maintenance_database,
    )
    for alias in wanted:
        with contextlib.suppress(ConfigurationError):
            yield engine_for(alias, tools)


# What a problem would be raised as, and the id of its message; others are said where they belong.
_IDS: Mapping[type[BackupError], str] = {VersionError: "erp_backup.W011", RefusedError: "erp_backup.W012"}


def _message(problem: Problem, alias: str) -> CheckMessage:
    identifier = _IDS.get(problem.error) if problem.severity is Severity.FAILED else "erp_backup.W013"
    return Warning(f"Database {alias!r}: {problem.message}", hint=problem.remedy or None, id=identifier)


CHECKS: Mapping[Callable[..., list[CheckMessage]], tuple[str, ...]] = {
    check_app_order: (Tags.compatibility,),
    check_settings: (Tags.compatibility,),
    check_locations: (Tags.files,),
    check_state_dir: (Tags.security,),
    check_model_checks: (Tags.models,),
    check_programs: (Tags.compatibility,),
    check_databases: (Tags.database,),
}
DEPLOY_CHECKS: Mapping[Callable[..., list[CheckMessage]], tuple[str, ...]] = {check_encryption: (Tags.security,)}
