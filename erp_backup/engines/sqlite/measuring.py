"""Figures of a SQLite file that nobody writes: tables, sequences, schema, migrations; with several cores where that pays."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from erp_backup.core.errors import DatabaseError, ProgramError, ProgramMissingError
from erp_backup.core.figures import Figures, SequenceFigure, TableFigure
from erp_backup.core.process import Command, ProcessRunner, base_environment
from erp_backup.engines.sqlite import connecting, rowhash
from erp_backup.engines.sqlite.connecting import errors_in_words, opened_hardened, quoted
from erp_backup.engines.sqlite.schema import read_objects
from erp_backup.engines.sqlite.tables import Table, read_tables

logger = logging.getLogger(__name__)

_WORTH_A_PROCESS = 32 * 1024 * 1024  # bytes of the file; below, starting one takes longer than it saves
_MOST_PROCESSES = 4  # each takes some 20 MB
_PIECE = 50_000  # row numbers; smaller pieces gain nothing
_PIECES = 16  # of one table at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurer:
    """Measures files of ours. ``jobs`` is how many cores it may use; a set ``stop`` ends it with DatabaseError."""

    runner: ProcessRunner
    jobs: int
    stop: Event

    def figures(self, path: Path, expected: Figures | None = None) -> Figures:
        """Return all figures of the file at ``path``; tables that ``expected`` knows with their columns in its order.

        Raises CorruptError and its kin.
        """
        with opened_hardened(path) as connection, errors_in_words(path):
            tables = read_tables(connection)
            orders = {table.name: table.columns for table in expected.tables} if expected else {}
            return Figures(
                tables=self._measure(path, connection, [_Task(table, orders.get(table.name, ())) for table in tables]),
                sequences=_read_sequences(connection, tables),
                objects=read_objects(connection, tables),
                migrations=_read_migrations(connection),
            )

    def _measure(self, path: Path, connection: sqlite3.Connection, tasks: list[_Task]) -> tuple[TableFigure, ...]:
        pieces = [piece for task in tasks for piece in task.pieces(connection)]
        shares = _dealt(pieces, self._workers(path))
        # Each share is measured in a process of its own but the first, which is measured here.
        with ThreadPoolExecutor(max(1, len(shares) - 1)) as pool:
            others = [pool.submit(self._remotely, path, share) for share in shares[1:]]
            results = self._here(connection, shares[0])
            for share, other in zip(shares[1:], others, strict=True):
                results += other.result() or self._here(connection, share)
        return tuple(task.figure(results) for task in tasks)

    def _workers(self, path: Path) -> int:
        return min(self.jobs, _MOST_PROCESSES) if path.stat().st_size >= _WORTH_A_PROCESS else 1

    def _here(self, connection: sqlite3.Connection, pieces: list[_Piece]) -> list[_Result]:
        before = connection.text_factory
        try:
            return [
                _Result(piece.table, *rowhash.hash_rows(connection, piece.query, piece.parameters, self._check_stop))
                for piece in pieces
            ]
        finally:
            connection.text_factory = before

    def _remotely(self, path: Path, pieces: list[_Piece]) -> list[_Result]:
        """Return a process's results, or none when it failed: what failed there is found out, and told, here."""
        job = {
            "uri": connecting.uri(path, connecting.READ_ONLY),
            "setup": connecting.HARDENING,
            "queries": [(piece.query, piece.parameters) for piece in pieces],
        }
        try:
            answer = self._answer(json.dumps(job).encode())
        except (ProgramError, ProgramMissingError) as error:
            logger.warning("Measuring with a second process failed, going on with one: %s", error)
            return []
        return [
            _Result(piece.table, rows, int(total))
            for piece, (rows, total) in zip(pieces, json.loads(answer), strict=True)
        ]

    def _answer(self, job: bytes) -> bytes:
        environment = base_environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # -P: the program's own folder is no place to import from, its modules are named like others'.
        command = Command(argv=(sys.executable, "-P", "-s", rowhash.__file__), env=environment)
        answer = b""
        with closing(_generator(self.runner, command, job)) as output:
            for chunk in output:
                self._check_stop()
                answer += chunk.lstrip()
        return answer

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise DatabaseError("The snapshot was closed while it was being measured.")
