"""Switches of SQLite files in processes of their own, and writers that use Django beside them.

`python -m tests.support.lite_switch switch LIVE STATE IMAGE` does what a restore does, and can be killed at any moment.
`python -m tests.support.lite_switch write LIVE NUMBER MODE` commits rows until standard input ends; it prints the
number of each row once its commit is acknowledged.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from erp_backup.core.figures import Figures
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.core.workspace import Workspace
from erp_backup.engines.base import DumpRequest, Switched, SwitchRequest
from erp_backup.engines.sqlite import SQLite, exchanging
from erp_backup.engines.sqlite.scratch import SqliteScratch
from tests.support.sqlite import BACKEND, engine_of

REPOSITORY = Path(__file__).resolve().parents[2]
RESTORE = "restore-1"


def engine_at(live: Path, state: Path, **tools: object) -> SQLite:
    """Return the engine of a live file whose kept files are below `state`."""
    return engine_of(live, state_dir=state, **{"lock_timeout": 5.0, **tools})


@contextmanager
def scratch_of(engine: SQLite, state: Path, image: Path) -> Iterator[SqliteScratch]:
    """Yield a scratch file with the content of `image`."""
    facts = DatabaseFacts(alias="default", engine="sqlite", name=str(engine.path))
    with Workspace(state).folder("restore") as folder, engine.scratch(facts, folder) as scratch:
        assert isinstance(scratch, SqliteScratch)
        shutil.copyfile(image, scratch.path)
        yield scratch


def switch(engine: SQLite, state: Path, image: Path, *, restore: str = RESTORE, limit: float = 10.0) -> Switched:
    """Put a copy of `image` in the live file's place."""
    with scratch_of(engine, state, image) as scratch:
        return engine.switch(scratch, SwitchRequest(restore=restore, at=datetime.now(tz=UTC), limit=limit))


def figures_of(file: Path, state: Path) -> Figures:
    """Return the engine's own figures of a database file."""
    engine = engine_at(file, state)
    with Workspace(state).folder("look") as folder, engine.snapshot(DumpRequest(), folder) as snapshot:
        return snapshot.figures()


def clean_jobs(state: Path) -> None:
    """Remove the folders of dead jobs, as the next run does.

    A program that a job was just starting when it died holds its locks for an instant longer.
    """
    deadline = time.monotonic() + 10
    while any((state / "jobs").glob("*")) and time.monotonic() < deadline:
        for folder in Workspace(state).orphans():
            folder.remove()


def start(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start this module as a program."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tests.support.lite_switch", *map(str, arguments)],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Writers:
    """Four writers through Django, each in a process of its own; `acknowledged` has what their commits answered."""

    def __init__(self, live: Path, journal_mode: str, *, count: int = 4) -> None:
        self.processes = [start("write", live, number, journal_mode) for number in range(count)]
        self.acknowledged: list[list[int]] = [[] for _ in range(count)]
        self._news = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=[number]) for number in range(count)]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int) -> None:
        stdout = self.processes[number].stdout
        assert stdout is not None
        for line in stdout:
            with self._news:
                self.acknowledged[number].append(int(line))
                self._news.notify_all()

    def wait_for_more(self, commits: int) -> None:
        """Return when each writer has had that many more commits acknowledged."""
        with self._news:
            wanted = [len(rows) + commits for rows in self.acknowledged]
            done = self._news.wait_for(
                lambda: all(len(rows) >= goal for rows, goal in zip(self.acknowledged, wanted, strict=True)), 60
            )
        assert done, [process.poll() for process in self.processes]

    def stop(self) -> list[str]:
        """End them and return what they complained about."""
        said = []
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process, reader in zip(self.processes, self._readers, strict=True):
            reader.join()
            assert process.stderr is not None
            assert process.stdout is not None
            said.append(process.stderr.read())
            process.wait()
            process.stderr.close()
            process.stdout.close()
        return [text for text in said if text]


def rows_of(path: Path, writer: int) -> list[int]:
    """Return the numbers of a writer's rows in a database file."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT number FROM entry WHERE writer = ? ORDER BY number"
        return [number for (number,) in connection.execute(query, [writer])]


def _write(live: str, writer: int, journal_mode: str) -> None:
    from django.db import connection, transaction

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    number = 0
    while not stop.is_set():
        number += 1
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO entry (writer, number) VALUES (%s, %s)", [writer, number])
            cursor.execute("UPDATE balance SET total = total + 1")
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        stop.wait(0.002)  # SQLite has no queue: writers that never rest would keep each other out


def main() -> None:
    """Switch, or write."""
    import django
    from django.conf import settings

    action, live, *arguments = sys.argv[1:]
    options = {"transaction_mode": "IMMEDIATE", "timeout": 60}
    if action == "write" and arguments[1] != "wal":
        options["init_command"] = f"PRAGMA journal_mode={arguments[1]}"
    settings.configure(DATABASES={"default": {"ENGINE": BACKEND, "NAME": live, "OPTIONS": options}})
    django.setup()
    if action == "write":
        _write(live, int(arguments[0]), arguments[1])
        return
    # A cache so small that pages reach the live file long before the commit, as they do with a large database.
    exchanging._CACHE, exchanging._MOST_BYTES = 16, 8192
    state, image = map(Path, arguments)
    engine = engine_at(Path(live), state)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    engine.settle_switch(switch(engine, state, image))


if __name__ == "__main__":
    main()
