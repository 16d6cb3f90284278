"""The live database's file: where it is, and whether it is one. Here it is never created, and never written.

It is read through SQLite alone: closing a file that was opened otherwise would drop the locks that other connections
of this process hold on it.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from erp_backup.core.errors import NotADatabaseError, RefusedError, ServerUnreachableError
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.engines.sqlite.connecting import errors_in_words, opened, pragma, real_tables


def path_of(name: str) -> Path:
    """Return the file that NAME in ``DATABASES`` means, links followed. Raises RefusedError for one in memory."""
    parts = urlsplit(name) if name.startswith("file:") else None
    path = unquote(parts.path) if parts else name
    mode = parse_qs(parts.query).get("mode", []) if parts else []
    if path in {"", ":memory:"} or "memory" in mode:
        raise RefusedError(
            f"The database {name!r} is in the memory of the process that made it: nobody else can read it.",
            remedy="Back up a database in a file.",
        )
    return Path(path).resolve()


def require_file(path: Path) -> None:
    """Raise ServerUnreachableError where there is no file, NotADatabaseError for an empty one."""
    if not path.is_file():
        raise ServerUnreachableError(
            f"There is no database file {path}.",
            remedy="Correct NAME in DATABASES; a relative path begins where you are.",
        )
    if size_of(path) == 0:
        raise NotADatabaseError(
            f"The database {path} is empty: a file of 0 bytes, without a table.",
            remedy="SQLite makes such a file where a path is wrong. Correct NAME in DATABASES, or run migrate first.",
        )


def size_of(path: Path) -> int:
    """Return the bytes of a database, those that wait in its write-ahead log included."""
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def require_readable(path: Path, limit: float) -> None:
    """Prove that the database can be read. Raises LockedError after ``limit`` seconds, NotADatabaseError and their kin.

    Where a writer died and left a hot journal, SQLite lets nobody read before that writer's last transaction is undone.
    That is done here, as the next process that opens the database would do it.
    """
    require_file(path)
    with errors_in_words(path):
        _read(path, limit)


def _read(path: Path, limit: float) -> None:
    try:
        _touch(path, "mode=ro", limit)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        _touch(path, "mode=rw", limit)


def _touch(path: Path, mode: str, limit: float) -> None:
    with opened(path, mode, timeout=limit) as connection:
        pragma(connection, "schema_version")


def tables_of(path: Path, limit: float) -> list[str]:
    """Return the names of the tables; raises as :func:`require_readable` does."""
    require_readable(path, limit)
    with errors_in_words(path), opened(path, "mode=ro", timeout=limit) as connection:
        return real_tables(connection)


def facts_of(alias: str, path: Path, connection: sqlite3.Connection) -> DatabaseFacts:
    """Return what the live database at ``path`` is; the connection may be to its copy."""
    return DatabaseFacts(
        alias=alias,
        engine="sqlite",
        name=str(path),
        version=sqlite3.sqlite_version,
        major=sqlite3.sqlite_version_info[0],
        encoding=pragma(connection, "encoding"),
        size=size_of(path),
    )


COMPANIONS = ("-wal", "-journal", "-shm")
_DAMAGE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class Condition(Enum):
    """What stands in the live database's place."""

    MISSING = "missing"
    EMPTY = "empty"  # 0 bytes and nothing beside them: a database without a table
    DATABASE = "database"  # SQLite opens it; rows may be damaged all the same
    DAMAGED = "damaged"  # SQLite does not


def beside(path: Path) -> list[Path]:
    """Return where SQLite keeps files beside a database: ``-wal``, ``-journal``, ``-shm``."""
    return [path.with_name(path.name + suffix) for suffix in COMPANIONS]


def companions_of(path: Path) -> list[Path]:
    """Return those of these files that exist."""
    return [companion for companion in beside(path) if companion.exists()]


def condition_of(path: Path, limit: float) -> Condition:
    """Return what stands at ``path``. Raises LockedError, ServerUnreachableError where that cannot be told.

    A file cut to 0 bytes is not opened while something waits beside it: SQLite would delete that, and it may be all
    that is left.
    """
    if not path.exists():
        return Condition.MISSING
    if path.stat().st_size == 0:
        return Condition.DAMAGED if any(c.stat().st_size for c in companions_of(path)) else Condition.EMPTY
    with errors_in_words(path):
        try:
            _read(path, limit)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                return Condition.DAMAGED
            raise
    return Condition.DATABASE
