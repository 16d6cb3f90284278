"""A backup that dies at a chosen moment: `python -m tests.support.crashing EVENT SIGNAL`, or `count` to count them.

The moments are the calls of the reporter: every phase, every chunk of the dump, the end. Nothing of the product is
patched; the reporter is one of the things that its environment takes from outside.
"""

from __future__ import annotations

import os
import sys

import django


class Dying:
    """Sends this process a signal at its n-th call; counts the calls otherwise."""

    def __init__(self, event: int, number: int) -> None:
        self._event = event
        self._number = number
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self._event:
            os.kill(os.getpid(), self._number)

    def phase(self, _name: str, *, total: int | None = None) -> None:
        """Count a phase."""
        self._call()

    def advance(self, _amount: int, _unit: str = "bytes") -> None:
        """Count a chunk."""
        self._call()

    def note(self, text: str) -> None:
        """Count nothing: notes are about what was found, not about what is done."""

    def warning(self, text: str) -> None:
        """Count nothing."""

    def finish(self, _outcome: str) -> None:
        """Count the end."""
        self._call()


def main() -> int:
    """Back the default database up and return the command's exit code."""
    event, number = (0, 0) if sys.argv[1] == "count" else (int(sys.argv[1]), int(sys.argv[2]))
    django.setup()
    from erp_backup.core.errors import BackupError
    from erp_backup.core.interrupts import signals_as_exceptions
    from erp_backup.services.backup import BackupRequest
    from erp_backup.services.backups import back_up_databases
    from erp_backup.services.environment import build_environment

    reporter = Dying(event, number)
    try:
        with signals_as_exceptions():
            environment = build_environment(reporter=reporter)
            (outcome,) = back_up_databases(environment, [BackupRequest(database="default")], clean=False, sender=Dying)
    except BackupError as error:
        return error.exit_code
    sys.stdout.write(str(reporter.calls))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
