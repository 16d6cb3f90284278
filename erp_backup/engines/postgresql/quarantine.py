"""A role without rights, for archives that were not made here: whatever is in them, it may do next to nothing.

It is made for one scratch database, owns what is loaded into it, is the only one who then reads it, and goes with it.
Its name is the database's, so that whoever cleans up one finds the other.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from erp_backup.core.errors import LockedError, RefusedError
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import ForeignRules
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, session
from erp_backup.engines.postgresql.locks import advisory_lock

_SCRATCH, _ROLE = "erp_backup_scratch_", "erp_backup_quarantine_"
# Options of a connection that would let somebody else in, or make him somebody else.
_IDENTITY = {"assume_role", "passfile", "service", "user", "password", "sslcert", "sslkey", "require_auth", "options"}
_RIGHTS = """
SELECT bool_or(r.rolsuper), bool_or(r.rolcreaterole OR EXISTS (
    SELECT 1 FROM pg_roles g WHERE pg_has_role(r.oid, g.oid, 'MEMBER') AND g.rolname IN
    ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')))
FROM pg_roles r WHERE r.rolname IN (session_user, current_user)
"""


def settings_for(settings: Mapping[str, Any], name: str, manifest: Manifest, rules: ForeignRules) -> Mapping[str, Any]:
    """Return how the scratch database ``name`` is to be opened for loading a foreign archive, and ever after.

    That is ``settings``, or the new role of a quarantine. Raises RefusedError where the archive is SQL and nobody has
    asked for a quarantine, where our own role has rights that the archive could use, and where no role can be made.
    """
    if manifest.format == "plain" and not rules.quarantine:
        raise RefusedError(
            "The archive is SQL that was not made here, and SQL can do anything that its role may do.",
            remedy="Ask for --quarantine: it is then loaded by a role without rights, made for it.",
        )
    with session(settings, purpose="quarantine") as connection, errors_in_words(name):
        is_superuser, is_powerful = connection.execute(_RIGHTS).fetchone() or (True, True)
        if rules.quarantine:
            return _opened(connection, settings, name, may_create=is_superuser or is_powerful)
    if is_superuser or is_powerful:
        raise RefusedError(
            "The archive was not made here, and the database user has rights at the server that it could use"
            f" ({'he is a superuser' if is_superuser else 'he may create roles, or reach files and programs'}).",
            remedy="Ask for --quarantine, or use a database user without such rights.",
        )
    return settings


def _opened(connection: Connection, settings: Mapping[str, Any], name: str, *, may_create: bool) -> dict[str, Any]:
    """Make the role, let it into this one database, and return the Django entry that connects as it."""
    role, password = role_of(name), secrets.token_urlsafe(32)
    if not may_create:
        raise _cannot_create("he has not the right CREATEROLE")
    # The server gets what it stores, not the password: statements stand in its log.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    names = {"role": sql.Identifier(role), "database": sql.Identifier(name), "verifier": sql.Literal(verifier)}
    try:
        for statement in (
            "CREATE ROLE {role} LOGIN PASSWORD {verifier} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION",
            # Whoever dropped the database could not drop what another owns in it.
            "GRANT {role} TO SESSION_USER",
            "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {role}",
        ):
            connection.execute(sql.SQL(statement).format(**names))
    except psycopg.errors.InsufficientPrivilege as error:
        raise _cannot_create(str(error).splitlines()[0]) from error
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # up to version 14 everybody may create there
        connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {role}").format(**names))
    options = {key: value for key, value in settings.get("OPTIONS", {}).items() if key not in _IDENTITY}
    return {**settings, "USER": role, "PASSWORD": password, "OPTIONS": options}


def _cannot_create(why: str) -> RefusedError:
    return RefusedError(
        f"A quarantine needs a role of its own, and the database user may not create one: {why}.",
        remedy="Run it as a user with CREATEROLE (in DATABASES, for this run), on a server that matters to nobody.",
    )


def role_of(name: str) -> str:
    """Return the name of the role that belongs to a scratch database."""
    return name.replace(_SCRATCH, _ROLE, 1)


def drop_role(admin: Connection, name: str) -> None:
    """Drop the role of a scratch database that is gone; where something else of it is left, it stays."""
    role = role_of(name)
    if role == name or admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
        return
    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist, psycopg.errors.InsufficientPrivilege):
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def drop_orphaned_roles(admin: Connection) -> None:
    """Drop the roles whose scratch database is gone, and whose owner is no more."""
    rows = admin.execute(
        """SELECT r.rolname FROM pg_roles r WHERE r.rolname ~ '^erp_backup_quarantine_[0-9a-f]{16}$' AND NOT EXISTS (
             SELECT 1 FROM pg_database d WHERE d.datname = replace(r.rolname, 'quarantine', 'scratch'))"""
    ).fetchall()
    for (role,) in rows:
        name = role.replace(_ROLE, _SCRATCH, 1)
        with contextlib.suppress(LockedError), advisory_lock(admin, name):
            drop_role(admin, name)
