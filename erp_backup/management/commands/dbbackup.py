"""``manage.py dbbackup``: back databases up. Accepts every option of django-dbbackup's command of that name."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from erp_backup.conf import CompressionConfig
from erp_backup.core.errors import BackupError, PartialError, UsageError
from erp_backup.core.units import format_count, format_duration, format_size
from erp_backup.management.base import BackupCommand, error_data, names_in
from erp_backup.services.backup import BackupRequest, BackupResult, Plan, plan_backup
from erp_backup.services.backups import back_up_databases
from erp_backup.services.environment import Environment


class Command(BackupCommand):
    """Backs up, says what it made and where it is, and exits 0 only when all of it was done."""

    help = "Back up databases, with figures that prove every restore of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add our options and django-dbbackup's."""
        super().add_arguments(parser)
        parser.add_argument("-d", "--database", help="database aliases, separated by commas (default: as configured)")
        parser.add_argument("--kind", default="full", help="full (default), schema or data")
        parser.add_argument("--format", default="", help="custom or plain (PostgreSQL), sqlite3 or sql (SQLite)")
        parser.add_argument("--location", help="location aliases, separated by commas (default: all)")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done and what would go wrong")
        parser.add_argument("-c", "--clean", action="store_true", help="delete old backups afterwards, as configured")
        parser.add_argument("-s", "--servername", default="", help="a server name to put into the archive's name")
        parser.add_argument("-z", "--compress", action="store_true", default=None, help="compress (the default)")
        parser.add_argument("-e", "--encrypt", action="store_true", default=None, help="encrypt, or fail")
        parser.add_argument("-o", "--output-filename", default="", help="the archive's name")
        parser.add_argument("-O", "--output-path", help="a folder, or a file in one, instead of the locations")
        parser.add_argument("-x", "--exclude-tables", help="tables whose rows stay out, separated by commas")
        parser.add_argument("-n", "--schema", action="append", default=[], help="only this schema (may be repeated)")

    def work(self, environment: Environment, **options: Any) -> int:
        """Back up every database asked for; one that fails does not keep the others from being backed up."""
        requests = self._requests(environment, options)
        if options["compress"] and environment.config.compression.method == "none":
            # Who asks for compression gets the usual one, whatever is done when nobody asks.
            environment = replace(environment, config=replace(environment.config, compression=CompressionConfig()))
        if options["dry_run"]:
            return self._show_plans([plan_backup(environment, request) for request in requests], options)
        outcomes = back_up_databases(environment, requests, clean=options["clean"], sender=type(self))
        results = [outcome for outcome in outcomes if isinstance(outcome, BackupResult)]
        errors = [outcome for outcome in outcomes if isinstance(outcome, BackupError)]
        if options["json"]:
            self.print_json(
                {"backups": [_data(result) for result in results], "errors": [error_data(error) for error in errors]}
            )
        else:
            self._show(results, errors, options)
        return _exit_code(results, errors)

    @staticmethod
    def _requests(environment: Environment, options: dict[str, Any]) -> list[BackupRequest]:
        aliases = names_in(options["database"]) or tuple(d.alias for d in environment.config.databases)
        folder, name = _place(options["output_path"], options["output_filename"])
        if name and len(aliases) > 1:
            raise UsageError(
                f"One name cannot be given to the backups of {len(aliases)} databases.",
                remedy="Choose one with --database.",
            )
        return [
            BackupRequest(
                database=alias,
                kind=options["kind"],
                format=options["format"],
                locations=names_in(options["location"]),
                output_path=folder,
                output_name=name,
                server_name=options["servername"] or "",
                excluded_tables=names_in(options["exclude_tables"]),
                schemas=tuple(options["schema"] or ()),
                compress=options["compress"] or None,
                encrypt=options["encrypt"] or None,
            )
            for alias in dict.fromkeys(aliases)
        ]

    def _show_plans(self, plans: list[Plan], options: dict[str, Any]) -> int:
        if options["json"]:
            self.print_json({"plans": [_plan_data(plan) for plan in plans]})
        for plan in [] if options["json"] else plans:
            codecs = " > ".join(plan.codecs) or "as it is"
            self.stdout.write(
                f"Would back up {plan.database}: {plan.kind}, {plan.format}, {codecs}, to {', '.join(plan.locations)}."
            )
            for table in plan.excluded_tables:
                self.stdout.write(f"  without the rows of {table}")
            for problem in plan.problems:
                self.stdout.write(f"  {problem.severity}: {problem.message} {problem.remedy}".rstrip())
        if any(not plan.is_possible for plan in plans):
            first = next(problem for plan in plans for problem in plan.problems if problem.severity == "failed")
            return first.error.exit_code
        return 0

    def _show(self, results: list[BackupResult], errors: list[BackupError], options: dict[str, Any]) -> None:
        for result in results:
            if not options["quiet"]:
                self.stdout.write(_sentence(result))
                for path in result.paths:
                    self.stdout.write(f"  {path}")
                proof = f"Prove it: manage.py verifybackup {result.manifest.id}"
                aside = "It is in no location: 'listbackups' and 'verifybackup' do not look there."
                self.stdout.write(f"  {aside if options['output_path'] else proof}")
            for measurement in result.failed_measurements:
                self.stderr.write(f"  model check {measurement.check}: {measurement.error}")
            for problem in result.problems:
                self.stderr.write(f"  {problem}")
        for error in errors:
            self.stderr.write(f"{type(error).__name__}: {error}")


