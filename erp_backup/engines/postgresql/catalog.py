"""What PostgreSQL's catalogs are asked: tables, sequences, and the definition of everything in the schema.

All of it runs with ``search_path = pg_catalog``, so that every name in a definition is qualified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from erp_backup.core.figures import SchemaObject, SequenceFigure
from erp_backup.engines.postgresql.connecting import Connection

# Schemas of the server, and whatever an extension made: the extension makes it again.
_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _no_member(catalog: str, oid: str) -> str:
    return (
        "NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.deptype = 'e' "
        f"AND e.classid = 'pg_catalog.{catalog}'::regclass AND e.objid = {oid})"
    )


_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relpages,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
       (SELECT r.relname FROM pg_class r WHERE r.oid = pg_partition_root(c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {_OURS} AND {_no_member("pg_class", "c.oid")}
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An ordinary table or a leaf partition. ``root`` is the partitioned table it belongs to."""

    oid: int
    schema: str
    name: str
    pages: int
    columns: tuple[str, ...]
    root: str = ""

    @property
    def label(self) -> str:
        """``schema.name`` as people read it."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The name, quoted."""
        return sql.Identifier(self.schema, self.name)


def tables(connection: Connection, schemas: Sequence[str] = ()) -> list[Table]:
    """Return the tables whose rows a dump holds, in ``schemas`` or in all."""
    rows = connection.execute(_TABLES).fetchall()
    found = [
        Table(oid=oid, schema=schema, name=name, pages=pages, columns=tuple(columns), root=root or "")
        for oid, schema, name, pages, columns, root in rows
    ]
    return [table for table in found if not schemas or table.schema in schemas]


_SEQUENCES = f"""
SELECT n.nspname, c.relname, s.seqincrement, tn.nspname, t.relname, a.attname, a.atttypid::regtype::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN LATERAL (
    SELECT d.refobjid, d.refobjsubid FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 LIMIT 1) o ON true
LEFT JOIN pg_class t ON t.oid = o.refobjid
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {_OURS} AND {_no_member("pg_class", "c.oid")}
ORDER BY n.nspname, c.relname
"""
_COUNTED_TYPES = {"smallint", "integer", "bigint"}


def sequences(
    connection: Connection, schemas: Sequence[str] = (), without_rows: frozenset[str] = frozenset()
) -> list[SequenceFigure]:
    """Return every sequence with the greatest value of the column it feeds; ``without_rows`` are labels of excluded tables."""
    rows = connection.execute(_SEQUENCES).fetchall()
    return [_sequence(connection, row, without_rows) for row in rows if not schemas or row[0] in schemas]


def _sequence(connection: Connection, row: tuple[Any, ...], without_rows: frozenset[str]) -> SequenceFigure:
    schema, name, increment, table_schema, table, column, kind = row
    last_value, is_called = _one(
        connection, sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
    )
    column_max = None
    if table and kind in _COUNTED_TYPES and f"{table_schema}.{table}" not in without_rows:
        function = sql.SQL("max") if increment > 0 else sql.SQL("min")
        (column_max,) = _one(
            connection,
            sql.SQL("SELECT {}({}) FROM {}").format(
                function, sql.Identifier(column), sql.Identifier(table_schema, table)
            ),
        )
    return SequenceFigure(
        schema=schema,
        name=name,
        last_value=last_value,
        is_called=is_called,
        increment=increment,
        table=table or "",
        column=column or "",
        column_max=column_max,
    )


def _one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - one row by construction; mypy must know
    return row


def extensions(connection: Connection) -> dict[str, str]:
    """Return the installed extensions and their versions."""
    return dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY extname").fetchall())


def migrations(connection: Connection, known: Sequence[Table]) -> tuple[str, ...]:
    """Return the applied migrations as ``app.name``, in the order they were applied in; empty without Django's table."""
    table = next((table for table in known if table.name == "django_migrations"), None)
    if table is None:
        return ()
    query = sql.SQL("SELECT app || '.' || name FROM {} ORDER BY id").format(table.identifier)
    return tuple(name for (name,) in connection.execute(query).fetchall())


