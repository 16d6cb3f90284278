"""Clients that never rest: they write and read, and see which database they are in."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.pg_engine import connect, eventually


@dataclass(slots=True)
class Client:
    """Writes a row and reads which database it is in, again and again; it connects anew after each error."""

    connect: Any
    number: int
    stop: threading.Event
    seen: list[tuple[float, float, str]] = field(default_factory=list)  # begin, end, value
    errors: int = 0
    said: list[str] = field(default_factory=list)  # by these errors

    def run(self) -> None:
        """Work until told to stop."""
        while not self.stop.is_set():
            try:
                with contextlib.closing(self.connect()) as connection:
                    self._work(connection)
            except psycopg.Error as error:
                self.errors += 1
                self.said.append(f"{type(error).__name__}: {error}")
                self.stop.wait(0.005)

    def _work(self, connection: psycopg.Connection[Any]) -> None:
        query = "INSERT INTO log SELECT %s, value FROM mark RETURNING value"
        while not self.stop.is_set():
            begin = time.monotonic()
            row = connection.execute(query, [self.number]).fetchone()
            assert row is not None
            self.seen.append((begin, time.monotonic(), row[0]))
            self.stop.wait(0.002)


@contextlib.contextmanager
def clients(connect_one: Any, number: int) -> Iterator[list[Client]]:
    """Run clients until the end of the block; each has written before it begins."""
    stop = threading.Event()
    found = [Client(connect=connect_one, number=n, stop=stop) for n in range(number)]
    threads = [threading.Thread(target=client.run) for client in found]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: all(client.seen for client in found))
        yield found
        assert eventually(lambda: all(client.seen[-1][2] == "new" for client in found))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def assert_nobody_reads_old_after_new(found: list[Client]) -> float:
    """Assert the order of what was read; return the longest time in which nobody anywhere committed."""
    seen = sorted((entry for client in found for entry in client.seen), key=lambda entry: entry[1])
    first_new = min(end for _begin, end, value in seen if value == "new")

    assert [] == [begin for begin, _end, value in seen if value == "old" and begin > first_new]
    return max(later[1] - earlier[1] for earlier, later in itertools.pairwise(seen))


def counted(entry: dict[str, Any], database: str, value: str) -> int:
    """Return how many rows of clients a database holds; all must bear its own mark."""
    with connect(entry, database) as connection:
        row = connection.execute("SELECT count(*), count(*) FILTER (WHERE value = %s) FROM log", [value]).fetchone()
    assert row is not None
    assert row[0] == row[1]
    return int(row[0])
