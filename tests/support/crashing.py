"""A backup that dies at a chosen moment: `python -m tests.support.crashing EVENT SIGNAL`, or `count` to count them.

The moments are the calls of the reporter: every phase, every chunk of the dump, the end; EVENT may be a phase's name.
The reporter is one of the things that a run's environment takes from outside. `EVENT SIGNAL COMMAND ...` and
`count COMMAND ...` do the same with a command of ours; counting prints the names of the moments. There are more of them
where no phase begins: when an engine has switched, when it has settled that, when tables were written.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import django


class Dying:
    """Sends this process a signal at its n-th call, or at the first of that name; counts the calls otherwise."""

    def __init__(self, event: int | str, number: int) -> None:
        self._event = event
        self._number = number
        self.names: list[str] = []

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self.names)

    def _call(self, name: str) -> None:
        self.names.append(name)
        if self._event in {name, self.calls}:
            os.kill(os.getpid(), self._number)

    def phase(self, name: str, *, total: int | None = None) -> None:
        """Count a phase."""
        self._call(name)

    def advance(self, _amount: int, _unit: str = "bytes") -> None:
        """Count a chunk."""
        self._call("chunk")

    def note(self, text: str) -> None:
        """Count nothing: notes are about what was found, not about what is done."""

    def warning(self, text: str) -> None:
        """Count nothing."""

    def finish(self, _outcome: str) -> None:
        """Count the end."""
        self._call("end")


def told(step: Callable[..., Any], name: str, reporter: Dying) -> Callable[..., Any]:
    """Return ``step``, after which the reporter is told of it: no phase begins there."""

    def done(*arguments: Any, **options: Any) -> Any:
        result = step(*arguments, **options)
        reporter.phase(name)
        return result

    return done


def command(reporter: Dying, arguments: list[str]) -> None:
    """Run a command of ours to its end, if it comes to that."""
    from django.core.management import execute_from_command_line

    from erp_backup.engines.postgresql import PostgreSQL
    from erp_backup.engines.sqlite import SQLite
    from erp_backup.management import base
    from erp_backup.services import tables

    for engine in (PostgreSQL, SQLite):
        for step, said in (("switch", "switched"), ("switch_back", "switched"), ("settle_switch", "settled")):
            setattr(engine, step, told(getattr(engine, step), said, reporter))
    tables.restore_tables = told(tables.restore_tables, "tables written", reporter)
    base.choose_reporter = lambda *_, **__: reporter
    execute_from_command_line(["manage.py", *arguments])
    sys.stdout.write(json.dumps(reporter.names))


def backup(reporter: Dying) -> int:
    """Back the default database up and return the command's exit code."""
    django.setup()
    from erp_backup.core.errors import BackupError
    from erp_backup.core.interrupts import signals_as_exceptions
    from erp_backup.services.backup import BackupRequest
    from erp_backup.services.backups import back_up_databases
    from erp_backup.services.environment import build_environment

    try:
        with signals_as_exceptions():
            environment = build_environment(reporter=reporter)
            (outcome,) = back_up_databases(environment, [BackupRequest(database="default")], clean=False, sender=Dying)
    except BackupError as error:
        return error.exit_code
    sys.stdout.write(str(reporter.calls))
    return outcome.exit_code


def main() -> int:
    """Do what is asked for, and die when it is time."""
    counts = sys.argv[1] == "count"
    event = int(sys.argv[1]) if sys.argv[1].isdigit() else sys.argv[1]
    reporter = Dying(0, 0) if counts else Dying(event, int(sys.argv[2]))
    arguments = sys.argv[2 if counts else 3 :]
    if not arguments:
        return backup(reporter)
    command(reporter, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
