"""``manage.py listbackups``: what there is, as the manifests in the locations say.

Accepts every option of django-dbbackup's command of that name.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from erp_backup.core.codecs.age import Age
from erp_backup.core.errors import CorruptError
from erp_backup.core.units import format_age, format_count, format_size
from erp_backup.management.base import BackupCommand, names_in
from erp_backup.management.tables import render, terminal_width
from erp_backup.services import catalog
from erp_backup.services.catalog import Entry, Found
from erp_backup.services.environment import Environment
from erp_backup.services.proofs import Proof, proofs

_HEADINGS = ("Backup", "Database", "Kind", "State of (UTC)", "Age", "Rows", "Size", "Proof", "Locations")
_WIDE = 130  # columns of a terminal that shows all of them
_NARROW_COLUMNS = (0, 4, 6, 7)


class Command(BackupCommand):
    """Lists backups, newest first; whatever cannot be believed is listed too, with the reason."""

    help = "List the backups in all locations, and how well each is proven."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add our filters and django-dbbackup's."""
        super().add_arguments(parser)
        parser.add_argument("-d", "--database", help="only these database aliases, separated by commas")
        parser.add_argument("--location", help="only these locations, separated by commas")
        for flags, destination, value, text in _FLAGS:
            parser.add_argument(
                *flags, dest=destination, action="store_const", const=value, default=None, help=f"only {text} ones"
            )
        parser.add_argument(
            "-c", "--content-type", choices=("db", "media"), help="db: the same; media: what mediabackup has stored"
        )

    def work(self, environment: Environment, **options: Any) -> int:
        """Show the list; a manifest that cannot be believed makes the exit code 5 (or 8)."""
        if options["content_type"] == "media":
            return self._show_media(options)
        locations = [environment.location(alias) for alias in names_in(options["location"])] or None
        entries = catalog.read_all(environment, locations)
        found = [backup for backup in catalog.group(entries) if _is_wanted(backup, options)]
        broken = [entry for entry in entries if entry.error is not None]
        proven = proofs([backup.name for backup in found])
        if options["json"]:
            self.print_json({"backups": [_data(b, proven) for b in found], "unreadable": [_broken(e) for e in broken]})
        else:
            self._show(environment, found, proven, quiet=options["quiet"])
            for entry in broken:
                self.stderr.write(f"UNREADABLE {entry.name} in {entry.location.alias!r}: {entry.error}")
        codes = [entry.error.exit_code for entry in broken if entry.error is not None]
        return CorruptError.exit_code if CorruptError.exit_code in codes else max(codes, default=0)

    def _show_media(self, options: dict[str, Any]) -> int:
        """Archives of media files are django-dbbackup's own: its own command lists them, here as there."""
        command = import_module("dbbackup.management.commands.listbackups").Command(stdout=self.stdout)
        command.storage = import_module("dbbackup.storage").get_storage()
        if options["json"]:
            self.print_json({"media": command.get_backup_attrs(options)})
        else:
            command.handle(**options)
        return 0

    def _show(self, environment: Environment, found: list[Found], proven: dict[str, Proof], *, quiet: bool) -> None:
        if not found:
            if not quiet:
                self.stdout.write("No such backup. Make one: manage.py dbbackup")
            return
        rows = [_row(backup, proven, environment) for backup in found]
        # Names are what the next command needs: they are never cut; a narrow terminal gets fewer columns instead.
        columns = range(len(_HEADINGS)) if terminal_width() >= _WIDE else _NARROW_COLUMNS
        headings = [_HEADINGS[column] for column in columns]
        right = frozenset(index for index, column in enumerate(columns) if _HEADINGS[column] in {"Rows", "Size"})
        cells = [[row[column] for column in columns] for row in rows]
        lines = render(headings, cells, right=right, whole=frozenset({0}), width=terminal_width())
        for line in lines[2:] if quiet else lines:
            self.stdout.write(line)


# django-dbbackup's filters: flags, destination, value, what is shown.
_FLAGS: Iterable[tuple[tuple[str, str], str, bool, str]] = (
    (("-z", "--compressed"), "compressed", True, "compressed"),
    (("-Z", "--not-compressed"), "compressed", False, "uncompressed"),
    (("-e", "--encrypted"), "encrypted", True, "encrypted"),
    (("-E", "--not-encrypted"), "encrypted", False, "unencrypted"),
)


def _is_wanted(backup: Found, options: dict[str, Any]) -> bool:
    manifest = backup.manifest
    codecs = set(manifest.archive.codecs)
    aliases = names_in(options["database"])
    return (
        (not aliases or manifest.database.alias in aliases)
        and options["compressed"] in {None, bool(codecs - {Age.name})}
        and options["encrypted"] in {None, Age.name in codecs}
    )


def _row(backup: Found, proven: dict[str, Proof], environment: Environment) -> tuple[str, ...]:
    manifest = backup.manifest
    return (
        backup.name,
        manifest.database.alias,
        manifest.kind,
        f"{manifest.taken_at:%Y-%m-%d %H:%M}",
        format_age(environment.clock.now() - manifest.taken_at),
        "" if manifest.is_foreign else format_count(sum(table.rows for table in manifest.figures.tables)),
        format_size(manifest.archive.size),
        _proof(backup, proven),
        ", ".join(copy.location.alias for copy in backup.copies),
    )


def _proof(backup: Found, proven: dict[str, Proof]) -> str:
    """An imported archive can only be found bad: there is nothing that would prove it good."""
    proof = proven[backup.name]
    if backup.manifest.is_foreign:
        return f"imported, {proof}" if proof is Proof.FAILED else "imported, no figures"
    return str(proof)


def _data(backup: Found, proven: dict[str, Proof]) -> dict[str, object]:
    manifest = backup.manifest
    return {
        "id": manifest.id,
        "number": manifest.number,
        "database": manifest.database.alias,
        "kind": manifest.kind,
        "format": manifest.format,
        "taken_at": manifest.taken_at,
        "archive": manifest.archive,
        "rows": sum(table.rows for table in manifest.figures.tables),
        "proof": proven[backup.name],
        "is_imported": manifest.is_foreign,
        "locations": [copy.location.alias for copy in backup.copies],
    }


def _broken(entry: Entry) -> dict[str, object]:
    return {"name": entry.name, "location": entry.location.alias, "error": str(entry.error)}
