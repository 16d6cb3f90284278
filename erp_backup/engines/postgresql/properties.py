"""What belongs to a database and not to its content: it stays behind in a rename, and has to be copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import psycopg
from psycopg import sql

from erp_backup.core.errors import DatabaseError, RefusedError
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, first_line
from erp_backup.engines.postgresql.marks import comment_on

_DATABASE = """
SELECT d.oid, pg_get_userbyid(d.datdba), d.datconnlimit,
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}')
FROM pg_database d WHERE d.datname = %s
"""
_GRANTS = """
SELECT CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, bool_or(a.is_grantable)
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.oid = %s GROUP BY 1, 2
"""
_ROLE_SETTINGS = """
SELECT r.rolname, s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = %s
"""
# Their values are lists of names: to the server one quoted text would be one name.
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
_ELEMENT = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^,"\s][^,]*?)?)\s*(?:,|$)')
PUBLIC = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """A database's owner, limit, rights and settings.

    ``grants`` says for (role, privilege) whether the role may grant it on; the role "" is everybody. ``settings`` are
    ``name=value``; ``role_settings`` are those of a role in this database.
    """

    oid: int = field(compare=False)
    name: str = field(compare=False)
    owner: str
    limit: int
    grants: Mapping[tuple[str, str], bool]
    settings: tuple[str, ...] = ()
    role_settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    comment: str = field(default="", compare=False)


def read(connection: Connection, name: str) -> Properties | None:
    """Return the properties of the database ``name``, from a session in any database; None where there is none."""
    row = connection.execute(_DATABASE, [name]).fetchone()
    if row is None:
        return None
    oid, owner, limit, settings = row
    grants = {(role, privilege): on for role, privilege, on in connection.execute(_GRANTS, [oid]).fetchall()}
    by_role = {role: tuple(sorted(config)) for role, config in connection.execute(_ROLE_SETTINGS, [oid]).fetchall()}
    return Properties(
        oid=oid,
        name=name,
        owner=owner,
        limit=max(limit, -1),  # below is the sign of a DROP that was interrupted
        grants=MappingProxyType(grants),
        settings=tuple(sorted(settings)),
        role_settings=MappingProxyType(by_role),
        comment=comment_on(connection, name),
    )


def copy(connection: Connection, source: Properties, target: str) -> None:
    """Give the database ``target`` the properties of ``source``, and compare. Raises RefusedError where they differ.

    All or nothing. Only what belongs to a role in the database is left out where it is refused.
    """
    before = require(connection, target)
    with errors_in_words(target), connection.transaction():
        for statement in _statements(before, source):
            connection.execute(statement)
    for role, settings in source.role_settings.items():
        with errors_in_words(target):
            _set_for_role(connection, role, target, settings)
    _compare(source, require(connection, target))


def require(connection: Connection, name: str) -> Properties:
    """Return the properties of a database that must exist. Raises RefusedError."""
    with errors_in_words(name):
        found = read(connection, name)
    if found is None:
        raise RefusedError(f"There is no database {name!r}.", remedy="List the databases of the server: psql -l")
    return found


def _statements(before: Properties, source: Properties) -> Iterator[sql.Composed]:
    target = sql.Identifier(before.name)
    if before.owner != source.owner:
        yield sql.SQL("ALTER DATABASE {} OWNER TO {}").format(target, sql.Identifier(source.owner))
    yield sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(target, sql.Literal(source.limit))
    yield from grant_statements(before, source.grants, roles={before.owner, source.owner})
    if before.settings:
        yield sql.SQL("ALTER DATABASE {} RESET ALL").format(target)
    for setting in source.settings:
        yield sql.SQL("ALTER DATABASE {} {}").format(target, set_clause(setting))


def grant_statements(
    before: Properties, grants: Mapping[tuple[str, str], bool], *, roles: Iterable[str] = ()
) -> Iterator[sql.Composed]:
    """Yield what gives a database exactly these ``grants``; ``roles`` are others that may hold some."""
    target = sql.Identifier(before.name)
    holders = {PUBLIC, *roles, *(role for role, _privilege in before.grants)}
    for role in sorted(holders):
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(target, _role(role))
    for (role, privilege), can_grant in sorted(grants.items()):
        statement = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), target, _role(role))
        yield statement + sql.SQL(" WITH GRANT OPTION") if can_grant and role else statement


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")


def set_clause(setting: str) -> sql.Composed:
    """Return ``SET name TO value`` for a setting as the catalog has it (``name=value``)."""
    name, _equals, value = setting.partition("=")
    values = _elements(value) if name.lower() in _LISTS else [value]
    return sql.SQL("SET {} TO {}").format(
        sql.Identifier(*name.split(".")), sql.SQL(", ").join(map(sql.Literal, values or [""]))
    )


def _elements(value: str) -> list[str]:
    """The names in a list as the server writes it: ``"$user", public``."""
    found = []
    for match in _ELEMENT.finditer(value):
        if match["quoted"] is not None:
            found.append(match["quoted"].replace('""', '"'))
        elif match["bare"]:
            found.append(match["bare"])
    return found


def _set_for_role(connection: Connection, role: str, target: str, settings: Iterable[str]) -> None:
    clause = sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(sql.Identifier(role), sql.Identifier(target))
    try:
        with connection.transaction():
            connection.execute(clause + sql.SQL("RESET ALL"))
            for setting in settings:
                connection.execute(clause + set_clause(setting))
    except psycopg.errors.InsufficientPrivilege:
        return  # the preflight has named them


def apply_settings(connection: Connection, target: str, settings: Iterable[str]) -> list[str]:
    """Set what can be set of ``settings`` on ``target``; return why the others could not be."""
    refused = []
    for setting in settings:
        statement = sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(target), set_clause(setting))
        try:
            with connection.transaction():
                connection.execute(statement)
        except (psycopg.errors.InsufficientPrivilege, psycopg.DataError, psycopg.ProgrammingError) as error:
            refused.append(f"{setting.partition('=')[0]}: {first_line(error)}")
    return refused


def _compare(source: Properties, copied: Properties) -> None:
    if source == copied:
        return
    wrong = [
        f"{entry.name} ({_shown(getattr(source, entry.name))}; now {_shown(getattr(copied, entry.name))})"
        for entry in fields(Properties)
        if entry.compare and getattr(source, entry.name) != getattr(copied, entry.name)
    ]
    raise DatabaseError(
        f"The properties of {source.name!r} could not be copied to {copied.name!r}: {', '.join(wrong)}.",
        remedy="Nothing was switched. Let the owner of the database, or a superuser, run this.",
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{privilege} to {role or 'PUBLIC'}" for role, privilege in sorted(value))
    return ", ".join(value) if isinstance(value, tuple) else str(value)
