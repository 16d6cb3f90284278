"""The definition of everything in a schema, digested so that a copy that was dumped and restored digests alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from erp_backup.core.figures import SchemaObject
from erp_backup.engines.postgresql.catalog import OURS, no_member
from erp_backup.engines.postgresql.connecting import Connection

# Each query gives: schema, name, definition. What the server makes by itself with something else (the triggers and
# foreign keys of a partition, the functions and casts of a range type) is left out: its version decides what that is.
# Text that has to be taken to the letter is quoted.
_OBJECTS = {
    "schema": f"""
        SELECT n.nspname, '', '' FROM pg_namespace n WHERE {OURS} AND {no_member("pg_namespace", "n.oid")}""",
    "relation": f"""
        SELECT n.nspname, c.relname, concat_ws(' ', c.relkind, c.relpersistence, c.reloptions::text, c.relrowsecurity,
               c.relforcerowsecurity, c.relreplident, nullif(c.reloftype, 0)::regtype,
               (SELECT m.amname FROM pg_am m WHERE m.oid = c.relam),
               (SELECT o.reloptions::text FROM pg_class o WHERE o.oid = c.reltoastrelid),
               pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
               (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                FROM pg_inherits i WHERE i.inhrelid = c.oid),
               (SELECT concat_ws(' ', s.srvname, f.ftoptions::text) FROM pg_foreign_table f
                JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
               CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
          AND {OURS} AND {no_member("pg_class", "c.oid")}""",
    "column": f"""
        SELECT n.nspname, c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attidentity, a.attgenerated, nullif(a.attcollation, 0)::regcollation,
               pg_get_expr(d.adbin, d.adrelid), a.attoptions::text, a.attfdwoptions::text,
               CASE WHEN c.relkind IN ('r', 'p', 'm') THEN concat_ws(' ', a.attstorage,
                    to_jsonb(a) ->> 'attcompression', nullif(to_jsonb(a) ->> 'attstattarget', '-1')) END,
               CASE WHEN c.relkind = 'c' THEN (
                    SELECT count(*) FROM pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum > 0
                    AND NOT b.attisdropped AND b.attnum <= a.attnum) END)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
          AND c.relpersistence <> 't' AND {OURS} AND {no_member("pg_class", "c.oid")}""",
    "index": f"""
        SELECT n.nspname, c.relname || ' on ' || t.relname, concat_ws(' ', pg_get_indexdef(i.indexrelid),
               i.indisvalid, i.indisclustered, i.indisreplident,
               (SELECT h.inhparent::regclass FROM pg_inherits h WHERE h.inhrelid = i.indexrelid))
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE (i.indisvalid OR c.relkind = 'I') AND c.relpersistence <> 't'
          AND {OURS} AND {no_member("pg_class", "t.oid")}""",
    # "Not null" is a constraint of its own from 17 and 18 on; its column or domain says so in all versions.
    "constraint": f"""
        SELECT n.nspname, o.conname || ' on ' || coalesce(t.relname, y.typname), pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
        LEFT JOIN pg_class t ON t.oid = o.conrelid LEFT JOIN pg_type y ON y.oid = o.contypid
        WHERE o.contype <> 'n' AND NOT (o.contype = 'f' AND o.conparentid <> 0) AND {OURS}
          AND {no_member("pg_class", "o.conrelid")} AND {no_member("pg_type", "o.contypid")}""",
    "trigger": f"""
        SELECT n.nspname, g.tgname || ' on ' || t.relname, concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled)
        FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND {OURS} AND {no_member("pg_class", "t.oid")}""",
    "rule": f"""
        SELECT n.nspname, r.rulename || ' on ' || t.relname, concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
        FROM pg_rewrite r JOIN pg_class t ON t.oid = r.ev_class JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE r.rulename <> '_RETURN' AND {OURS} AND {no_member("pg_class", "t.oid")}""",
    "policy": f"""
        SELECT n.nspname, p.polname || ' on ' || t.relname, concat_ws(' ', p.polcmd, p.polpermissive,
               (SELECT string_agg(quote_ident(r.rolname), ',' ORDER BY r.rolname) FROM pg_roles r
                WHERE r.oid = ANY (p.polroles)),
               'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE {OURS} AND {no_member("pg_class", "t.oid")}""",
    "function": f"""
        SELECT n.nspname, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
               CASE WHEN p.prokind = 'a' THEN pg_get_function_result(p.oid) || (
                    SELECT concat_ws(' ', g.aggkind, g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggmtransfn,
                           g.aggmfinalfn, g.aggtranstype::regtype, nullif(g.aggsortop, 0)::regoperator,
                           quote_literal(g.agginitval), quote_literal(g.aggminitval))
                    FROM pg_aggregate g WHERE g.aggfnoid = p.oid)
                    ELSE concat_ws(' ', quote_literal(p.prosrc), replace(pg_get_functiondef(p.oid), p.prosrc, '')) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OURS} AND {no_member("pg_proc", "p.oid")}
          AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass
                          AND i.objid = p.oid AND i.deptype = 'i')""",
    "type": f"""
        SELECT n.nspname, y.typname, concat_ws(' ', y.typtype, y.typnotnull, quote_literal(y.typdefault),
               nullif(y.typcollation, 0)::regcollation,
               CASE y.typtype WHEN 'd' THEN format_type(y.typbasetype, y.typtypmod)
                              WHEN 'b' THEN concat_ws(' ', y.typinput, y.typoutput, y.typlen, y.typbyval) END,
               (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
                FROM pg_enum e WHERE e.enumtypid = y.oid),
               (SELECT concat_ws(' ', r.rngsubtype::regtype, r.rngsubdiff, r.rngcanonical,
                                 nullif(r.rngcollation, 0)::regcollation,
                                 ((to_jsonb(r) ->> 'rngmultitypid')::oid)::regtype)
                FROM pg_range r WHERE r.rngtypid = y.oid))
        FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN pg_class c ON c.oid = y.typrelid
        WHERE (y.typtype IN ('d', 'e', 'r', 'b') OR c.relkind = 'c') AND y.typelem = 0 AND {OURS}
          AND {no_member("pg_type", "y.oid")}""",
    "sequence": f"""
        SELECT n.nspname, c.relname, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
               s.seqcache, s.seqcycle, c.relpersistence)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relpersistence <> 't' AND {OURS} AND {no_member("pg_class", "c.oid")}""",
    "statistics": f"""
        SELECT n.nspname, x.stxname, pg_get_statisticsobjdef(x.oid)
        FROM pg_statistic_ext x JOIN pg_namespace n ON n.oid = x.stxnamespace
        WHERE {OURS} AND {no_member("pg_statistic_ext", "x.oid")}""",
    "collation": f"""
        SELECT n.nspname, l.collname,
               (to_jsonb(l) - '{{oid,collnamespace,collowner,collversion,collencoding}}'::text[])::text
        FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
        WHERE {OURS} AND {no_member("pg_collation", "l.oid")}""",
    "operator": f"""
        SELECT n.nspname, o.oid::regoperator::text, concat_ws(' ', o.oprcode, o.oprcom::regoperator,
               o.oprnegate::regoperator, o.oprcanhash, o.oprcanmerge, o.oprrest, o.oprjoin)
        FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE o.oprcode <> 0 AND {OURS} AND {no_member("pg_operator", "o.oid")}""",
    "operator class": f"""
        SELECT n.nspname, o.opcname || ' for ' || m.amname, concat_ws(' ', o.opcintype::regtype, o.opcdefault,
               (SELECT string_agg(concat_ws(' ', a.amopstrategy, a.amopopr::regoperator), ',' ORDER BY a.amopstrategy,
                       a.amopopr::regoperator::text) FROM pg_amop a WHERE a.amopfamily = o.opcfamily),
               (SELECT string_agg(concat_ws(' ', p.amprocnum, p.amproc::oid::regprocedure), ',' ORDER BY p.amprocnum,
                       p.amproc::oid::regprocedure::text) FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily))
        FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
        WHERE {OURS} AND {no_member("pg_opclass", "o.oid")}""",
    "text search configuration": f"""
        SELECT n.nspname, t.cfgname, (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapdict::regdictionary), ','
               ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = t.oid)
        FROM pg_ts_config t JOIN pg_namespace n ON n.oid = t.cfgnamespace
        WHERE {OURS} AND {no_member("pg_ts_config", "t.oid")}""",
    "text search dictionary": f"""
        SELECT n.nspname, t.dictname, concat_ws(' ', p.tmplname, t.dictinitoption)
        FROM pg_ts_dict t JOIN pg_namespace n ON n.oid = t.dictnamespace JOIN pg_ts_template p ON p.oid = t.dicttemplate
        WHERE {OURS} AND {no_member("pg_ts_dict", "t.oid")}""",
    # Below 16384 are the server's own objects. An extension comes with its comments.
    "comment": """
        SELECT coalesce(i.schema, ''), i.type || ' ' || i.identity, quote_literal(d.description)
        FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE d.objoid >= 16384 AND d.classoid <> 'pg_extension'::regclass AND i.type IS NOT NULL
          AND coalesce(i.schema, '') !~ '^pg_'
          AND NOT EXISTS (SELECT 1 FROM pg_depend e
                          WHERE e.deptype = 'e' AND e.classid = d.classoid AND e.objid = d.objoid)""",
}
# Whole-database objects, without a schema: only a dump of all schemas holds them.
_GLOBAL_OBJECTS = {
    "event trigger": f"""
        SELECT '', v.evtname, concat_ws(' ', v.evtevent, v.evtfoid::regproc, v.evtenabled, v.evttags::text)
        FROM pg_event_trigger v WHERE {no_member("pg_event_trigger", "v.oid")}""",
    "cast": f"""
        SELECT '', a.castsource::regtype || ' to ' || a.casttarget::regtype,
               concat_ws(' ', a.castcontext, a.castmethod, nullif(a.castfunc, 0)::regprocedure)
        FROM pg_cast a WHERE a.oid >= 16384 AND {no_member("pg_cast", "a.oid")}
          AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_cast'::regclass
                          AND i.objid = a.oid AND i.deptype = 'i')""",
    "language": f"""
        SELECT '', l.lanname, concat_ws(' ', l.lanpltrusted, l.lanplcallfoid::regproc)
        FROM pg_language l WHERE l.oid >= 16384 AND {no_member("pg_language", "l.oid")}""",
    "foreign server": f"""
        SELECT '', f.srvname, concat_ws(' ', f.srvtype, f.srvversion, w.fdwname) FROM pg_foreign_server f
        JOIN pg_foreign_data_wrapper w ON w.oid = f.srvfdw WHERE {no_member("pg_foreign_server", "f.oid")}""",
    "publication": """
        SELECT '', p.pubname, concat_ws(' ', (to_jsonb(p) - '{oid,pubowner}'::text[])::text,
               (SELECT string_agg(r.prrelid::regclass::text, ',' ORDER BY r.prrelid::regclass::text)
                FROM pg_publication_rel r WHERE r.prpubid = p.oid)) FROM pg_publication p""",
}
_RELATION_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}

# The server writes an expression back differently after one round trip: ``(ARRAY['A'::character varying])::text[]``
# comes back as ``ARRAY[('A'::character varying)::text]``, ``((a AND b) AND c)`` as ``(a AND b AND c)``. So casts,
# parentheses and blanks do not count; what stands in quotes counts to the letter.
_WORDS = re.compile(
    r"""
    (?P<word> '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | :: \s? (?:"(?:[^"]|"")+"|\w+) (?:\.(?:"(?:[^"]|"")+"|\w+))*
         (?:\s(?:varying|precision))? (?:\(-?\d+(?:,\s?-?\d+)?\))? (?:\swith(?:out)?\stime\szone)? (?:\[\])*
    | (?P<other> [\w$]+ | [^\w\s()] )
    """,
    re.VERBOSE,
)


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
    label = ".".join(part for part in (schema, name) if part)
    return SchemaObject(kind=kind, name=label, digest=digest(definition))


def digest(definition: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a definition's words."""
    words = [match["word"] or match["other"] or "" for match in _WORDS.finditer(definition)]
    return hashlib.sha256("\0".join(word for word in words if word).encode()).hexdigest()[:16]
