"""``manage.py recoverrows``: bring deleted rows back from a backup, and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from erp_backup.management.base import BackupCommand
from erp_backup.management.confirming import require_confirmation
from erp_backup.management.rowsreport import lines_of_plan, lines_of_result
from erp_backup.management.tables import terminal_width
from erp_backup.services.environment import Environment
from erp_backup.services.rows.recovering import recover_rows
from erp_backup.services.rows.request import RowsPlan, RowsRequest, RowsResult


class Command(BackupCommand):
    """Shows what is missing, and puts it back only with --apply and a confirmation."""

    help = "Find rows of a model that a backup has and the live database has not, and bring them back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add which rows, and what is to be done with them."""
        super().add_arguments(parser)
        parser.add_argument("backup", help="a backup, as 'listbackups' shows it")
        parser.add_argument("model", help="the model whose rows are missing: app.Model")
        parser.add_argument("--pk", action="append", default=[], help="only this primary key (may be repeated)")
        parser.add_argument(
            "--where",
            action="append",
            default=[],
            help="only rows with FIELD=VALUE, in Django's lookups (may be repeated)",
        )
        parser.add_argument("--with-dependents", action="store_true", help="bring rows that referred to them, too")
        parser.add_argument("--changed", action="store_true", help="show rows that have changed since, too")
        parser.add_argument("--overwrite-changed", action="store_true", help="put changed rows back as they were")
        parser.add_argument(
            "--skip-conflicts", action="store_true", help="leave out rows that others are in the way of"
        )
        parser.add_argument("--export", type=Path, help="write the missing rows to a new file, .sql or .csv")
        parser.add_argument("--apply", action="store_true", help="bring the rows back (otherwise nothing is changed)")
        parser.add_argument("--with-signals", action="store_true", help="send post_save for each row, afterwards")
        parser.add_argument("--no-safety-backup", action="store_true", help="make no backup before rows are written")

    def work(self, environment: Environment, **options: Any) -> int:
        """Find, show, ask, apply."""
        shown = options["json"] or options["quiet"]

        def confirm(plan: RowsPlan) -> None:
            """Show what would be done before the question."""
            if not shown:
                self._write(list(lines_of_plan(plan, width=terminal_width())))
            require_confirmation(self, plan.destination, interactive=options["interactive"])

        result = recover_rows(environment, _request(options), confirm)
        environment.reporter.finish("done")
        if options["json"]:
            self.print_json(_data(result))
        elif not options["quiet"]:
            self._show(result)
        for problem in result.problems:
            self.stderr.write(f"  {problem}")
        return result.exit_code

    def _show(self, result: RowsResult) -> None:
        width = terminal_width()
        if not result.applied:
            self._write(list(lines_of_plan(result.plan, width=width)))
        self._write(list(lines_of_result(result, width=width)))

    def _write(self, lines: list[str]) -> None:
        for line in lines:
            self.stdout.write(line)


def _request(options: dict[str, Any]) -> RowsRequest:
    return RowsRequest(
        backup=options["backup"],
        model=options["model"],
        keys=tuple(options["pk"]),
        where=tuple(options["where"]),
        changed=options["changed"],
        overwrite_changed=options["overwrite_changed"],
        with_dependents=options["with_dependents"],
        skip_conflicts=options["skip_conflicts"],
        export=options["export"],
        apply=options["apply"],
        with_signals=options["with_signals"],
        safety_backup=not options["no_safety_backup"],
    )


def _data(result: RowsResult) -> dict[str, object]:
    """The result for machines."""
    plan = result.plan
    return {
        "applied": result.applied,
        "backup": plan.backup,
        "database": plan.database,
        "model": plan.model,
        "selected": plan.selected,
        "missing": {rows.model: rows.count for rows in plan.models},
        "plan": plan,
        "overwritten": plan.overwritten if result.applied else 0,
        "restore": result.restore,
        "safety_backup": result.safety_backup,
        "exported": result.exported,
        "exported_rows": result.exported_rows,
        "checks": result.checks,
        "problems": result.problems,
        "exit_code": result.exit_code,
    }
