"""What our commands have in common: signals as exceptions, errors as exit codes, results as text or JSON."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.core.interrupts import signals_as_exceptions
from erp_backup.core.jsondata import to_data
from erp_backup.core.progress import choose_reporter
from erp_backup.core.spaces import no_space_as_error
from erp_backup.engines.base import ForeignRules
from erp_backup.services.environment import Environment, build_environment


class BackupCommand(BaseCommand):
    """A command whose work may take long, may be stopped by a signal, and whose exit code is documented API."""

    # The services ask the databases themselves, with errors in words and codes; Django's checks would trace back first.
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own attribute

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that every command has; subclasses add theirs."""
        parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
        parser.add_argument(
            "--noinput", "--no-input", action="store_false", dest="interactive", help="never ask anything"
        )

    def handle(self, **options: Any) -> None:
        """Run with signals as exceptions, and end with the code of what went wrong."""
        quiet = options["quiet"] or options["verbosity"] == 0
        try:
            with signals_as_exceptions(), no_space_as_error("this machine"):
                reporter = choose_reporter(sys.stderr, json=False, quiet=quiet or options["json"], clock=SystemClock())
                code = self.work(build_environment(reporter=reporter), **options)
        except BackupError as error:
            self._fail(error, as_json=options["json"])
        except KeyboardInterrupt:
            self._fail(InterruptedBySignal(2, "SIGINT"), as_json=options["json"])
        if code:
            sys.exit(code)

    def work(self, environment: Environment, **options: Any) -> int:  # noqa: ARG002 - what subclasses work with
        """Do the command's work and return the exit code. Raises BackupError."""
        raise AssertionError("Each command does its own work.")

    def _fail(self, error: BackupError, *, as_json: bool) -> NoReturn:
        if as_json:
            self.print_json({"outcome": "error", "error": error_data(error)})
            sys.exit(error.exit_code)
        raise CommandError(str(error), returncode=error.exit_code) from error

    def print_json(self, data: object) -> None:
        """Print one JSON document."""
        self.stdout.write(json.dumps(to_data(data), ensure_ascii=False, indent=2, sort_keys=True))


def error_data(error: BackupError) -> dict[str, object]:
    """Return an error as JSON data: its class, its code, what happened, what to do."""
    return {
        "class": type(error).__name__,
        "exit_code": error.exit_code,
        "message": error.message,
        "remedy": error.remedy,
    }


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the comma-separated names of an option, without blanks."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def add_foreign_arguments(parser: ArgumentParser) -> None:
    """Add what a person can ask for in dealing with imported archives."""
    parser.add_argument(
        "--quarantine", action="store_true", help="imported archives: load them by a new role without any rights"
    )
    parser.add_argument(
        "--allow-old-client",
        action="store_true",
        help="imported archives: also with client programs that have known faults",
    )


def foreign_rules(options: Mapping[str, Any]) -> ForeignRules:
    """Return what was asked for in dealing with imported archives."""
    return ForeignRules(quarantine=options["quarantine"], allow_old_client=options["allow_old_client"])
