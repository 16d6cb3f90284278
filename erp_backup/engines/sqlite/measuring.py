"""Figures of a SQLite file that nobody writes: tables, sequences, schema, migrations; on several cores if that pays."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Event

from erp_backup.core.codecs.base import closing_source
from erp_backup.core.errors import DatabaseError, ProgramError, ProgramMissingError
from erp_backup.core.figures import Figures, SequenceFigure, TableFigure
from erp_backup.core.process import Command, ProcessRunner, base_environment
from erp_backup.engines.sqlite import rowhash
from erp_backup.engines.sqlite.connecting import (
    HARDENING,
    READ_ONLY,
    errors_in_words,
    has_table,
    opened_hardened,
    quoted,
    uri,
)
from erp_backup.engines.sqlite.schema import read_objects
from erp_backup.engines.sqlite.tables import Table, read_tables

logger = logging.getLogger(__name__)

_WORTH_A_PROCESS = 32 * 1024 * 1024  # bytes of the file; below, starting a process takes longer than it saves
_MOST_PROCESSES = 4  # each takes some 20 MB
_PIECE = 50_000  # row numbers; smaller pieces gain nothing
_MOST_PIECES = 16  # of one table


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some or all rows of a table, as a query."""

    table: str
    query: str
    parameters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Result:
    """What was measured of a piece."""

    table: str
    rows: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurer:
    """Measures files of ours. ``jobs`` is how many cores it may use; setting ``stop`` ends it with DatabaseError."""

    runner: ProcessRunner
    jobs: int
    stop: Event

    def figures(self, path: Path, expected: Figures | None = None) -> Figures:
        """Return all figures of the file at ``path``; tables that ``expected`` knows with their columns in its order.

        Raises CorruptError and its kin.
        """
        with opened_hardened(path) as connection, errors_in_words(path):
            tables = read_tables(connection)
            return Figures(
                tables=self._measure(path, connection, _columns(tables, expected)),
                sequences=tuple(_read_sequences(connection, tables)),
                objects=read_objects(connection, tables),
                migrations=_read_migrations(connection),
            )

    def _measure(
        self, path: Path, connection: sqlite3.Connection, columns: dict[Table, tuple[str, ...]]
    ) -> tuple[TableFigure, ...]:
        pieces = [piece for table in columns for piece in _pieces(connection, table, columns[table])]
        own, *others = _dealt(pieces, self._workers(path))
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            remote = [pool.submit(self._remotely, path, share) for share in others]
            results = self._here(connection, own)
            for share, answer in zip(others, remote, strict=True):
                results += answer.result() or self._here(connection, share)
        return tuple(_figure(table.name, columns[table], results) for table in columns)

    def _workers(self, path: Path) -> int:
        return min(self.jobs, _MOST_PROCESSES) if path.stat().st_size >= _WORTH_A_PROCESS else 1

    def _here(self, connection: sqlite3.Connection, pieces: list[_Piece]) -> list[_Result]:
        """Measure in this process; the connection reads text as text again afterwards."""
        try:
            return [
                _Result(piece.table, *rowhash.hash_rows(connection, piece.query, piece.parameters, self._check_stop))
                for piece in pieces
            ]
        finally:
            connection.text_factory = str

    def _remotely(self, path: Path, pieces: list[_Piece]) -> list[_Result]:
        """Measure in a process of its own; return nothing when that failed: the reason shows when it is done here."""
        queries = [(piece.query, piece.parameters) for piece in pieces]
        job = {"uri": uri(path, READ_ONLY), "setup": HARDENING, "queries": queries}
        try:
            answers = json.loads(self._answer(json.dumps(job).encode()))
        except (ProgramError, ProgramMissingError) as error:
            logger.warning("Measuring with a second process failed, going on with this one: %s", error)
            return []
        return [_Result(piece.table, rows, int(total)) for piece, (rows, total) in zip(pieces, answers, strict=True)]

    def _answer(self, job: bytes) -> bytes:
        environment = base_environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # -P: modules in the program's own folder must not stand in for others of the same name.
        command = Command(argv=(sys.executable, "-P", "-s", rowhash.__file__), env=environment)
        answer = bytearray()
        with closing_source(self.runner.stream(command, stdin=[job])) as output:
            for chunk in output:
                self._check_stop()
                answer += chunk
        return bytes(answer)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise DatabaseError("The snapshot was closed while it was being measured.")


