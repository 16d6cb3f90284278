"""Connections to SQLite files: addressed so that any path works, hardened where we only read, errors in our words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db import connections

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    DatabaseError,
    LockedError,
    NoSpaceError,
    NotADatabaseError,
    ServerUnreachableError,
)
from erp_backup.engines.orm import temporary_alias

READ_ONLY = "mode=ro&immutable=1"
"""For files of ours that nobody writes: no lock, no -wal, no -shm, no journal is looked at or made beside them."""


HARDENING = ("PRAGMA trusted_schema=OFF", "PRAGMA cell_size_check=ON", "PRAGMA query_only=ON")


def uri(path: Path, parameters: str) -> str:
    """Return the URI of a file, whatever characters are in its path: in a URI ``?``, ``#`` and ``%`` mean something."""
    return f"file:{quote(os.fsencode(path.resolve()))}?{parameters}"


@contextlib.contextmanager
def opened(path: Path, parameters: str, *, timeout: float = 0.0) -> Iterator[sqlite3.Connection]:
    """Yield a connection in autocommit mode and close it afterwards. The file is never created."""
    # A generator may be closed by another thread than the one that read it: one at a time all the same.
    connection = sqlite3.connect(
        uri(path, parameters), uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    with contextlib.closing(connection):
        yield connection


@contextlib.contextmanager
def opened_hardened(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a file of ours that cannot write and does not trust what the file's schema says."""
    with opened(path, READ_ONLY) as connection:
        for statement in HARDENING:
            connection.execute(statement)
        yield connection


@contextlib.contextmanager
def opened_by_django(settings: Mapping[str, Any]) -> Iterator[sqlite3.Connection]:
    """Yield the connection that Django makes for ``settings``: schemas may use its functions, or the host's."""
    with temporary_alias(settings, purpose="sqlite") as alias:
        connections[alias].ensure_connection()
        connection: sqlite3.Connection = connections[alias].connection
        connection.execute("PRAGMA foreign_keys=OFF")
        yield connection


def read_only_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the host's ``DATABASES`` entry turned to a file of ours: read-only, hardened, the host's options left out.

    Options such as ``transaction_mode`` and a ``journal_mode`` among the init commands ask for what a reader may not.
    A schema that uses Django's own functions is read as trusted: they read and write nothing but their arguments.
    """
    hardened = hardened_settings(settings, path)
    return hardened if _is_readable(hardened) else trusting_settings(settings, path)


def hardened_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the same for a file whose schema is trusted in nothing, whatever then cannot be read of it."""
    return _reading(settings, path, HARDENING)


def trusting_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the same as :func:`read_only_settings`, for a schema that uses functions of Django or of the host."""
    return _reading(settings, path, HARDENING[1:])


def _reading(settings: Mapping[str, Any], path: Path, hardening: tuple[str, ...]) -> dict[str, Any]:
    return {
        **settings,
        "NAME": uri(path, READ_ONLY),
        "OPTIONS": {"init_command": "; ".join(hardening)},
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": 0,
    }


def _is_readable(settings: Mapping[str, Any]) -> bool:
    """Whether all tables can be read: an index or a generated column may need a function that is not trusted."""
    with opened_by_django(settings) as connection:
        try:
            for name in real_tables(connection):
                connection.execute(f"EXPLAIN SELECT * FROM {quoted(name)}").close()  # noqa: S608 - quoted
        except sqlite3.DatabaseError as error:
            return "unsafe use of" not in str(error)
    return True


def writable_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the host's ``DATABASES`` entry turned to an existing file of ours, which no crash matters to."""
    return {
        **settings,
        "NAME": uri(path, "mode=rw"),
        # Statements of a dump run once each: kept for another time, they would take half of the memory.
        "OPTIONS": {"init_command": "PRAGMA synchronous=OFF; PRAGMA cache_size=-16000", "cached_statements": 0},
    }


def reading_settings(settings: Mapping[str, Any], path: Path, limit: float) -> dict[str, Any]:
    """Return the host's ``DATABASES`` entry for reading a file that others may write; ``limit`` is in seconds."""
    return {
        **settings,
        "NAME": uri(path, "mode=ro"),
        "OPTIONS": {"timeout": limit, "init_command": "PRAGMA query_only=ON"},
        "CONN_MAX_AGE": 0,
    }


def durable_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the host's ``DATABASES`` entry turned to an existing file of ours, whose every commit is to last."""
    return {
        **settings,
        "NAME": uri(path, "mode=rw"),
        "OPTIONS": {"init_command": "PRAGMA synchronous=EXTRA; PRAGMA cell_size_check=ON"},
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "CONN_MAX_AGE": 0,
    }


def real_tables(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables that hold rows themselves, in order of creation.

    Views and virtual tables have no root page; a virtual table's shadow tables are tables like any other. Names that
    begin with ``sqlite_`` are SQLite's own.
    """
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        " AND lower(substr(name, 1, 7)) <> 'sqlite_' ORDER BY rowid"
    )
    return [name for (name,) in rows]


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether there is a table of that name."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, [name]).fetchone()[0])


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Return the value of a pragma that has one."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def quoted(identifier: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


@contextlib.contextmanager
def errors_in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file at ``path`` into errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise in_words(error, path) from error


def in_words(error: sqlite3.Error, path: Path) -> BackupError:
    """Return our error for one of SQLite's, by its primary result code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind, said, remedy = _KINDS.get(code, (DatabaseError, "failed", ""))
    return kind(f"The database {path} {said}: {error}.", remedy=remedy)


_WAIT = "Wait until the other process has ended its transaction, then run this again."
_SPACE = "Free space there, then run this again."
_RIGHTS = "Let this user read and write the file and its folder."
_OTHER = "Correct its path, or use a backup if this is the place of the live database."
_DAMAGED = "Run `PRAGMA integrity_check` on it. If it is the live database, restore the newest verified backup."
_KINDS: dict[int, tuple[type[BackupError], str, str]] = {
    sqlite3.SQLITE_BUSY: (LockedError, "is locked", _WAIT),
    sqlite3.SQLITE_LOCKED: (LockedError, "is locked", _WAIT),
    sqlite3.SQLITE_FULL: (NoSpaceError, "cannot be written, there is no space left", _SPACE),
    sqlite3.SQLITE_NOTADB: (NotADatabaseError, "is no SQLite database, or an encrypted one", _OTHER),
    sqlite3.SQLITE_CORRUPT: (CorruptError, "is damaged", _DAMAGED),
    sqlite3.SQLITE_CANTOPEN: (ServerUnreachableError, "cannot be opened", _RIGHTS),
    sqlite3.SQLITE_PERM: (ServerUnreachableError, "cannot be opened", _RIGHTS),
    sqlite3.SQLITE_READONLY: (ServerUnreachableError, "cannot be opened", _RIGHTS),
    sqlite3.SQLITE_IOERR: (ServerUnreachableError, "cannot be read or written", "Look at the disk and its messages."),
}
