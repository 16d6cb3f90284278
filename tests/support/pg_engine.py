"""The PostgreSQL engine for tests: built by hand on a real database, taken through dump, load and comparison."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from erp_backup.core.clock import SystemClock
from erp_backup.core.figures import Finding
from erp_backup.core.process import ProcessRunner
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, DumpRequest, LoadReport, Tools
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.connecting import parameters
from erp_backup.engines.postgresql.scratch import PostgreSQLScratch
from tests.contracts.engine import Dumped, compare_with, dump_to
from tests.support.host import REPOSITORY

_JOB = """
    import json, os, sys, threading
    from pathlib import Path
    import django
    from django.conf import settings
    entry = json.loads(os.environ["ENTRY"])
    settings.configure(DATABASES={"default": entry})
    django.setup()
    from erp_backup.core.workspace import Workspace
    from tests.support.pg_engine import engine_of
    engine = engine_of(entry)
    with Workspace(Path(sys.argv[1])).folder("drill") as folder:
"""


def engine_of(entry: Mapping[str, Any], **tools: Any) -> PostgreSQL:
    """Return the engine of a DATABASES entry; ``tools`` are those of :class:`Tools`."""
    clock = SystemClock()
    given = {"jobs": 2, "lock_timeout": 0.3, "clock": clock, "runner": ProcessRunner(clock, grace=0.5), **tools}
    return PostgreSQL(Database(alias="default", settings=entry), Tools(**given))


def connect(entry: Mapping[str, Any], database: str | None = None) -> psycopg.Connection[Any]:
    """Return an autocommit session of an entry's user, in its database or in another; the caller closes it."""
    return psycopg.connect(**parameters(entry, database=database), autocommit=True)  # type: ignore[arg-type]


def run(entry: Mapping[str, Any], *statements: str) -> None:
    """Run and commit statements, one after the other."""
    with connect(entry) as connection:
        for statement in statements:
            connection.execute(statement)


def take(engine: PostgreSQL, folder: Folder, request: DumpRequest | None = None) -> Dumped:
    """Dump and measure in one snapshot, as a backup does, with a manifest that says what was asked for."""
    request = request or DumpRequest()
    format_name = request.format or engine.formats[0]
    with engine.snapshot(request, folder) as snapshot:
        dumped = dump_to(snapshot, folder.path / f"dump.{format_name}", request, format_name)
    tools = engine.tool_versions()
    return replace(dumped, manifest=replace(dumped.manifest, schemas=request.schemas, tools=tools))


def drill(
    engine: PostgreSQL, folder: Folder, dumped: Dumped, change: Callable[[PostgreSQLScratch], None] | None = None
) -> tuple[LoadReport, list[Finding]]:
    """Load a dump into a scratch database, change that if asked to, and compare it with the manifest."""
    with engine.scratch(dumped.manifest.database, folder) as scratch:
        report = scratch.load(dumped.path, dumped.manifest)
        if change is not None:
            assert isinstance(scratch, PostgreSQLScratch)
            change(scratch)
        return report, compare_with(scratch, dumped.manifest.figures, dumped.manifest)


def round_trip(engine: PostgreSQL, folder: Folder, request: DumpRequest | None = None) -> list[str]:
    """Take a dump and drill it; return all that is wrong, as text."""
    report, findings = drill(engine, folder, take(engine, folder, request))
    return [*report.errors, *map(str, findings)]


@contextlib.contextmanager
def job(entry: Mapping[str, Any], state_dir: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run `script` in a process of its own, inside a job's folder (`engine`, `folder`); it is killed at the end."""
    program = textwrap.dedent(_JOB) + textwrap.indent(textwrap.dedent(script), "    ")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(state_dir)],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "ENTRY": json.dumps(dict(entry))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def eventually(claim: Callable[[], object], seconds: float = 30) -> bool:
    """Whether the claim becomes true within a time that no healthy machine needs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.01)
    return False


def scratch_databases(entry: Mapping[str, Any]) -> set[str]:
    """Return the scratch databases of an entry's server, but for those that somebody keeps."""
    with connect(entry, "postgres") as connection:
        rows = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, %s)",
            ["erp_backup_scratch_"],
        ).fetchall()
    return {name for name, comment in rows if not (comment or "").endswith("kept on purpose")}


def waiting_sessions(entry: Mapping[str, Any]) -> list[str]:
    """Return the queries in an entry's database that wait for a lock."""
    with connect(entry, "postgres") as connection:
        rows = connection.execute(
            "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s", [entry["NAME"]]
        ).fetchall()
    return [query for (query,) in rows]
