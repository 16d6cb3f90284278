"""What would go wrong in a backup, seen before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from erp_backup.core.figures import Severity
from erp_backup.engines.base import DumpRequest, Problem
from erp_backup.engines.postgresql import catalog
from erp_backup.engines.postgresql.connecting import Connection
from erp_backup.engines.postgresql.snapshot import is_excluded

# Without USAGE of the schema the right to read its tables is worth nothing.
_UNREADABLE = f"""
SELECT n.nspname, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND {catalog.OURS}
  AND {catalog.no_member("pg_class", "c.oid")}
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')) ORDER BY 1, 2
"""
_HIDDEN = """
SELECT n.nspname, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid) ORDER BY 1, 2
"""
_LISTED = 5  # names in a sentence


def problems_with(connection: Connection, request: DumpRequest) -> Iterator[Problem]:
    """Yield what a dump of this database, as requested, would stumble over or silently lack."""
    yield from _schemas(connection, request)
    unreadable = _names(connection, _UNREADABLE, request)
    if unreadable:
        yield Problem(
            message=f"The database user may not read {_sentence(unreadable)}.",
            remedy="Grant it USAGE on the schemas and SELECT (or the role pg_read_all_data, from PostgreSQL 14 on).",
        )
    hidden = _names(connection, _HIDDEN, request)
    if hidden:
        yield Problem(
            message=f"Row-level security hides rows of {_sentence(hidden)} from the database user.",
            remedy="Let the backup user own these tables or give it BYPASSRLS.",
        )
    yield from _excludes(catalog.tables(connection, request.schemas), request)


def _names(connection: Connection, query: str, request: DumpRequest) -> list[str]:
    rows = connection.execute(query).fetchall()
    return [name for schema, name in rows if not request.schemas or schema in request.schemas]


def _sentence(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _schemas(connection: Connection, request: DumpRequest) -> Iterator[Problem]:
    known = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace").fetchall()}
    for schema in request.schemas:
        if schema not in known:
            yield Problem(
                message=f"No schema is called {schema!r}.", remedy="Name schemas as the database spells them."
            )


def _excludes(tables: Iterable[catalog.Table], request: DumpRequest) -> Iterator[Problem]:
    tables = list(tables)
    for pattern in request.excluded_tables:
        if not any(is_excluded(table, [pattern]) for table in tables):
            yield Problem(message=f"No table is called {pattern!r}: nothing is excluded by it.", severity=Severity.NOTE)
