"""The finished image: a file of ours whose content is about to be the live database's, and the mark that it has.

The mark is a table of one row, the restore's identifier. It becomes visible in the live database in the very
transaction that makes everything else visible, so it tells, whatever killed the run, whether the switch took place.
Nothing else would: other processes write the moment after, so no digest, size or change counter stays what it was, and
``user_version`` and ``application_id`` belong to the host. It is dropped when the switch is settled.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erp_backup.core.errors import CorruptError, LockedError, NotADatabaseError
from erp_backup.engines.sqlite.connecting import (
    errors_in_words,
    has_table,
    opened,
    opened_by_django,
    pragma,
    writable_settings,
)
from erp_backup.engines.sqlite.live import Condition, condition_of

MARK = "erp_backup_switch"


def calm(path: Path) -> None:
    """Bring what waits in the file's ``-wal`` into it, and leave it without one. Raises LockedError when it is in use.

    A copy of a live database in WAL mode says of itself that it is in WAL mode. It is read as a file that nobody
    writes, without a look at ``-wal``, and as a source of the backup API it would turn the live file's mode.
    """
    with errors_in_words(path), opened(path, "mode=rw") as connection:
        if connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "delete":
            raise LockedError(f"{path} is still in use.", remedy="Close what has it open, then run this again.")


def prepare(image: Path, settings: Mapping[str, Any], *, restore: str, page_size: int | None) -> None:
    """Make the image ready to be a source: no ``-wal``, pages of ``page_size`` bytes, marked with ``restore``, durable.

    Raises NoSpaceError, CorruptError and their kin.
    """
    calm(image)
    # By Django's connection: VACUUM builds indexes again, which may use Django's functions.
    with opened_by_django(writable_settings(settings, image)) as connection, errors_in_words(image):
        if page_size is not None and pragma(connection, "page_size") != page_size:
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.execute("VACUUM")
        connection.execute("BEGIN")
        connection.execute(f"DROP TABLE IF EXISTS {MARK}")
        connection.execute(f"CREATE TABLE {MARK} (restore text NOT NULL)")
        connection.execute(f"INSERT INTO {MARK} VALUES (?)", [restore])  # noqa: S608 - a constant
        connection.execute("COMMIT")
    sync_file(image)


def mark_of(live: Path, limit: float) -> str | None:
    """Return the restore whose image this is; None where there is no mark, no database, or nothing at all.

    Raises LockedError and its kin where that cannot be told.
    """
    if condition_of(live, limit) is not Condition.DATABASE:
        return None
    try:
        with errors_in_words(live), opened(live, "mode=rw", timeout=limit) as connection:
            if not has_table(connection, MARK):
                return None
            row = connection.execute(f"SELECT restore FROM {MARK}").fetchone()  # noqa: S608 - a constant
    except (CorruptError, NotADatabaseError):  # a damaged file that opens: no image of ours
        return None
    return None if row is None else str(row[0])


def drop_mark(path: Path, limit: float) -> None:
    """Remove the mark, durably, if there is one. Raises LockedError after ``limit`` seconds, and its kin."""
    with errors_in_words(path), opened(path, "mode=rw", timeout=limit) as connection:
        make_durable(connection)
        if has_table(connection, MARK):
            connection.execute(f"DROP TABLE IF EXISTS {MARK}")


def make_durable(connection: sqlite3.Connection) -> None:
    """Let what this connection commits survive a power failure; the host's own setting may be another."""
    connection.execute("PRAGMA synchronous=EXTRA")


def sync_file(path: Path) -> None:
    """Bring a file of ours to the disk. Not for live files: closing one drops locks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
