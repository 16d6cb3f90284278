"""Demo databases that were made once by the demo's own commands, and are copied for each further test.

Only databases of ordinary tests: a fresh SQLite file, or an empty PostgreSQL database of the ordinary role that has
nothing of its own (settings, rights, another encoding).
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_ORDINARY = """
SELECT datacl IS NULL AND datconnlimit = -1 AND shobj_description(oid, 'pg_database') IS NULL
   AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)
   AND (encoding, datcollate, datctype)
     = (SELECT t.encoding, t.datcollate, t.datctype FROM pg_database t WHERE t.datname = 'template1')
FROM pg_database d WHERE datname = %s
"""
_folder: Path | None = None


def _files() -> Path:
    global _folder  # noqa: PLW0603 - one for this process, gone with it
    if _folder is None:
        _folder = Path(tempfile.mkdtemp(prefix="erp-prepared-"))
        atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    return _folder


class SqliteTemplates:
    """Copies of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def bring(self, name: str) -> bool:
        """Put the database called `name` in place; False where there is none yet."""
        template = _files() / f"{name}.db"
        if not template.exists():
            return False
        shutil.copy(template, self._path)
        return True

    def keep(self, name: str) -> None:
        """Remember the database as it is."""
        if not any(self._path.with_name(self._path.name + suffix).exists() for suffix in ("-wal", "-journal")):
            shutil.copy(self._path, _files() / f"{name}.db")

    @property
    def is_ordinary(self) -> bool:
        """Whether a template may take its place."""
        return not self._path.exists()


class PostgresTemplates:
    """Databases of the same cluster, `demo_template_NAME`."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._entry = entry
        self._name = str(entry["NAME"])

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        entry = self._entry
        values = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "password": entry["PASSWORD"]}
        return psycopg.connect(**values, dbname=name, autocommit=True)

    @property
    def is_ordinary(self) -> bool:
        """Whether a template may take its place."""
        try:
            with self._connect(self._name) as connection:
                row = connection.execute(_ORDINARY, [self._name]).fetchone()
                tables = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace >= 16384").fetchone()
                public = connection.execute(
                    "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                ).fetchone()
        except psycopg.Error:
            return False
        return (row, tables, public) == ((True,), (0,), (0,))

    def bring(self, name: str) -> bool:
        """Put the database called `name` in place; False where there is none yet."""
        template = sql.Identifier(f"demo_template_{name}")
        ours = sql.Identifier(self._name)
        with self._connect("postgres") as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [f"demo_template_{name}"]
            ).fetchone()
            if found is None:
                return False
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(ours))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(ours, template))
        return True

    def keep(self, name: str) -> None:
        """Remember the database as it is, unless somebody is connected to it."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        names = sql.Identifier(f"demo_template_{name}"), sql.Identifier(self._name)
        with self._connect("postgres") as connection, contextlib.suppress(psycopg.Error):
            connection.execute(statement.format(*names))


Templates = SqliteTemplates | PostgresTemplates


def bring_folder(name: str, folder: Path) -> None:
    """Put the files that belong to a template where a host expects them."""
    if (_files() / name).is_dir():
        shutil.copytree(_files() / name, folder, dirs_exist_ok=True)


def keep_folder(name: str, folder: Path) -> None:
    """Remember the files that belong to a template."""
    if folder.is_dir() and not (_files() / name).is_dir():
        shutil.copytree(folder, _files() / name)
