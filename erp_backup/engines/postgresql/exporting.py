"""Locks first, then the snapshot: the order on which it rests that dump and figures cannot agree on a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from erp_backup.core.errors import BackupError, LockedError
from erp_backup.engines.postgresql import catalog
from erp_backup.engines.postgresql.catalog import SequenceState, Table
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, in_words

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Shorter than the server's deadlock_timeout (1 s): in a circle of waits we give way before somebody else is made to.
_LOCK_SECONDS = 0.4
_FEWEST_TRIES = 5  # a table made or dropped between list and lock makes us begin anew


class _ChangedError(Exception):
    """The tables that are locked are not those that the snapshot sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A snapshot that other sessions can join while its session lives, and what it sees.

    ``relations`` are locked against everything that would change them in a way the snapshot does not protect from.
    ``sequences`` were asked before any dump of it begins.
    """

    identifier: str
    taken_at: datetime
    relations: list[Table]
    sequences: list[SequenceState]


def export(exporter: Connection, database: str, schemas: Sequence[str], lock_timeout: float) -> Exported:
    """Lock all tables (of ``schemas``) and export the snapshot that the session keeps. Raises LockedError."""
    with errors_in_words(database):
        error: BackupError
        for _ in range(max(_FEWEST_TRIES, math.ceil(lock_timeout / _LOCK_SECONDS))):
            try:
                return _try_to_export(exporter, schemas, min(lock_timeout, _LOCK_SECONDS))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as locked:
                error = in_words(locked, database)
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, _ChangedError):
                error = LockedError(
                    f"Tables of {database!r} are being made and dropped all the time: no stable set could be locked.",
                    remedy="Run it again when the migration or job that makes them has ended.",
                )
            exporter.execute("ROLLBACK")
        raise error


def _try_to_export(exporter: Connection, schemas: Sequence[str], lock_timeout: float) -> Exported:
    listed = catalog.relations(exporter, schemas)
    exporter.execute(BEGIN)
    exporter.execute(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
    # A TRUNCATE after the snapshot and before the lock would empty dump and figures alike, and both would agree.
    for statement in lock_statements(listed):
        exporter.execute(statement)
    # "Now", to every model check, is the moment before: a backup claims to be as old as it is, or older.
    row = exporter.execute("SELECT pg_export_snapshot(), statement_timestamp()").fetchone()
    seen = catalog.relations(exporter, schemas)
    if row is None or [table.identity for table in seen] != [table.identity for table in listed]:
        raise _ChangedError
    sequences = catalog.sequences(exporter, schemas)
    return Exported(identifier=row[0], taken_at=row[1], relations=seen, sequences=sequences)


def lock_statements(relations: Sequence[Table]) -> tuple[str, ...]:
    """Return what locks the tables against being truncated, rewritten or dropped, and against nothing else."""
    if not relations:
        return ()
    names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in relations)
    return (sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names).as_string(),)
