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
# What follows another object, or cannot change hands, is left out: sequences of columns, types of types, extensions.
_OWNED = """
SELECT o.type, o.identity FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, 0) o
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.deptype = 'o'
  AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND o.type NOT IN ('extension', 'default acl', 'user mapping', 'toast table')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND (
      d.deptype = 'e' OR (s.classid = 'pg_type'::regclass AND d.deptype = 'i')
      OR (o.type = 'sequence' AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))))
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
