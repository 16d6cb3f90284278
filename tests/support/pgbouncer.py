"""A real pgbouncer before a cluster: started for a test, gone at its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.machine import HOST, Account, free_port
from tests.support.pg_engine import eventually

_CONFIGURATION = """
[databases]
{name} = host={host} port={port} dbname={name} user={user} password={password}
[pgbouncer]
listen_addr = {host}
listen_port = {listen}
unix_socket_dir =
auth_type = any
admin_users = admin
stats_users = looker
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = extra_float_digits
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooler:
    """A running pgbouncer that offers one database in transaction mode."""

    port: int
    name: str

    @property
    def console(self) -> str:
        """How to reach its admin console."""
        return f"host={HOST} port={self.port} dbname=pgbouncer user=admin"

    def connect(self) -> psycopg.Connection[Any]:
        """Return a client's connection; the caller closes it."""
        return psycopg.connect(
            host=HOST, port=self.port, dbname=self.name, user="client", autocommit=True, prepare_threshold=None
        )

    def is_paused(self) -> bool:
        """Whether its clients wait."""
        with psycopg.connect(self.console, autocommit=True) as connection:
            cursor = connection.execute("SHOW DATABASES")
            columns = [column.name for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        return any(row["name"] == self.name and str(row["paused"]) == "1" for row in rows)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.console, autocommit=True):
            return True
        return False


@contextlib.contextmanager
def running(entry: Mapping[str, Any], folder: Path) -> Iterator[Pooler]:
    """Start pgbouncer for the database of `entry` and stop it at the end. It refuses to run as root."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.fail("pgbouncer is missing. Run tools/system-packages.")
    account = Account.for_servers()
    pooler = Pooler(port=free_port(), name=entry["NAME"])
    path = folder / "pgbouncer.ini"
    path.touch(mode=0o600)
    path.write_text(
        _CONFIGURATION.format(
            name=entry["NAME"],
            host=HOST,
            port=entry["PORT"],
            user=entry["USER"],
            password=entry["PASSWORD"],
            listen=pooler.port,
        )
    )
    account.own(path)
    account.own(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-q", path], stdout=log, stderr=log, cwd=folder, start_new_session=True, **account.arguments()
        )
    try:
        if not eventually(lambda: pooler._answers() or process.poll() is not None) or process.poll() is not None:
            pytest.fail(f"pgbouncer did not start: {(folder / 'log').read_text()}")
        yield pooler
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
