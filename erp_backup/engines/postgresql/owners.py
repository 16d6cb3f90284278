"""Whose a restored copy is: what one role owned in the live database belongs to it again, where we may hand it over.

Not by REASSIGN OWNED: that would also give away every database that is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from erp_backup.engines.postgresql.catalog import OURS, no_member
from erp_backup.engines.postgresql.connecting import Connection, first_line

_SET_SINCE = 160000  # from then on a member need not have the right to become the role
_OWNERS = f"""
SELECT pg_get_userbyid(role), role = (SELECT oid FROM pg_roles WHERE rolname = current_user),
       pg_has_role(role, 'USAGE') AND pg_has_role(role, %s)
FROM (SELECT DISTINCT c.relowner AS role FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {OURS} AND {no_member("pg_class", "c.oid")}) owners
ORDER BY 1
"""
# By catalog: of the first superuser's objects pg_shdepend says nothing. The server's own are below this number.
_CATALOGS = {
    "pg_class": "relowner",
    "pg_collation": "collowner",
    "pg_conversion": "conowner",
    "pg_event_trigger": "evtowner",
    "pg_foreign_data_wrapper": "fdwowner",
    "pg_foreign_server": "srvowner",
    "pg_language": "lanowner",
    "pg_largeobject_metadata": "lomowner",
    "pg_namespace": "nspowner",
    "pg_opclass": "opcowner",
    "pg_operator": "oprowner",
    "pg_opfamily": "opfowner",
    "pg_proc": "proowner",
    "pg_publication": "pubowner",
    "pg_statistic_ext": "stxowner",
    "pg_ts_config": "cfgowner",
    "pg_ts_dict": "dictowner",
    "pg_type": "typowner",
}
OBJECT_OWNERS = " UNION ALL ".join(
    f"SELECT '{name}'::regclass::oid AS classid, oid AS objid, {owner} AS owner FROM {name} "
    + ("" if name == "pg_largeobject_metadata" else "WHERE oid >= 16384")  # a large object has the number people want
    for name, owner in _CATALOGS.items()
)
# What follows another object, or cannot change hands, is left out: sequences of columns, types of types, extensions.
_OWNED = f"""
SELECT o.type, o.identity FROM ({OBJECT_OWNERS}) s, pg_identify_object(
    CASE s.classid WHEN 'pg_largeobject_metadata'::regclass THEN 'pg_largeobject'::regclass ELSE s.classid END,
    s.objid, 0) o
WHERE s.owner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND o.type NOT LIKE '%index' AND o.type <> 'toast table'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.objsubid = 0 AND (
      d.deptype IN ('e', 'i') OR (o.type = 'sequence' AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a')))
ORDER BY o.type <> 'schema', o.type, o.identity
"""
_KEYWORDS = {
    "composite type": "TYPE",
    "statistics object": "STATISTICS",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who owns the tables and views of a database: ``others`` than us; ``heir`` is whom all of a copy is handed to."""

    others: tuple[str, ...] = ()
    heir: str = ""


def owners_of(connection: Connection) -> Owners:
    """Return the owners of the session's database. There is an heir only where everything is one other role's."""
    word = "SET" if connection.info.server_version >= _SET_SINCE else "MEMBER"
    rows = connection.execute(_OWNERS, [word]).fetchall()
    others = tuple(name for name, is_me, _may in rows if not is_me)
    is_single = len(rows) == 1 and len(others) == 1 and rows[0][2]
    return Owners(others=others, heir=others[0] if is_single else "")


def hand_over(connection: Connection, name: str, heir: str) -> tuple[str, ...]:
    """Give all that is ours in the session's database, ``name``, to ``heir``, and the database itself; or nothing.

    Returns why it could not be, in words.
    """
    role = sql.Identifier(heir)
    try:
        with connection.transaction():
            # Its owner may create in it what is handed to him.
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), role))
            for kind, identity in connection.execute(_OWNED).fetchall():
                what = sql.SQL(f"{_KEYWORDS.get(kind, kind.upper())} {identity}")
                connection.execute(sql.SQL("ALTER {} OWNER TO {}").format(what, role))
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        return (f"Everything belongs to the role that restores, and not to {heir!r} as before: {first_line(error)}.",)
    return ()
