"""A demo ERP with one proven backup, to be restored in many ways; and what its history says."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import leftovers
from tests.support.content import content_of
from tests.support.host import Host, Result
from tests.support.postgres import Cluster, temporary_database

RELEASES = """
import os, sys
if os.environ.get("NEWER_RELEASE"):
    sys.path.insert(0, os.environ["NEWER_RELEASE"])
    MIGRATION_MODULES = {"erp": "newer_migrations"}
"""


@dataclass
class Erp:
    """A demo with one proven backup, `state`, and what its live database holds."""

    host: Host
    database: dict[str, Any] | Path
    cluster: Cluster | None
    state: str = ""
    backup: str = ""
    name: str = field(default="")

    @property
    def content(self) -> str:
        """What the live database holds now."""
        return content_of(self.database, self.cluster)

    def run(self, code: str, env: dict[str, str] | None = None) -> str:
        """Run Python in the ERP."""
        return self.host.manage("shell", "--no-imports", "-c", code, env=env).stdout.strip()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement past Django and return its rows."""
        if isinstance(self.database, Path):
            with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection, connection:
                return connection.execute(statement).fetchall()
        assert self.cluster is not None
        with self.cluster.connect(self.database["NAME"]) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log_in(self, key: str) -> None:
        """Let somebody be logged in, for years."""
        values = f"('{key}', 'x', '2030-01-01')"
        self.sql(f"INSERT INTO django_session (session_key, session_data, expire_date) VALUES {values}")

    def change(self) -> None:
        """Do something after the backup that a restore undoes."""
        self.sql("UPDATE users SET is_active = false WHERE id = 2")

    def restore(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> Result:
        """Run dbrestore without asking."""
        return self.host.manage("dbrestore", "--noinput", *arguments, check=check, env=env)

    def assert_refused(self, code: int, text: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        """Assert that a restore fails with that code and message, and that all is as it was."""
        with self.unchanged():
            result = self.restore(*arguments, check=False, env=env)

            assert code == result.returncode, str(result)
            assert text in result.stderr + result.stdout, str(result)
            assert "Traceback" not in result.stderr

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Assert that the block leaves the live database as it was, the ERP open, and nothing else behind."""
        before = self.content
        yield
        assert before == self.content
        assert [] == self.sql("SELECT name FROM erp_backup_restore WHERE status = 'running'")
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No scratch database, job, file of nobody, process."""
        leftovers.assert_nothing_left(self.host, self.cluster)


@contextlib.contextmanager
def made(folder: Path, kind: str, postgres: Cluster, settings: str = "") -> Iterator[Erp]:
    """Make a demo with one backup; ``settings`` end its settings module."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        is_postgresql = kind == "postgresql"
        databases = {"default": entry} if is_postgresql else None
        host = Host(folder / "host", databases=databases, extra_settings=RELEASES + settings)
        host.migrate()
        host.seed(users=5, items=10, transactions=40)
        database = entry if is_postgresql else host.database_file
        erp = Erp(host, database, postgres if is_postgresql else None)
        erp.name = entry["NAME"] if is_postgresql else "app.db"
        erp.log_in("session-0")
        erp.state = erp.content
        erp.backup = host.manage("dbbackup", "--json").json()["backups"][0]["id"]
        yield erp
        host.close()
        if is_postgresql:
            for name in postgres.databases():
                if name.startswith(f"{entry['NAME']}__old"):
                    postgres.drop_database(name)