def _columns(tables: list[Table], expected: Figures | None) -> dict[Table, tuple[str, ...]]:
    """Return the columns to measure of each table: in the order expected, if they are the same ones."""
    orders = {table.name: table.columns for table in expected.tables} if expected else {}
    return {
        table: orders[table.name] if sorted(orders.get(table.name, ())) == sorted(table.stored) else table.stored
        for table in tables
    }


def _pieces(connection: sqlite3.Connection, table: Table, columns: tuple[str, ...]) -> list[_Piece]:
    """Cut a table by its row numbers into pieces that can be measured anywhere, in any order."""
    # Qualified, or SQLite would take the name of a missing column for a piece of text. NOT INDEXED: in natural order.
    selected = ", ".join(f"t_.{quoted(column)}" for column in columns)
    query = f"SELECT {selected} FROM {quoted(table.name)} AS t_ NOT INDEXED"  # noqa: S608 - quoted identifiers
    first, last = _range(connection, table)
    count = min(_MOST_PIECES, (last - first) // _PIECE)
    if count < 2:  # noqa: PLR2004 - one piece is the whole
        return [_Piece(table.name, query, ())]
    query = f"{query} WHERE t_.{table.rowid} BETWEEN ? AND ?"
    bounds = [first + (last + 1 - first) * i // count for i in range(count + 1)]
    return [_Piece(table.name, query, (low, high - 1)) for low, high in pairwise(bounds)]


def _range(connection: sqlite3.Connection, table: Table) -> tuple[int, int]:
    """Return the least and greatest row number; both 0 where there is none."""
    if not table.rowid:
        return 0, 0
    # Two queries: SQLite finds either at once, but looks at each row to find both together.
    ends = (f"SELECT {end}(t_.{table.rowid}) FROM {quoted(table.name)} AS t_" for end in ("min", "max"))  # noqa: S608
    first, last = (connection.execute(query).fetchone()[0] for query in ends)
    return first or 0, last or 0


def _dealt(pieces: list[_Piece], shares: int) -> list[list[_Piece]]:
    """Deal the pieces out like cards: neighbours are of one table and take about as long."""
    return [pieces[share::shares] for share in range(shares)]


def _figure(name: str, columns: tuple[str, ...], results: list[_Result]) -> TableFigure:
    own = [result for result in results if result.table == name]
    return TableFigure(
        schema="",
        name=name,
        columns=columns,
        rows=sum(result.rows for result in own),
        fingerprint=str(sum(result.total for result in own) % rowhash.MODULUS),
    )


def _read_sequences(connection: sqlite3.Connection, tables: list[Table]) -> list[SequenceFigure]:
    """Return what SQLite remembers of AUTOINCREMENT tables: the greatest number it ever gave out."""
    if not has_table(connection, "sqlite_sequence"):
        return []
    rows = connection.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence ORDER BY name").fetchall()
    by_name = {table.name: table for table in tables}
    return [_sequence(connection, by_name[name], last or 0) for name, last in rows if name in by_name]


def _sequence(connection: sqlite3.Connection, table: Table, last: int) -> SequenceFigure:
    query = f"SELECT max({quoted(table.rowid_column)}) FROM {quoted(table.name)}"  # noqa: S608 - quoted identifiers
    return SequenceFigure(
        schema="",
        name=table.name,
        last_value=last,
        is_called=True,
        table=table.name,
        column=table.rowid_column,
        column_max=connection.execute(query).fetchone()[0] if table.rowid_column else None,
    )


def _read_migrations(connection: sqlite3.Connection) -> tuple[str, ...]:
    if not has_table(connection, "django_migrations"):
        return ()
    rows = connection.execute("SELECT app, name FROM django_migrations ORDER BY id")
    return tuple(f"{app}.{name}" for app, name in rows)
