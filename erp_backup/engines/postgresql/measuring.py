"""Table figures: rows and content of every table, measured by the server, on several connections at once."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

import psycopg
from psycopg import sql

from erp_backup.core.errors import DatabaseError
from erp_backup.core.figures import TableFigure
from erp_backup.engines.postgresql.catalog import Table
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words

# ROW(...)::text and never t::text: where the table has a column named like the alias, t would be that column.
# The sum of 64-bit hashes is numeric and cannot overflow; it does not depend on the order of rows.
_FINGERPRINT = sql.SQL(
    "SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text FROM ONLY {table} AS r_"
)
_COUNT = sql.SQL("SELECT count(*), '0' FROM ONLY {table} AS r_")
# A large object can be larger than a value: it is hashed in pieces, and only the hashes are kept.
_PIECE = 16 << 20
_LARGE_OBJECTS = f"""
WITH RECURSIVE piece(oid, number, size, hash) AS (
    SELECT m.oid, 0::bigint, length(d.data), sha256(d.data)
    FROM pg_largeobject_metadata m, LATERAL (SELECT lo_get(m.oid, 0, {_PIECE}) AS data OFFSET 0) d
    UNION ALL
    SELECT p.oid, p.number + 1, length(d.data), sha256(d.data)
    FROM piece p, LATERAL (SELECT lo_get(p.oid, (p.number + 1) * {_PIECE}, {_PIECE}) AS data OFFSET 0) d
    WHERE p.size = {_PIECE})
SELECT count(*) FILTER (WHERE number = 0),
       coalesce(sum(hashtextextended(concat_ws(' ', oid, number, encode(hash, 'hex')), 0)), 0)::text FROM piece
"""
_CANCEL_TRIES = 3
_CANCEL_SECONDS = 0.5  # for one of them; afterwards the connection is cut


def fingerprint_query(table: Table, columns: Sequence[str]) -> sql.Composed:
    """Return the query for rows and fingerprint of one table over ``columns``, in that order."""
    names = sql.SQL(", ").join(sql.Identifier("r_", column) for column in columns)
    query = (
        _FINGERPRINT.format(columns=names, table=table.identifier) if columns else _COUNT.format(table=table.identifier)
    )
    # What an extension says about its own table is a whole WHERE clause; pg_dump takes it as it is, too.
    return sql.SQL(" ").join([query, sql.SQL(table.condition)])


def measure_table(connection: Connection, table: Table, columns: Sequence[str]) -> TableFigure:
    """Measure one table over ``columns``."""
    row = connection.execute(fingerprint_query(table, columns)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate gives one row; mypy must know
    return TableFigure(schema=table.schema, name=table.name, columns=tuple(columns), rows=row[0], fingerprint=row[1])


def without_rows(table: Table) -> TableFigure:
    """Return the figure of a table whose rows the archive does not hold, and no copy of it will."""
    return TableFigure(schema=table.schema, name=table.name, columns=table.columns, rows=0, fingerprint="0")


def measure_large_objects(connection: Connection) -> TableFigure | None:
    """Measure all large objects together; None where there are none."""
    row = connection.execute(_LARGE_OBJECTS).fetchone()
    if row is None or row[0] == 0:
        return None
    return TableFigure(schema="", name="large objects", columns=(), rows=row[0], fingerprint=row[1])


class Gauge:
    """Measures on several sessions at once, until it is done or somebody stops it."""

    def __init__(self, sessions: Sequence[Connection], database: str) -> None:
        self._sessions = sessions
        self._database = database
        self._is_stopped = threading.Event()
        self._changed = threading.Condition()
        self._busy = 0

    @contextlib.contextmanager
    def busy(self) -> Iterator[Connection]:
        """Lend out the first session for as long as nobody stops it. Raises our errors for psycopg's."""
        with self._changed:
            self._busy += 1
        try:
            self._go_on()
            with errors_in_words(self._database):
                yield self._sessions[0]
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _go_on(self) -> None:
        if self._is_stopped.is_set():
            raise DatabaseError(f"Measuring {self._database!r} was stopped.")

    def tables(self, tables: Sequence[Table], columns_of: Callable[[Table], Sequence[str]]) -> list[TableFigure]:
        """Measure ``tables`` on all sessions, the largest first, and return the figures in the order of ``tables``.

        The first error, or an interruption, ends what the other sessions do, and is raised.
        """
        queue: SimpleQueue[Table] = SimpleQueue()
        for table in sorted(tables, key=lambda table: -table.pages):
            queue.put(table)
        found: dict[int, TableFigure] = {}

        def work(connection: Connection) -> None:
            with self.busy(), contextlib.suppress(Empty):
                while True:
                    table = queue.get_nowait()
                    found[table.oid] = measure_table(connection, table, columns_of(table))
                    self._go_on()

        with ThreadPoolExecutor(len(self._sessions), thread_name_prefix="figures") as pool:
            try:
                done, _others = wait([pool.submit(work, one) for one in self._sessions], return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.stop()
                raise
        return [found[table.oid] for table in tables]

    def stop(self) -> bool:
        """End what other threads measure here, soon; return whether the server let them.

        A server that does not answer is left: its lines are cut.
        """
        self._is_stopped.set()
        for _ in range(_CANCEL_TRIES):
            for session in self._sessions:
                # A request that comes between two statements is lost, so it is made again until all are idle.
                with contextlib.suppress(psycopg.Error):
                    session.cancel_safe(timeout=_CANCEL_SECONDS)
            with self._changed:
                if self._changed.wait_for(lambda: self._busy == 0, _CANCEL_SECONDS):
                    return True
        for session in self._sessions:
            cut(session)
        return False


def cut(connection: Connection) -> None:
    """Cut the connection's line: whoever waits at it, in whatever thread, gets an error at once."""
    with contextlib.suppress(psycopg.Error, OSError), socket.fromfd(connection.fileno(), 0, 0) as line:
        line.shutdown(socket.SHUT_RDWR)
