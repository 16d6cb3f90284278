"""Loading the ``sql`` format: statement by statement, each one looked at before it may run."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from erp_backup.core.errors import NoSpaceError
from erp_backup.engines.base import LoadReport
from erp_backup.engines.sqlite.connecting import in_words
from erp_backup.engines.sqlite.statements import statements

_MOST_ERRORS = 20
# How much larger than its SQL a foreign database may become, and what it may become in any case (bytes).
_MOST_GROWTH = 20
_LEAST_ROOM = 64 * 1024 * 1024

# What a dump consists of. Anything else is refused, above all what reaches beyond this file: ATTACH (which VACUUM INTO
# uses too) and extensions; and what no dump needs: temporary objects, recursion (which need not end).
_ACTIONS = {
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_ANALYZE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_UPDATE,
}
_CHANGES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_PRAGMAS = {
    "application_id",
    "auto_vacuum",
    "encoding",
    "foreign_keys",
    "ignore_check_constraints",
    "page_size",
    "user_version",
}
_REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer"}
_NAMES = {
    number: name.removeprefix("SQLITE_").replace("_", " ")
    for name, number in vars(sqlite3).items()
    if name.startswith(("SQLITE_CREATE_", "SQLITE_DROP_"))
} | {
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_FUNCTION: "function",
    sqlite3.SQLITE_PRAGMA: "PRAGMA",
    sqlite3.SQLITE_RECURSIVE: "WITH RECURSIVE",
}

# A virtual table as dumps enter it. Its module is never asked to create anything.
_WRITABLE_SCHEMA = re.compile(r"\s*PRAGMA\s+writable_schema\s*=\s*\w+\s*;?\s*", re.IGNORECASE)
_TEXT = r"'((?:[^']|'')*+)'"
_VIRTUAL_TABLE = re.compile(
    r"\s*INSERT\s+INTO\s+sqlite_(?:master|schema)\s*\(type,name,tbl_name,rootpage,sql\)\s*"
    rf"VALUES\s*\('table',{_TEXT},{_TEXT},0,{_TEXT}\);\s*",
    re.IGNORECASE,
)
_ENTER = "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql) VALUES('table',?,?,0,?)"
_HEAD = re.compile(r"(?:--[^\n]*\n|\s)*((?:[\w.\"\[\]`]+\s*){1,3})")


def load_sql(path: Path, connection: sqlite3.Connection, target: Path) -> LoadReport:
    """Run the statements of the dump at ``path``, which may be hostile, on a connection to the new file ``target``.

    A statement that fails is an error and the next one runs, as the stock program does it. Raises NoSpaceError.
    """
    return _load(path, _Loader(connection, target))


def load_foreign_sql(path: Path, connection: sqlite3.Connection, target: Path) -> LoadReport:
    """Do the same for a dump that was not made here: no trigger of its own fires, and it cannot grow without end.

    ``connection`` is SQLite's own, without functions of Django or of the host. Raises NoSpaceError.
    """
    page = connection.execute("PRAGMA page_size").fetchone()[0]
    most = (_LEAST_ROOM + _MOST_GROWTH * path.stat().st_size) // page
    for setting in ("journal_mode=MEMORY", f"max_page_count={most}"):
        connection.execute(f"PRAGMA {setting}")
    return _load(path, _Loader(connection, target, fires_triggers=False))


def _load(path: Path, loader: _Loader) -> LoadReport:
    with path.open("rb") as file, loader.guarded():
        for statement in statements(file):
            loader.run(statement)
            if len(loader.errors) == _MOST_ERRORS:
                loader.errors.append("More errors may follow; the rest was not loaded.")
                break
        loader.end()
    return LoadReport(errors=tuple(loader.errors))


class _Loader:
    """Runs statements, remembers what was wrong with them."""

    def __init__(self, connection: sqlite3.Connection, target: Path, *, fires_triggers: bool = True) -> None:
        self._fires_triggers = fires_triggers
        self.errors: list[str] = []
        self._connection = connection
        self._target = target
        self._count = 0
        self._refused = ""

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Let SQLite ask us about each thing that a statement would do."""
        self._connection.set_authorizer(self._authorize)
        try:
            yield
        finally:
            self._connection.set_authorizer(None)

    def run(self, statement: bytes) -> None:
        """Run one statement. Raises NoSpaceError."""
        self._count += 1
        self._refused = ""
        try:
            self._execute(statement.decode())
        except UnicodeDecodeError:
            self._note(statement.decode(errors="replace"), "it is not UTF-8")
        except ValueError as error:  # a NUL character
            self._note(statement.decode(errors="replace"), str(error))
        except sqlite3.Warning as error:
            self._note(statement.decode(), str(error))
        except sqlite3.Error as error:
            problem = in_words(error, self._target)
            if isinstance(problem, NoSpaceError):
                raise problem from error
            self._note(statement.decode(), f"refused: {self._refused}" if self._refused else str(error))

    def end(self) -> None:
        """Note a transaction that the dump did not end: what it wrote is undone."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
            self.errors.append("The dump ends within its transaction: its end is missing, or a statement undid it.")

    def _execute(self, statement: str) -> None:
        if _WRITABLE_SCHEMA.fullmatch(statement):
            return
        virtual = _VIRTUAL_TABLE.fullmatch(statement)
        if virtual:
            self._enter_virtual_table(*(text.replace("''", "'") for text in virtual.groups()))
        else:
            self._connection.execute(statement)

    def _enter_virtual_table(self, name: str, table: str, definition: str) -> None:
        if name != table or not definition[:20].upper().startswith("CREATE VIRTUAL TABLE"):
            raise sqlite3.OperationalError("only virtual tables are entered into the schema like this")
        self._connection.set_authorizer(None)
        self._connection.execute("PRAGMA writable_schema=ON")
        try:
            self._connection.execute(_ENTER, [name, table, definition])
        finally:
            self._connection.execute("PRAGMA writable_schema=OFF")
            self._connection.set_authorizer(self._authorize)

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        is_allowed = action in _ACTIONS and database in {"main", None}
        if action in _CHANGES and trigger is not None and not self._fires_triggers:
            self._refused = f"the trigger {trigger} would fire"
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA:
            is_allowed = (first or "").lower() in _PRAGMAS
        elif action == sqlite3.SQLITE_FUNCTION:
            is_allowed = (second or "").lower() not in _REFUSED_FUNCTIONS
        if not is_allowed:
            self._refused = f"{_NAMES.get(action, f'action {action}')} {first or second or ''}".strip()
        return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY

    def _note(self, statement: str, problem: str) -> None:
        """Note an error with the statement's first words: what follows them may be anybody's data."""
        head = _HEAD.match(statement)
        self.errors.append(f"Statement {self._count} ({head[1].strip()[:80] if head else '?'}): {problem}")
