"""``manage.py dbrestore``: put a proven state in the live database's place, or beside it. Never into it.

Accepts every option of django-dbbackup's command of that name.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from erp_backup import signals
from erp_backup.core.errors import RefusedError, UsageError
from erp_backup.engines.base import Replaced
from erp_backup.management.base import BackupCommand, add_foreign_arguments, foreign_rules, names_in
from erp_backup.management.confirming import require_confirmation
from erp_backup.management.restored import data_of, lines_of, lines_of_plan, lines_of_replaced, plan_data
from erp_backup.management.tables import plain, terminal_width
from erp_backup.models import RestoreTarget
from erp_backup.services import compat
from erp_backup.services.environment import Environment
from erp_backup.services.restoring import flow, rollback
from erp_backup.services.restoring.planning import plan_restore
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest, RestoreResult

# What pg_restore may be told and what is done here anyhow, or need not be done beside the live database.
_HARMLESS = {
    "--clean", "-c", "--if-exists", "--no-owner", "-O", "--no-privileges", "--no-acl", "-x", "--single-transaction",
    "-1", "--exit-on-error", "-e", "--verbose", "-v",
}  # fmt: skip


class Command(BackupCommand):
    """Restores beside the live database, verifies there, and switches in one atomic step. Enter is no."""

    help = "Restore a backup: beside the live database, verified there, and only then put in its place."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to restore, where to, and django-dbbackup's options."""
        super().add_arguments(parser)
        which = parser.add_argument_group("which backup (default: the newest good one)")
        which.add_argument(
            "backup", nargs="?", default="", help="its name, or its archive's ('listbackups' shows them)"
        )
        which.add_argument("--latest", action="store_true", help="the newest good one")
        which.add_argument("--before", metavar="TIME", help="the newest good one from before this time")
        which.add_argument("-i", "--input-filename", metavar="NAME", help="the archive's name in its location")
        which.add_argument("-I", "--input-path", metavar="PATH", help="an archive outside the locations")
        which.add_argument("-s", "--servername", default="", help="only backups with this in their name")
        which.add_argument("--from", dest="location", metavar="LOCATION", help="only copies in these locations")
        where = parser.add_argument_group("where it goes (default: --switch)")
        where.add_argument("-d", "--database", help="the database alias (default: the only one)")
        where.add_argument("--switch", action="store_true", help="in the live database's place; that one is kept")
        where.add_argument(
            "--into",
            metavar="NAME|URL",
            default="",
            help="a new database, which stays: a name, postgresql://user@host:port/name, or env:VARIABLE with that",
        )
        where.add_argument(
            "--in-place",
            action="store_true",
            help="into the live database, in one transaction: for servers that forbid renaming; nothing of it is kept",
        )
        where.add_argument("--tables", default="", help="only these tables, into the live database")
        where.add_argument("--rollback", nargs="?", const="", metavar="NAME", help="take the last switch back")
        where.add_argument("--replaced", action="store_true", help="list the databases that switches have put aside")
        where.add_argument("--release", metavar="NAME", help="delete a replaced database for good")
        parser.add_argument("--migrate", action="store_true", help="migrate the restored state to the code's schema")
        parser.add_argument(
            "--as-superuser", metavar="REASON", help="restore as a superuser of the server all the same"
        )
        parser.add_argument("--dry-run", action="store_true", help="the whole preflight and plan; nothing is changed")
        parser.add_argument("--no-safety-backup", action="store_false", dest="safety_backup", help="take none before")
        parser.add_argument("--no-maintenance", action="store_false", dest="maintenance", help="leave the web open")
        add_foreign_arguments(parser)
        self._add_theirs(parser)

    @staticmethod
    def _add_theirs(parser: ArgumentParser) -> None:
        theirs = parser.add_argument_group("django-dbbackup's")
        theirs.add_argument("-c", "--decrypt", action="store_true", help="done whenever the archive is encrypted")
        theirs.add_argument("-z", "--uncompress", action="store_true", help="done whenever the archive is compressed")
        theirs.add_argument("-p", "--passphrase", help="refused: every user of this machine could read it")
        theirs.add_argument("-n", "--schema", action="append", default=[], help="only the tables of this schema")
        theirs.add_argument(
            "-r", "--no-drop", action="store_true", help="always so: nothing of the live one is dropped"
        )
        theirs.add_argument("--pg-options", default="", help="options that are harmless beside the live database")

    def work(self, environment: Environment, **options: Any) -> int:
        """List, release, take back, plan or restore."""
        _require_safe(options)
        environment = replace(environment, foreign=foreign_rules(options))
        alias = _alias(environment, options["database"])
        if options["replaced"]:
            return self._list(environment.engine(alias).list_replaced(), as_json=options["json"])
        if options["release"]:
            return self._release(environment, alias, options)
        if options["rollback"] is not None:
            return self._roll_back(environment, alias, options)
        request = _request(alias, options)
        plan = plan_restore(environment, environment.engine(alias), request)
        if options["dry_run"]:
            return self._show_plan(plan, options)
        if not options["json"] and (options["interactive"] or not options["quiet"]):  # who is asked sees for what
            self._write(lines_of_plan(plan, width=terminal_width()))
        plan.require_possible()
        require_confirmation(self, environment.engine(alias).database.name, interactive=options["interactive"])
        return self._show(flow.restore(environment, request, expected=plan.backup.name), environment, options)

    def _show(self, result: RestoreResult, environment: Environment, options: dict[str, Any]) -> int:
        environment.reporter.finish("partial" if result.problems else "done")
        compat.send(environment, signals.backup_restored, sender=type(self), result=result)
        if options["json"]:
            self.print_json(data_of(result))
        elif not options["quiet"]:
            self._write(lines_of(result, width=terminal_width()))
        for problem in result.problems:
            self.stderr.write(plain(problem))
        return result.exit_code

    def _roll_back(self, environment: Environment, alias: str, options: dict[str, Any]) -> int:
        engine = environment.engine(alias)
        earlier = None if options["dry_run"] else rollback.complete_earlier(environment, alias)
        if earlier is not None:
            return self._show(earlier, environment, options)
        replaced = rollback.find_replaced(engine, options["rollback"])
        at = f"{replaced.replaced_at:%Y-%m-%d %H:%M:%S} UTC"
        done = f"Takes {replaced.name} back, which was replaced at {at}. What is live now is kept in its turn."
        self._announce(done, {"rollback": replaced}, options)
        if options["dry_run"]:
            return 0
        require_confirmation(self, engine.database.name, interactive=options["interactive"])
        return self._show(rollback.roll_back(environment, alias, replaced.name), environment, options)

    def _release(self, environment: Environment, alias: str, options: dict[str, Any]) -> int:
        replaced = rollback.find_replaced(environment.engine(alias), options["release"])
        self._announce(f"Deletes {replaced.name} for good.", {"release": replaced}, options)
        if options["dry_run"]:
            return 0
        require_confirmation(self, replaced.name, interactive=options["interactive"])
        rollback.release(environment, alias, replaced.name)
        if options["json"]:
            self.print_json({"released": replaced})
        elif not options["quiet"]:
            self.stdout.write(plain(f"Released {replaced.name}."))
        return 0

    def _announce(self, text: str, data: dict[str, object], options: dict[str, Any]) -> None:
        """Say what is going to be done to a replaced database; as JSON only where it is all that is said."""
        if options["json"]:
            if options["dry_run"]:
                self.print_json(data)
        elif options["interactive"] or not options["quiet"]:
            self.stdout.write(plain(text))
            if options["dry_run"]:
                self.stdout.write("Nothing was changed.")

    def _list(self, kept: list[Replaced], *, as_json: bool) -> int:
        if as_json:
            self.print_json({"replaced": kept})
        elif kept:
            self._write(lines_of_replaced(kept, width=terminal_width()))
        else:
            self.stdout.write("No database was replaced, or none is kept.")
        return 0

    def _show_plan(self, plan: RestorePlan, options: dict[str, Any]) -> int:
        if options["json"]:
            self.print_json(plan_data(plan))
        else:
            self._write(lines_of_plan(plan, width=terminal_width()))
            self._write(["Nothing was changed." if plan.is_possible else "It is not possible; nothing was changed."])
        failed = [problem for problem in plan.problems if problem.severity == "failed"]
        return failed[0].error.exit_code if failed else 0

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)


