"""``manage.py verifybackup``: prove that backups restore to the state they were taken from."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from erp_backup import signals
from erp_backup.core.figures import Outcome
from erp_backup.management.base import (
    BackupCommand,
    add_foreign_arguments,
    error_data,
    foreign_rules,
    names_in,
)
from erp_backup.management.report import lines_of
from erp_backup.management.tables import terminal_width
from erp_backup.services.environment import Environment
from erp_backup.services.verification import DEFAULT_LEVEL, LEVELS, VerificationResult, VerifyRequest, worst_exit_code
from erp_backup.services.verify import verify_backups


class Command(BackupCommand):
    """Verifies, shows expected and found, and exits 0 only when everything asked for was compared and equal."""

    help = "Prove backups: restore them into a scratch database and compare everything with their manifests."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to verify, how deep, and what to leave behind."""
        super().add_arguments(parser)
        parser.add_argument("backup", nargs="?", default="", help="a backup (default: the newest of each database)")
        parser.add_argument("--all", action="store_true", dest="everything", help="verify every backup there is")
        parser.add_argument("-d", "--database", help="only these database aliases, separated by commas")
        parser.add_argument("--location", help="only the copies in these locations, separated by commas")
        parser.add_argument(
            "--level", choices=LEVELS, default=DEFAULT_LEVEL, help="how deep (each level includes the ones before)"
        )
        parser.add_argument("--probe", action="store_true", help="the same as --level application")
        parser.add_argument("--keep", action="store_true", help="keep the restored copy and say how to look into it")

        add_foreign_arguments(parser)

    def work(self, environment: Environment, **options: Any) -> int:
        """Verify one by one, showing each result as it comes."""
        environment = replace(environment, foreign=foreign_rules(options))
        request = VerifyRequest(
            backup=options["backup"],
            everything=options["everything"],
            databases=names_in(options["database"]),
            locations=names_in(options["location"]),
            level="application" if options["probe"] else options["level"],
            keep=options["keep"],
        )
        results: list[VerificationResult] = []
        for result in verify_backups(environment, request):
            environment.reporter.finish(str(result.outcome))
            results.append(result)
            signals.backup_verified.send(sender=type(self), result=result)
            if not options["json"]:
                self._show(result, quiet=options["quiet"])
        if options["json"]:
            self.print_json({"verifications": [_data(result) for result in results]})
        elif len(results) > 1:
            passed = sum(result.outcome is Outcome.PASSED for result in results)
            self.stdout.write(f"{passed} of {len(results)} verifications passed.")
        return worst_exit_code(results)

    def _show(self, result: VerificationResult, *, quiet: bool) -> None:
        passed = result.outcome is Outcome.PASSED
        if passed and quiet:
            return
        for line in lines_of(result, width=terminal_width()):
            self.stdout.write(line)
        if not passed:
            self.stderr.write(
                f"{result.name}: {result.outcome} (exit {result.exit_code}). {result.error or ''}".rstrip()
            )


def _data(result: VerificationResult) -> dict[str, object]:
    """The result for machines."""
    tables = result.figures.tables if result.figures else ()
    return {
        "backup": result.name,
        "outcome": result.outcome,
        "exit_code": result.exit_code,
        "level": result.level,
        "reached": result.reached,
        "location": result.location,
        "restore_milliseconds": result.restore_milliseconds,
        "total_milliseconds": result.total_milliseconds,
        "error": error_data(result.error) if result.error else None,
        "findings": result.findings,
        "measurements": result.measurements,
        "rows_found": {table.label: table.rows for table in tables},
        "kept": result.kept,
    }
