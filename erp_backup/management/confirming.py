"""Asking before something is changed: the database's name is typed; Enter, "y" and a closed input are no."""

from __future__ import annotations

import sys

from django.core.management.base import BaseCommand

from erp_backup.core.errors import RefusedError
from erp_backup.management.tables import plain


def require_confirmation(command: BaseCommand, database: str, *, interactive: bool) -> None:
    """Return when the name was typed, or nobody was to be asked. Raises RefusedError for anything else."""
    if not interactive:
        return
    name = database.rsplit("/", 1)[-1]
    if not sys.stdin.isatty():
        raise RefusedError(
            "There is nobody to ask: no terminal.", remedy="Nothing was done. Add --noinput where that is meant."
        )
    # Not to standard output: that may be a file, or one JSON document.
    command.stderr.write(f"To go on, type the name of the database, {plain(name)}: ", style_func=str, ending="")
    command.stderr.flush()
    if sys.stdin.readline().rstrip("\n") != name:
        raise RefusedError("Not confirmed.", remedy="Nothing was done.")
