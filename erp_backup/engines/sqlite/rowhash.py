"""The fingerprint of rows: an order-independent sum of one hash per row, with all work per row done in C.

A row is hashed as ``marshal`` writes it, version 2: type codes, lengths and bytes, the same since Python 2.5. It tells
``1``, ``1.0``, ``'1'`` and ``x'31'`` apart, NULL from ``''``, keeps all bits of a floating-point number and everything
behind an embedded NUL, and no value can flow into its neighbour. The sum tells how often a row occurs; an exclusive or
would not.

Also run as a program, to measure with a second core: what to do as JSON on standard input, the result as JSON on
standard output. That is why this file imports nothing of the package.
"""

from __future__ import annotations

import json
import marshal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import repeat

import xxhash

MODULUS = 1 << 128
_MARSHAL_VERSION = 2
_BATCH = 64  # rows: more gain nothing, and rows may be large
_BATCHES_BETWEEN_SIGNS = 200


def hash_rows(
    connection: sqlite3.Connection, query: str, parameters: Sequence[int], on_batch: Callable[[], object]
) -> tuple[int, int]:
    """Return how many rows ``query`` gives and the sum of their hashes. Raises ``sqlite3.Error``."""
    try:
        return _hash_rows(connection, query, parameters, on_batch, str)
    except sqlite3.OperationalError:
        # Text that is no UTF-8 is kept byte by byte; everything else gives the same hash this way, only slowly.
        return _hash_rows(connection, query, parameters, on_batch, _decoded_with_escapes)


def _hash_rows(
    connection: sqlite3.Connection,
    query: str,
    parameters: Sequence[int],
    on_batch: Callable[[], object],
    text_factory: Callable[[bytes], str],
) -> tuple[int, int]:
    connection.text_factory = text_factory
    rows = total = 0
    with closing(connection.execute(query, parameters)) as cursor:
        while batch := cursor.fetchmany(_BATCH):
            rows += len(batch)
            total += sum(map(xxhash.xxh3_128_intdigest, map(marshal.dumps, batch, repeat(_MARSHAL_VERSION))))
            on_batch()
    return rows, total % MODULUS


def _decoded_with_escapes(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


class _Signs:
    """Writes an empty line now and then, so that who reads can stop reading, which ends this program."""

    def __init__(self) -> None:
        self._batches = 0

    def __call__(self) -> None:
        self._batches += 1
        if self._batches % _BATCHES_BETWEEN_SIGNS == 0:
            sys.stdout.write("\n")
            sys.stdout.flush()


def main() -> None:
    """Measure what standard input asks for: ``{"uri", "setup", "queries": [[query, parameters], ...]}``."""
    job = json.load(sys.stdin)
    signs = _Signs()
    with closing(sqlite3.connect(job["uri"], uri=True, isolation_level=None)) as connection:
        for statement in job["setup"]:
            connection.execute(statement)
        results = [hash_rows(connection, query, parameters, signs) for query, parameters in job["queries"]]
    # As text: other readers of JSON know no integers of this size.
    sys.stdout.write(json.dumps([[rows, str(total)] for rows, total in results]))


if __name__ == "__main__":
    main()
