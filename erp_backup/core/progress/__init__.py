"""Progress: the engine and the services tell, the entry point chooses who shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from erp_backup.core.progress.base import NullReporter, Progress, Reporter
from erp_backup.core.progress.callback import CallbackReporter, Update
from erp_backup.core.progress.console import ConsoleReporter
from erp_backup.core.progress.events import JournalReporter, JsonReporter
from erp_backup.core.progress.lines import LineReporter, WarningsOnly
from erp_backup.core.progress.tee import TeeReporter

if TYPE_CHECKING:
    from erp_backup.core.clock import Clock

__all__ = [
    "CallbackReporter",
    "ConsoleReporter",
    "JournalReporter",
    "JsonReporter",
    "LineReporter",
    "NullReporter",
    "Progress",
    "Reporter",
    "TeeReporter",
    "Update",
    "WarningsOnly",
    "choose_reporter",
]


def choose_reporter(stream: TextIO, *, json: bool, quiet: bool, clock: Clock) -> Reporter:
    """Return the reporter that suits the stream: a line that updates itself only on a terminal.

    ``quiet`` leaves only warnings. A stream that fails later (a closed terminal) does not fail the job.
    """
    reporter: Reporter
    if json:
        reporter = JsonReporter(stream, clock)
    elif stream.isatty() and os.environ.get("TERM") != "dumb":
        reporter = ConsoleReporter(stream, clock)
    else:
        reporter = LineReporter(stream, clock)
    return TeeReporter(WarningsOnly(reporter) if quiet else reporter)
