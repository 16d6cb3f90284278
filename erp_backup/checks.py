"""System checks: what is wrong with the set-up, said before a backup is needed. Ids are documented API.

Those that ask a database run with ``manage.py check --database default``, as Django has it for all such checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, Warning  # noqa: A004 - Django's name
from django.db import DEFAULT_DB_ALIAS

from erp_backup.conf import current_problems, get_config
from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import BackupError, ProgramMissingError, VersionError
from erp_backup.core.figures import Severity
from erp_backup.core.process import ProcessRunner
from erp_backup.engines import engine_for
from erp_backup.engines.base import DumpRequest, Problem, Tools
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations import location_for
from erp_backup.modelchecks.declared import all_checks
from erp_backup.modelchecks.registry import validate

Apps = Sequence[AppConfig] | None


def check_app_order(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
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


def check_settings(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
    """E002: ERP_BACKUP says something that means nothing."""
    return [Error(problem.message, hint=problem.remedy or None, id="erp_backup.E002") for problem in current_problems()]


def check_locations(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
    """E003: a location uses a storage that cannot keep archives."""
    if current_problems():
        return []
    found: list[CheckMessage] = []
    for location in get_config().locations:
        try:
            location_for(location)
        except ConfigurationError as error:
            found.append(Error(error.message, hint=error.remedy or None, id="erp_backup.E003"))
    return found


def check_state_dir(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
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


def check_encryption(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
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


def check_model_checks(app_configs: Apps = None, **_kwargs: Any) -> list[CheckMessage]:
    """E006: a model check names a model or a field that does not exist."""
    if current_problems():
        return []
    try:
        declared = all_checks(DEFAULT_DB_ALIAS, get_config().model_checks)
    except ConfigurationError as error:
        return [Error(error.message, hint=error.remedy or None, id="erp_backup.E006")]
    return [Error(text, id="erp_backup.E006") for text in validate(declared)]


def check_databases(
    app_configs: Apps = None, databases: Iterable[str] | None = None, **_kwargs: Any
) -> list[CheckMessage]:
    """E010 to E012, W013: programs, versions and rights of each database that is to be backed up."""
    if current_problems():
        return []
    config = get_config()
    wanted = [database for database in config.databases if database.alias in set(databases or ())]
    clock = SystemClock()
    tools = Tools(
        clock=clock,
        runner=ProcessRunner(clock),
        program_dirs=config.program_dirs,
        maintenance_database=config.maintenance_database,
    )
    return [
        _message(problem, database.alias)
        for database in wanted
        for problem in _problems(database.alias, tools, DumpRequest(excluded_tables=database.excluded_tables))
    ]


def _problems(alias: str, tools: Tools, request: DumpRequest) -> list[Problem]:
    try:
        return engine_for(alias, tools).preflight(request)
    except BackupError as error:
        return [Problem(message=error.message, remedy=error.remedy, error=type(error))]


# What a problem would be raised as, and the id of its message.
_IDS: Mapping[type[BackupError], str] = {ProgramMissingError: "erp_backup.E010", VersionError: "erp_backup.E011"}


def _message(problem: Problem, alias: str) -> CheckMessage:
    text = f"Database {alias!r}: {problem.message}"
    if problem.severity is not Severity.FAILED:
        return Warning(text, hint=problem.remedy or None, id="erp_backup.W013")
    return Error(text, hint=problem.remedy or None, id=_IDS.get(problem.error, "erp_backup.E012"))


CHECKS: Mapping[Callable[..., list[CheckMessage]], tuple[str, ...]] = {
    check_app_order: (Tags.compatibility,),
    check_settings: (Tags.compatibility,),
    check_locations: (Tags.files,),
    check_state_dir: (Tags.security,),
    check_model_checks: (Tags.models,),
    check_databases: (Tags.database,),
}
DEPLOY_CHECKS: Mapping[Callable[..., list[CheckMessage]], tuple[str, ...]] = {check_encryption: (Tags.security,)}
