"""The schema of a SQLite file as objects with a digest each: what no row shows and a restore must bring back."""

from __future__ import annotations

import hashlib
import re
import sqlite3

from erp_backup.core.figures import SchemaObject
from erp_backup.engines.sqlite.connecting import pragma
from erp_backup.engines.sqlite.tables import Column, Table

PRAGMAS = ("application_id", "user_version")
"""What applications keep in the file's header, and a restore must bring back."""

# A quoted piece, kept as it is, or a run of white space. A doubled quote inside reads as two quoted pieces: the same.
_QUOTED_OR_SPACE = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\])|\s+""")


def read_objects(connection: sqlite3.Connection, tables: list[Table]) -> tuple[SchemaObject, ...]:
    """Return tables, indexes, triggers and views with their SQL, columns with their properties, and pragmas.

    What SQLite makes by itself (``sqlite_...``) follows from the tables.
    """
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master"
        " WHERE sql IS NOT NULL AND lower(substr(name, 1, 7)) <> 'sqlite_' ORDER BY type, name"
    )
    objects = [_object(kind, name, _normalised(definition)) for kind, name, definition in rows]
    for table in tables:
        objects += [_column_object(table, column) for column in table.columns]
    objects += [_object("pragma", name, str(pragma(connection, name))) for name in PRAGMAS]
    return tuple(objects)


def _column_object(table: Table, column: Column) -> SchemaObject:
    properties = (column.type, column.notnull, column.default, column.key, column.hidden)
    return _object("column", f"{table.name}.{column.name}", repr(properties))


def _object(kind: str, name: str, definition: str) -> SchemaObject:
    return SchemaObject(kind=kind, name=name, digest=hashlib.sha256(definition.encode()).hexdigest()[:16])


def _normalised(definition: str) -> str:
    """Return SQL with each run of white space outside quotes as one space: loading it may change line ends."""
    return _QUOTED_OR_SPACE.sub(lambda match: match[1] or " ", definition).strip()
