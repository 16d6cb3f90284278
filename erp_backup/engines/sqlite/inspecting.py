"""Looking at files that are, or should be, whole SQLite databases; and at SQL that should be a whole dump."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from erp_backup.core.errors import CorruptError
from erp_backup.engines.sqlite.connecting import errors_in_words, opened_hardened, real_tables
from erp_backup.engines.sqlite.statements import statements

T = TypeVar("T")

MOST_LINES = 20
_MAGIC = b"SQLite format 3\0"
_HEADER_SIZE = 100
_LARGEST_PAGE = 65536  # written as 1
_COMMIT = re.compile(rb"\s*(?:--[^\n]*\n\s*)*(?:COMMIT|END)(?:\s+TRANSACTION)?\s*;", re.IGNORECASE)
_BEGIN = re.compile(rb"\s*(?:--[^\n]*\n\s*)*BEGIN\b", re.IGNORECASE)
# What quick_check says about a value, not about how it is stored.
_ABOUT_VALUES = re.compile(r"^(NULL|TEXT|NUMERIC|non-\w+) value|^CHECK constraint failed", re.IGNORECASE)
_CONTENT = re.compile(rb"\s*(?:--[^\n]*\n\s*)*(?:BEGIN|CREATE|INSERT)\b", re.IGNORECASE)


def require_whole(path: Path) -> None:
    """Raise CorruptError for a file without SQLite's header, or of another size than the header says."""
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    size = path.stat().st_size
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise CorruptError(
            f"{path.name} is no SQLite database: it begins otherwise.", remedy="Use another backup, or another format."
        )
    page_size = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else _LARGEST_PAGE
    pages = int.from_bytes(header[28:32])
    # Where the two differ, a version before 3.7 wrote last and left the number of pages as it was.
    is_known = header[24:28] == header[92:96] and pages > 0
    if is_known and size != page_size * pages:
        raise CorruptError(f"{path.name} has {size:,} bytes, its header says {page_size * pages:,}.")


def require_sound(path: Path) -> None:
    """Raise CorruptError unless SQLite reads every page of the file and finds it in order (``quick_check``)."""
    require_whole(path)
    with errors_in_words(path), opened_hardened(path) as connection:
        lines = _check(connection, "quick_check")
    if lines:
        raise CorruptError(f"{path.name} is damaged: {lines[0]}.", remedy="Use another copy or another backup.")


def require_whole_sql(path: Path) -> None:
    """Raise CorruptError unless the dump has content; a transaction that it begins must end with the last statement."""
    last = b""
    has_begun = has_content = False
    with path.open("rb") as file:
        for statement in statements(file):
            last = statement
            has_begun = has_begun or bool(_BEGIN.match(statement))
            has_content = has_content or bool(_CONTENT.match(statement))
    if not has_content:
        raise CorruptError(f"{path.name} is no SQL dump: nothing in it creates or inserts anything.")
    if not last.endswith(b";") or (has_begun and not _COMMIT.fullmatch(last)):
        raise CorruptError(f"{path.name} is cut off: its last statement is not the end of its transaction.")


def can_read_all(connection: sqlite3.Connection) -> bool:
    """Whether the database has a table and every page of it can be read. Raises sqlite3.OperationalError when locked.

    Rows that break a constraint can be read all the same.
    """
    try:
        if not real_tables(connection):
            return False
        lines = [str(line) for (line,) in connection.execute(f"PRAGMA quick_check({MOST_LINES})")]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    return all(line == "ok" or _ABOUT_VALUES.search(line) for line in lines)


def integrity_complaints(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return what ``integrity_check`` finds, and how many rows of which table refer to rows that do not exist.

    Raises ``sqlite3.OperationalError`` when an index needs a function that the connection does not have.
    """
    return (*_check(connection, "integrity_check"), *_orphans(connection))


def _check(connection: sqlite3.Connection, pragma: str) -> list[str]:
    lines = _unless_malformed(lambda: [str(line) for (line,) in connection.execute(f"PRAGMA {pragma}({MOST_LINES})")])
    return [] if lines == ["ok"] else lines


def _orphans(connection: sqlite3.Connection) -> list[str]:
    # Counted by SQLite: a table of millions of such rows is one line all the same.
    query = 'SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2'
    return _unless_malformed(
        lambda: [
            f"foreign_key_check: {count:,} rows of {table} refer to rows of {parent} that do not exist"
            for table, parent, count in connection.execute(query)
        ]
    )


def _unless_malformed(ask: Callable[[], list[str]]) -> list[str]:
    """Return the answer; a file too damaged to be asked is an answer as well."""
    try:
        return ask()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return [str(error)]
