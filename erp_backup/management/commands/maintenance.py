"""``manage.py maintenance``: close the ERP, open it, or say which it is."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from erp_backup.management.base import BackupCommand
from erp_backup.services import maintenance
from erp_backup.services.environment import Environment
from erp_backup.services.maintenance import Maintenance


class Command(BackupCommand):
    """Sets maintenance mode; needs no database."""

    help = "Turn maintenance mode on or off, or say whether it is on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to do, and the reason that people are told."""
        super().add_arguments(parser)
        parser.add_argument("action", choices=("on", "off", "status"), help="what to do")
        parser.add_argument("--reason", default="", help="what the page tells people (with on)")

    def work(self, environment: Environment, **options: Any) -> int:
        """Do it and tell the state that then holds. Raises UsageError where the file cannot be changed."""
        if options["action"] == "on":
            maintenance.enter(environment, reason=options["reason"])
        elif options["action"] == "off":
            maintenance.leave(environment)
        found = maintenance.state(environment.config)
        if options["json"]:
            self.print_json(_data(found))
        elif not options["quiet"]:
            self.stdout.write(maintenance.described(found))
        warning = maintenance.warning_about(found)
        if warning and not options["json"]:
            self.stderr.write(warning)
        return 0


def _data(found: Maintenance | None) -> dict[str, object]:
    if found is None:
        return {"maintenance": "off"}
    return {
        "maintenance": "on",
        "reason": found.reason,
        "since": found.since,
        "until": found.until,
        "by": found.by,
        "owner": found.owner,
        "stale": found.is_stale,
    }