def _alias(environment: Environment, given: str | None) -> str:
    if given:
        environment.config.database(given)
        return given
    aliases = [database.alias for database in environment.config.databases]
    if len(aliases) == 1:
        return aliases[0]
    raise UsageError("There are several databases.", remedy=f"Name one with --database: {', '.join(aliases)}.")


def _request(alias: str, options: dict[str, Any]) -> RestoreRequest:
    targets = {
        RestoreTarget.INTO: bool(options["into"]),
        RestoreTarget.TABLES: bool(options["tables"] or options["schema"]),
        RestoreTarget.SWITCH: options["switch"],
        RestoreTarget.IN_PLACE: options["in_place"],
    }
    chosen = [target for target, is_chosen in targets.items() if is_chosen] or [RestoreTarget.SWITCH]
    if len(chosen) > 1:
        raise UsageError(
            "It can go to one place only.", remedy="Give one of --switch, --into, --in-place and --tables."
        )
    if options["latest"] and (options["backup"] or options["before"] or options["input_filename"]):
        raise UsageError("--latest and another choice are given.", remedy="Give one of them.")
    return RestoreRequest(
        database=alias,
        backup=options["backup"] or options["input_filename"] or "",
        path=Path(options["input_path"]) if options["input_path"] else None,
        before=_time(options["before"]) if options["before"] else None,
        server_name=options["servername"] or "",
        locations=names_in(options["location"]),
        target=chosen[0],
        into=options["into"],
        tables=names_in(options["tables"]),
        schemas=tuple(options["schema"]),
        migrate=options["migrate"],
        waivers={"superuser": options["as_superuser"]} if options["as_superuser"] else {},
        safety_backup=options["safety_backup"],
        maintenance=options["maintenance"],
    )


def _time(text: str) -> datetime:
    """A time as people write it, in the project's time zone where it names none. Raises UsageError."""
    try:
        moment = parse_datetime(text)
        day = None if moment else parse_date(text)
    except ValueError:
        moment = day = None
    if day is not None:
        moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - made aware below
    if moment is None:
        raise UsageError(f"{text!r} is no time.", remedy="Write 2026-01-05 or '2026-01-05 12:00'.")
    return timezone.make_aware(moment, timezone.get_default_timezone()) if timezone.is_naive(moment) else moment


def _require_safe(options: dict[str, Any]) -> None:
    """Refuse what would endanger something. Raises RefusedError."""
    if options["passphrase"]:
        raise RefusedError(
            "A passphrase on the command line can be read by every user of this machine.",
            remedy="Keys are named in ERP_BACKUP['ENCRYPTION']; an archive of gpg's is taken by importbackup.",
        )
    strange = [word for word in shlex.split(options["pg_options"]) if word not in _HARMLESS]
    if strange:
        raise RefusedError(
            f"--pg-options {strange[0]} is not taken: what is restored is the whole state, and is compared with it.",
            remedy="Leave it out; --tables and --into choose what is restored, and where to.",
        )
