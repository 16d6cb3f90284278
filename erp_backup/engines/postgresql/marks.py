"""What a switch leaves in the comments of databases: the one state that lives and dies with its transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from psycopg import sql

from erp_backup.core import jsondata
from erp_backup.core.errors import CorruptError
from erp_backup.engines.postgresql.connecting import Connection

_REPLACED = "erp_backup: replaced "
_SWITCHED = "erp_backup: switched "
_PAUSED = "erp_backup: paused "


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedMark:
    """Stands on a database that was put aside. ``comment`` is the one it had before."""

    live: str
    restore: str
    replaced_at: datetime
    comment: str = ""

    def text(self) -> str:
        """Return the comment that says so."""
        return _REPLACED + _json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedMark:
    """Stands on the live database from the switch until everything that follows it is done.

    ``replaced`` is the name of what was put aside, or empty; ``comment`` the live database's own; ``is_paused`` says
    that the pooler was made to wait.
    """

    restore: str
    replaced: str = ""
    comment: str = ""
    is_paused: bool = False

    def text(self) -> str:
        """Return the comment that says so."""
        return _SWITCHED + _json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedMark:
    """Stands on the live database while the pooler in front of it is made to wait. ``comment`` is its own."""

    comment: str = ""

    def text(self) -> str:
        """Return the comment that says so."""
        return _PAUSED + _json(self)


Mark = TypeVar("Mark", ReplacedMark, SwitchedMark, PausedMark)


def _json(mark: ReplacedMark | SwitchedMark | PausedMark) -> str:
    return jsondata.canonical(jsondata.to_data(mark)).decode().strip()


def replaced_mark(comment: str) -> ReplacedMark | None:
    """Return what ``comment`` says about a database that was put aside, if that is what it is about."""
    return _read(ReplacedMark, _REPLACED, comment)


def switched_mark(comment: str) -> SwitchedMark | None:
    """Return what ``comment`` says about a switch, if that is what it is about."""
    return _read(SwitchedMark, _SWITCHED, comment)


def paused_mark(comment: str) -> PausedMark | None:
    """Return what ``comment`` says about a pooler that waits, if that is what it is about."""
    return _read(PausedMark, _PAUSED, comment)


def _read(kind: type[Mark], prefix: str, comment: str) -> Mark | None:
    """A comment that somebody has edited is a comment of theirs."""
    if not comment.startswith(prefix):
        return None
    try:
        return jsondata.from_data(kind, jsondata.parse(comment.removeprefix(prefix).encode()))
    except CorruptError:
        return None


def comment_on(connection: Connection, database: str) -> str:
    """Return a database's comment; empty where there is none, or no such database."""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [database]
    ).fetchone()
    return (row[0] if row else None) or ""


def comment_sql(name: str, text: str) -> sql.Composed:
    """Return what sets a database's comment; an empty one removes it."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text))