def _place(path: str | None, name: str | None) -> tuple[Path | None, str]:
    """Return the folder to store in, if one was named, and the archive's name, if one was.

    django-dbbackup takes a file's path: one that looks like a file's (``/mnt/today.dump``) and is no folder is
    understood so. Raises UsageError.
    """
    if not path:
        return None, name or ""
    if "://" in path:
        raise UsageError(
            f"{path!r} is no folder.", remedy="Configure such a place as a location and name it with --location."
        )
    place = Path(path)
    if path.endswith("/") or place.is_dir() or not place.suffix:
        return place, name or ""
    if name:
        raise UsageError(
            f"Two names are given: {place.name!r} and {name!r}.", remedy="Let --output-path name a folder."
        )
    return place.parent, place.name


def _sentence(result: BackupResult) -> str:
    manifest = result.manifest
    tables = manifest.figures.tables
    duration = format_duration(timedelta(milliseconds=manifest.durations["total"]))
    return (
        f"Backed up {manifest.database.alias} as {manifest.id}: {format_count(len(tables))} tables, "
        f"{format_count(sum(table.rows for table in tables))} rows, {len(manifest.measurements)} model checks, "
        f"{format_size(manifest.archive.size)}, {duration}."
    )


def _exit_code(results: list[BackupResult], errors: list[BackupError]) -> int:
    """The first failure's own code; when other databases were backed up all the same, it is a partial run."""
    if errors and results:
        return PartialError.exit_code
    if errors:
        return errors[0].exit_code
    return max((result.exit_code for result in results), default=0)


def _data(result: BackupResult) -> dict[str, object]:
    """The result for machines: the manifest says the rest."""
    manifest = result.manifest
    return {
        "id": manifest.id,
        "database": manifest.database.alias,
        "kind": manifest.kind,
        "format": manifest.format,
        "number": manifest.number,
        "taken_at": manifest.taken_at,
        "archive": manifest.archive,
        "paths": result.paths,
        "locations": result.locations,
        "tables": len(manifest.figures.tables),
        "rows": sum(table.rows for table in manifest.figures.tables),
        "model_checks": {m.check: m.error or m.value for m in manifest.measurements},
        "durations": manifest.durations,
        "problems": result.problems,
        "exit_code": result.exit_code,
    }


def _plan_data(plan: Plan) -> dict[str, object]:
    return {
        "database": plan.database,
        "kind": plan.kind,
        "format": plan.format,
        "codecs": plan.codecs,
        "locations": plan.locations,
        "excluded_tables": plan.excluded_tables,
        "problems": [{"severity": str(p.severity), "message": p.message, "remedy": p.remedy} for p in plan.problems],
        "is_possible": plan.is_possible,
    }
