"""Table figures: rows and content of every table, measured by the server, on several connections at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from psycopg import sql

from erp_backup.core.figures import TableFigure
from erp_backup.engines.postgresql.catalog import Table
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words

# ROW(...)::text and never t::text: where the table has a column named like the alias, t would be that column.
# The sum of 64-bit hashes is numeric and cannot overflow; it does not depend on the order of rows.
_FINGERPRINT = sql.SQL(
    "SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text FROM ONLY {table} AS r_"
)
_COUNT = sql.SQL("SELECT count(*), '0' FROM ONLY {table} AS r_")
_LARGE_OBJECTS = """
SELECT count(*), coalesce(sum(hashtextextended(oid::text || ' ' || encode(sha256(lo_get(oid)), 'hex'), 0)), 0)::text
FROM pg_largeobject_metadata
"""


def fingerprint_query(table: Table, columns: Sequence[str]) -> sql.Composed:
    """Return the query for rows and fingerprint of one table over ``columns``, in that order."""
    if not columns:
        return _COUNT.format(table=table.identifier)
    names = sql.SQL(", ").join(sql.Identifier("r_", column) for column in columns)
    return _FINGERPRINT.format(columns=names, table=table.identifier)


def measure_table(connection: Connection, table: Table, columns: Sequence[str]) -> TableFigure:
    """Measure one table over ``columns``."""
    row = connection.execute(fingerprint_query(table, columns)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate gives one row; mypy must know
    return TableFigure(schema=table.schema, name=table.name, columns=tuple(columns), rows=row[0], fingerprint=row[1])


def measure_large_objects(connection: Connection) -> TableFigure | None:
    """Measure all large objects together; None where there are none."""
    row = connection.execute(_LARGE_OBJECTS).fetchone()
    if row is None or row[0] == 0:
        return None
    return TableFigure(schema="", name="large objects", columns=(), rows=row[0], fingerprint=row[1])


def measure_tables(
    sessions: Sequence[Connection], tables: Sequence[Table], columns_of: Callable[[Table], Sequence[str]], name: str
) -> list[TableFigure]:
    """Measure ``tables`` on all ``sessions`` at once, the largest first, and return the figures in the order of ``tables``.

    The first error ends the others' work and is raised.
    """
    queue: SimpleQueue[Table] = SimpleQueue()
    for table in sorted(tables, key=lambda table: -table.pages):
        queue.put(table)
    found: dict[int, TableFigure] = {}
    failed = threading.Event()

    def work(connection: Connection) -> None:
        try:
            with errors_in_words(name):
                while not failed.is_set():
                    table = queue.get_nowait()
                    found[table.oid] = measure_table(connection, table, columns_of(table))
        except Empty:
            return
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="figures") as pool:
        for future in [pool.submit(work, connection) for connection in sessions]:
            future.result()
    return [found[table.oid] for table in tables]