# Each query gives: schema, name, definition. Kinds as people call them.
_OBJECTS = {
    "schema": f"""
        SELECT n.nspname, '', '' FROM pg_namespace n WHERE {_OURS} AND {_no_member("pg_namespace", "n.oid")}""",
    "relation": f"""
        SELECT n.nspname, c.relname, concat_ws(' ', c.relkind, c.relpersistence, c.reloptions::text, c.relrowsecurity,
               c.relforcerowsecurity, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
               (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                FROM pg_inherits i WHERE i.inhrelid = c.oid),
               CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
          AND {_OURS} AND {_no_member("pg_class", "c.oid")}""",
    "column": f"""
        SELECT n.nspname, c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attidentity, a.attgenerated, a.attcollation::regcollation::text,
               pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
          AND c.relpersistence <> 't' AND {_OURS} AND {_no_member("pg_class", "c.oid")}""",
    "index": f"""
        SELECT n.nspname, c.relname || ' on ' || t.relname, concat_ws(' ', pg_get_indexdef(i.indexrelid),
               i.indisclustered, i.indisreplident)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE (i.indisvalid OR c.relkind = 'I') AND c.relpersistence <> 't'
          AND {_OURS} AND {_no_member("pg_class", "t.oid")}""",
    "constraint": f"""
        SELECT n.nspname, o.conname || ' on ' || coalesce(t.relname, y.typname), pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
        LEFT JOIN pg_class t ON t.oid = o.conrelid LEFT JOIN pg_type y ON y.oid = o.contypid
        WHERE {_OURS} AND {_no_member("pg_class", "o.conrelid")} AND {_no_member("pg_type", "o.contypid")}""",
    "trigger": f"""
        SELECT n.nspname, g.tgname || ' on ' || t.relname, concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled)
        FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE NOT g.tgisinternal AND {_OURS} AND {_no_member("pg_class", "t.oid")}""",
    "rule": f"""
        SELECT n.nspname, r.rulename || ' on ' || t.relname, pg_get_ruledef(r.oid)
        FROM pg_rewrite r JOIN pg_class t ON t.oid = r.ev_class JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE r.rulename <> '_RETURN' AND {_OURS} AND {_no_member("pg_class", "t.oid")}""",
    "policy": f"""
        SELECT n.nspname, p.polname || ' on ' || t.relname, concat_ws(' ', p.polcmd, p.polpermissive,
               pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE {_OURS} AND {_no_member("pg_class", "t.oid")}""",
    "function": f"""
        SELECT n.nspname, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
               CASE WHEN p.prokind = 'a' THEN 'aggregate ' || pg_get_function_result(p.oid)
                    ELSE pg_get_functiondef(p.oid) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {_OURS} AND {_no_member("pg_proc", "p.oid")}
          AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass
                          AND i.objid = p.oid AND i.deptype = 'i')""",
    "type": f"""
        SELECT n.nspname, y.typname, concat_ws(' ', y.typtype, y.typnotnull, y.typdefault,
               CASE WHEN y.typtype = 'd' THEN format_type(y.typbasetype, y.typtypmod) END,
               (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
                FROM pg_enum e WHERE e.enumtypid = y.oid),
               (SELECT r.rngsubtype::regtype::text FROM pg_range r WHERE r.rngtypid = y.oid))
        FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN pg_class c ON c.oid = y.typrelid
        WHERE (y.typtype IN ('d', 'e', 'r', 'b') OR c.relkind = 'c') AND y.typelem = 0 AND {_OURS}
          AND {_no_member("pg_type", "y.oid")}""",
    "sequence": f"""
        SELECT n.nspname, c.relname, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
               s.seqcache, s.seqcycle)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relpersistence <> 't' AND {_OURS} AND {_no_member("pg_class", "c.oid")}""",
    "statistics": f"""
        SELECT n.nspname, x.stxname, pg_get_statisticsobjdef(x.oid)
        FROM pg_statistic_ext x JOIN pg_namespace n ON n.oid = x.stxnamespace WHERE {_OURS}""",
    "collation": f"""
        SELECT n.nspname, l.collname, concat_ws(' ', l.collprovider, l.collisdeterministic, l.collcollate, l.collctype)
        FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
        WHERE {_OURS} AND {_no_member("pg_collation", "l.oid")}""",
    "operator": f"""
        SELECT n.nspname, o.oid::regoperator::text, o.oprcode::text
        FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE {_OURS} AND {_no_member("pg_operator", "o.oid")}""",
    "text search configuration": f"""
        SELECT n.nspname, t.cfgname, '' FROM pg_ts_config t JOIN pg_namespace n ON n.oid = t.cfgnamespace
        WHERE {_OURS} AND {_no_member("pg_ts_config", "t.oid")}""",
    "comment": f"""
        SELECT n.nspname, c.relname || coalesce('.' || a.attname, ''), d.description
        FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
        WHERE c.relpersistence <> 't' AND {_OURS} AND {_no_member("pg_class", "c.oid")}""",
}
# Whole-database objects, without a schema: only a dump of all schemas holds them.
_GLOBAL_OBJECTS = {
    "event trigger": f"""
        SELECT '', v.evtname, concat_ws(' ', v.evtevent, v.evtfoid::regproc, v.evtenabled)
        FROM pg_event_trigger v WHERE {_no_member("pg_event_trigger", "v.oid")}""",
    "cast": f"""
        SELECT '', a.castsource::regtype || ' to ' || a.casttarget::regtype, concat_ws(' ', a.castcontext, a.castmethod)
        FROM pg_cast a WHERE a.oid >= 16384 AND {_no_member("pg_cast", "a.oid")}""",
    "foreign server": f"""
        SELECT '', f.srvname, concat_ws(' ', f.srvtype, f.srvversion) FROM pg_foreign_server f
        WHERE {_no_member("pg_foreign_server", "f.oid")}""",
    "publication": """
        SELECT '', p.pubname, concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete) FROM pg_publication p""",
}
_RELATION_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}

# The server writes an expression back differently after one round trip: ``(ARRAY['A'::character varying])::text[]`` comes
# back as ``ARRAY[('A'::character varying)::text]``. Casts, parentheses and spaces are therefore left out of digests.
_CAST = re.compile(
    r'::(?:"[^"]+"|[\w.]+)(?: varying| precision| with(?:out)? time zone)?(?:\(\d+(?:,\s?-?\d+)?\))?(?:\[\])*'
)
_NOISE = re.compile(r"[()\s]+")


def objects(connection: Connection, schemas: Sequence[str] = ()) -> list[SchemaObject]:
    """Return everything in the schema that has a definition, in ``schemas`` or in all."""
    queries = _OBJECTS if schemas else {**_OBJECTS, **_GLOBAL_OBJECTS}
    found = [
        _object(kind, schema, name, definition or "")
        for kind, query in queries.items()
        for schema, name, definition in connection.execute(query).fetchall()
        if not schemas or schema in schemas
    ]
    return sorted(found, key=lambda item: (item.kind, item.name))


def _object(kind: str, schema: str, name: str, definition: str) -> SchemaObject:
    if kind == "relation":
        kind = _RELATION_KINDS[definition[0]]
    if kind != "function":
        definition = _NOISE.sub("", _CAST.sub("", definition))
    label = ".".join(part for part in (schema, name) if part)
    return SchemaObject(kind=kind, name=label, digest=hashlib.sha256(definition.encode()).hexdigest()[:16])
