"""``manage.py importbackup``: take archives that were made elsewhere into the locations."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from erp_backup.conf import LocationConfig
from erp_backup.core.errors import BackupError, UsageError
from erp_backup.core.units import format_size
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations import location_for
from erp_backup.locations.base import Location
from erp_backup.management.base import BackupCommand, error_data, names_in
from erp_backup.services.environment import Environment
from erp_backup.services.importing.run import ImportRequest, ImportResult, exit_code, import_archives

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Command(BackupCommand):
    """Imports, says under which name, and exits 0 only when all of it was imported (or had been before)."""

    help = "Import archives of pg_dump, sqlite3, shell scripts and django-dbbackup, so that they can be verified."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what is brought, and what is known of it."""
        super().add_arguments(parser)
        parser.add_argument("file", nargs="?", default="", help="an archive: SQL, pg_dump -Fc, or a file of SQLite")
        parser.add_argument("--from", dest="source", help="a location or STORAGES alias: all that is new in it")
        parser.add_argument("-d", "--database", default="", help="the alias it is a backup of (default: the only one)")
        parser.add_argument("--name", default="", help="how its new name begins (default: as for backups)")
        parser.add_argument("--taken-at", help="when its state was taken, as 2026-01-05T12:00:00+01:00")
        parser.add_argument("--location", help="where it goes: location aliases, separated by commas (default: all)")
        parser.add_argument("--max-size", help="how large it may become unpacked, as 20G (default: 100 times the file)")

    def work(self, environment: Environment, **options: Any) -> int:
        """Import one by one, showing each result as it comes."""
        request = _request(environment, options)
        results: list[ImportResult] = []
        for result in import_archives(environment, request):
            environment.reporter.finish("refused" if result.error else "done")
            results.append(result)
            if not options["json"]:
                self._show(result, quiet=options["quiet"])
        if options["json"]:
            self.print_json({"imports": [_data(result) for result in results]})
        elif not results and not options["quiet"]:
            self.stdout.write("There is nothing to import.")
        return exit_code(results)

    def _show(self, result: ImportResult, *, quiet: bool) -> None:
        if result.error is not None:
            self.stderr.write(f"REFUSED {result.error}")
        elif result.manifest is None:
            self._say(f"Skipped {result.source}: {result.reason}.", quiet=quiet)
        else:
            manifest = result.manifest
            self._say(
                f"Imported {result.source} ({result.title}, {format_size(manifest.archive.uncompressed_size)}) "
                f"as {manifest.id}.",
                quiet=quiet,
            )
            for line in (*result.paths, *result.notes, f"Look at it: manage.py verifybackup {manifest.id}"):
                self._say(f"  {line}", quiet=quiet)
        for problem in result.problems:
            self.stderr.write(f"  {problem}")

    def _say(self, text: str, *, quiet: bool) -> None:
        if not quiet:
            self.stdout.write(text)


def _request(environment: Environment, options: dict[str, Any]) -> ImportRequest:
    if bool(options["file"]) == bool(options["source"]):
        raise UsageError("Name a file, or a location with --from; one of them.")
    if options["source"] and options["taken_at"]:
        raise UsageError("--taken-at is about one archive.", remedy="Import its file by itself.")
    return ImportRequest(
        path=Path(options["file"]) if options["file"] else None,
        source=_location(environment, options["source"]) if options["source"] else None,
        database=options["database"],
        name=options["name"],
        taken_at=_moment(options["taken_at"]) if options["taken_at"] else None,
        locations=names_in(options["location"]),
        max_size=_size(options["max_size"]) if options["max_size"] else None,
    )


def _location(environment: Environment, alias: str) -> Location:
    """A configured location, or else any ``STORAGES`` alias. Raises ConfigurationError."""
    try:
        return environment.location(alias)
    except ConfigurationError:
        return location_for(LocationConfig(alias=alias, storage=alias))


def _moment(text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise UsageError(f"{text!r} is no time.", remedy="Write it as 2026-01-05T12:00:00+01:00.")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size.", remedy="Write it as 500M or 20G.")
    return int(match[1]) * _UNITS[match[2].upper()]


def _data(result: ImportResult) -> dict[str, object]:
    """The result for machines."""
    manifest, error = result.manifest, result.error
    outcome = "refused" if error else "imported" if manifest else "skipped"
    return {
        "source": result.source,
        "outcome": outcome,
        "title": result.title,
        "id": manifest.id if manifest else "",
        "database": manifest.database.alias if manifest else "",
        "kind": manifest.kind if manifest else "",
        "format": manifest.format if manifest else "",
        "taken_at": manifest.taken_at if manifest else None,
        "archive": manifest.archive if manifest else None,
        "origin": manifest.origin if manifest else None,
        "paths": result.paths,
        "reason": result.reason,
        "notes": result.notes,
        "problems": result.problems,
        "error": error_data(error) if isinstance(error, BackupError) else None,
    }
