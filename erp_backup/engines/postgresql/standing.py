"""The live database before a switch: whether there is one, and what about it would stand in the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg

from erp_backup.core.errors import BackupError, LockedError, ServerUnreachableError
from erp_backup.core.figures import Severity
from erp_backup.engines.base import Database, Problem, Tools
from erp_backup.engines.postgresql import pooler, properties
from erp_backup.engines.postgresql.connecting import APPLICATION_NAME, Connection, errors_in_words, session
from erp_backup.engines.postgresql.locks import maintenance_session
from erp_backup.engines.postgresql.marks import switched_mark
from erp_backup.engines.postgresql.owners import Owners, owners_of
from erp_backup.engines.postgresql.switching import NAME_LIMIT

_SUFFIX = len("__old_20260101_000000")  # of the name that the live database gets
_STATE = """
SELECT d.oid, d.datallowconn, d.datistemplate, has_database_privilege(d.oid, 'CONNECT'), pg_has_role(d.datdba, 'USAGE'),
       pg_get_userbyid(d.datdba),
       d.datconnlimit >= 0 AND d.datconnlimit <= (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
FROM pg_database d WHERE d.datname = %s
"""
_ME = """
SELECT current_user, r.rolsuper, pg_has_role('pg_signal_backend', 'USAGE')
FROM pg_roles r WHERE r.rolname = current_user
"""
_OTHERS = """
SELECT r.rolname, r.rolsuper, pg_has_role(r.oid, 'USAGE'), count(*),
       string_agg(DISTINCT nullif(a.application_name, ''), ', ' ORDER BY nullif(a.application_name, ''))
FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datid = %s AND a.pid <> pg_backend_pid() AND a.application_name NOT LIKE %s GROUP BY 1, 2, 3 ORDER BY 1
"""
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY gid"
_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE database = %s ORDER BY slot_name"
_SUBSCRIPTIONS = "SELECT subname, subenabled FROM pg_subscription WHERE subdbid = %s ORDER BY subname"
_PUBLICATIONS = "SELECT pubname FROM pg_publication ORDER BY pubname"
_TABLESPACES = """
SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
WHERE NOT c.relisshared ORDER BY 1
"""
# Of a setting that no module has declared nobody knows what it does: only a superuser may store it, too.
_PRIVILEGED = """
SELECT n.name FROM unnest(%s::text[]) n(name) LEFT JOIN pg_settings s ON lower(s.name) = lower(n.name)
WHERE s.name IS NULL OR s.category = 'Customized Options' OR s.context NOT IN ('user', 'backend') ORDER BY 1
"""
_MAY_SET = "SELECT name FROM unnest(%s::text[]) name WHERE NOT has_parameter_privilege(name, 'SET')"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """The live database as the server lists it, and who asks."""

    oid: int
    name: str
    accepts: bool
    is_template: bool
    may_connect: bool
    is_ours: bool
    owner: str
    is_full: bool
    me: str
    is_superuser: bool
    may_signal: bool


def _look(connection: Connection, name: str) -> _Live | None:
    row = connection.execute(_STATE, [name]).fetchone()
    me = connection.execute(_ME).fetchone()
    if row is None or me is None:
        return None
    oid, accepts, is_template, may_connect, is_ours, owner, is_full = row
    return _Live(
        oid=oid,
        name=name,
        accepts=accepts,
        is_template=is_template,
        may_connect=may_connect,
        is_ours=is_ours,
        owner=owner,
        is_full=is_full,
        me=me[0],
        is_superuser=me[1],
        may_signal=me[2],
    )


def is_readable(database: Database, tools: Tools) -> bool:
    """Whether the live database exists and lets us in.

    One that does not, although nothing but its own state can be the reason, is damaged: there is nothing to read.
    Raises ServerUnreachableError when the server is away, or only we are kept out.
    """
    try:
        with session(database.settings, purpose="look") as connection, errors_in_words(database.name):
            connection.execute("SELECT count(*) FROM pg_class")
            return True
    except BackupError as error:
        with session(database.settings, database=tools.maintenance_database, purpose="look") as connection:
            live = _look(connection, database.name)
        # pg_hba.conf is named in every language.
        if live is None:
            return False
        if not live.accepts or not live.may_connect or live.is_full or "pg_hba.conf" in str(error):
            raise ServerUnreachableError(
                f"{database.name!r} is there, but does not let us in: {error.message}",
                remedy="Let the database user connect to it, so that its rows can be saved before they are replaced.",
            ) from error
        return False


def problems_with(database: Database, tools: Tools, *, switch: bool) -> Iterator[Problem]:
    """Yield what about the live database stands in the way of a switch, or will not be as before."""
    if switch and tools.maintenance_database == database.name:
        yield Problem(
            message=f"{database.name!r} is also the database that a switch is made from.",
            remedy="Name another database of the server in ERP_BACKUP['MAINTENANCE_DATABASE'].",
        )
        return
    if switch:
        yield from _maintenance(database, tools)
        yield from _pooler(database, tools)
    with maintenance_session(database, tools, "preflight") as connection, errors_in_words(database.name):
        live = _look(connection, database.name)
        if database.is_elsewhere:
            if live is not None:
                yield Problem(
                    message=f"There is a database {database.name!r} already at that server.",
                    remedy="Choose a name that is free: nothing is restored into what is there.",
                )
            return
        if live is None:
            yield Problem(
                message=f"There is no database {database.name!r} at the server; nothing is replaced.",
                severity=Severity.NOTE,
            )
        elif switch:
            yield from _renaming(live)
            yield from _sessions(connection, live)
            yield from _obstacles(connection, live)
            yield from _properties(connection, live)
    if live is not None:
        yield from _inside(database, switch=switch)


def _maintenance(database: Database, tools: Tools) -> Iterator[Problem]:
    where = tools.maintenance_database
    try:
        with session(database.settings, database=where, purpose="preflight"):
            return
    except BackupError as error:
        yield Problem(
            message=f"A switch needs a session in {where!r}, and there is none: {error.message}",
            remedy=f"Let the user connect to {where!r}, or name another in ERP_BACKUP['MAINTENANCE_DATABASE'].",
            error=ServerUnreachableError,
        )


def _pooler(database: Database, tools: Tools) -> Iterator[Problem]:
    if not tools.pooler:
        return
    try:
        with pooler.console(tools.pooler) as connection:
            running = pooler.pools_of(connection, database.name, are_paused=False)
            paused = pooler.pools_of(connection, database.name, are_paused=True)
            may_pause = pooler.may_pause(connection)
    except ServerUnreachableError as error:
        yield Problem(message=error.message, remedy=error.remedy, error=type(error))
        return
    if not may_pause:
        yield Problem(
            message="The pooler's console lets us look, but not pause.",
            remedy="Name the user of ERP_BACKUP['RESTORE']['POOLER'] in admin_users of pgbouncer's configuration.",
        )
    if paused:
        yield Problem(
            message=f"Somebody has paused {', '.join(paused)} in the pooler: it will stay paused.",
            remedy="RESUME it in the pooler's console when the restore is over.",
            severity=Severity.NOTE,
        )
    if not running and not paused:
        yield Problem(
            message=f"The pooler offers no database {database.name!r}: its clients will not be made to wait.",
            remedy="Look at ERP_BACKUP['RESTORE']['POOLER'].",
            severity=Severity.NOTE,
        )


def _renaming(live: _Live) -> Iterator[Problem]:
    if not (live.is_ours or live.is_superuser):
        yield Problem(
            message=f"{live.name!r} belongs to {live.owner!r}, and {live.me!r} may not rename it.",
            remedy=f"Let its owner restore, or make the database user a member of {live.owner!r}.",
        )
    if live.is_template:
        yield Problem(
            message=f"{live.name!r} is a template, and what takes its place would be none.",
            remedy="ALTER DATABASE … IS_TEMPLATE false",
        )
    if not live.accepts:
        yield Problem(
            message=f"{live.name!r} accepts no connections, and what takes its place would.",
            remedy="ALTER DATABASE … ALLOW_CONNECTIONS true",
        )
    if len(live.name.encode()) + _SUFFIX > NAME_LIMIT:
        yield Problem(
            message=f"The name {live.name!r} is long: what is put aside gets a shortened one.", severity=Severity.NOTE
        )


def _sessions(connection: Connection, live: _Live) -> Iterator[Problem]:
    may_end_all = live.is_superuser or live.may_signal
    total, named = 0, []
    for role, is_super, is_member, count, programs in connection.execute(
        _OTHERS, [live.oid, f"{APPLICATION_NAME}%"]
    ).fetchall():
        total += count
        named.append(f"{role} {count} ({programs or 'no name'})")
        if live.is_superuser or (not is_super and (is_member or may_end_all)):
            continue
        yield Problem(
            message=f"{count} connections of {role!r} to {live.name!r} are open, and {live.me!r} may not end them.",
            remedy="Close them, or restore as a superuser." if is_super else f"GRANT pg_signal_backend TO {live.me}",
            error=LockedError,
        )
    if total:
        yield Problem(message=f"{total} open connections will be ended: {'; '.join(named)}.", severity=Severity.NOTE)
    if not may_end_all:
        yield Problem(
            message=f"{live.me!r} may end its own connections only, not those of others that come meanwhile.",
            remedy=f"GRANT pg_signal_backend TO {live.me}",
            severity=Severity.NOTE,
        )


def _obstacles(connection: Connection, live: _Live) -> Iterator[Problem]:
    prepared = _names(connection, _PREPARED, live.name)
    if prepared:
        yield Problem(
            message=f"Prepared transactions are open in {live.name!r}: {_sentence(prepared)}.",
            remedy="End each of them: COMMIT PREPARED or ROLLBACK PREPARED.",
            error=LockedError,
        )
    slots = _names(connection, _SLOTS, live.name)
    if slots:
        yield Problem(
            message=f"Logical replication slots belong to {live.name!r} and would stay with what is put aside, "
            f"holding WAL: {_sentence(slots)}.",
            remedy="Drop them (pg_drop_replication_slot) and make them anew after the restore.",
        )
    for name, is_enabled in connection.execute(_SUBSCRIPTIONS, [live.oid]).fetchall():
        yield Problem(
            message=f"The subscription {name!r} stays with what is put aside; the restored database has none.",
            remedy=f"ALTER SUBSCRIPTION {name} DISABLE, and make it anew after the restore." if is_enabled else "",
            severity=Severity.FAILED if is_enabled else Severity.NOTE,
        )
    live_properties = properties.read(connection, live.name)
    if live_properties is not None and switched_mark(live_properties.comment):
        yield Problem(
            message=f"What followed the last switch of {live.name!r} was never completed.",
            remedy="It is completed at the beginning of the next run.",
            severity=Severity.NOTE,
        )


def _properties(connection: Connection, live: _Live) -> Iterator[Problem]:
    """What cannot be copied from the live database by the one who restores."""
    found = properties.read(connection, live.name)
    if found is None or live.is_superuser:
        return
    refused = _refused(connection, [setting.partition("=")[0] for setting in found.settings])
    if refused:
        yield Problem(
            message=f"Only a superuser can set on a database what {live.name!r} has: {_sentence(refused)}.",
            remedy=f"ALTER DATABASE … RESET it, or (from PostgreSQL 15 on) GRANT SET ON PARAMETER … TO {live.me}.",
        )
    for role, settings in found.role_settings.items():
        if role != live.me:
            names = [setting.partition("=")[0] for setting in settings]
            yield Problem(
                message=f"Settings of the role {role!r} in {live.name!r} may not be copied: {_sentence(names)}.",
                remedy="Let a superuser set them again after the restore: ALTER ROLE … IN DATABASE … SET …",
                severity=Severity.NOTE,
            )


def _refused(connection: Connection, names: list[str]) -> list[str]:
    privileged = [name for (name,) in connection.execute(_PRIVILEGED, [names]).fetchall()]
    if connection.info.server_version < 150000:  # noqa: PLR2004 - before, there were no rights to single settings
        return privileged
    return [name for (name,) in connection.execute(_MAY_SET, [privileged]).fetchall()]


def _inside(database: Database, *, switch: bool) -> Iterator[Problem]:
    """What only a session in the live database can see."""
    try:
        with session(database.settings, purpose="preflight") as connection, errors_in_words(database.name):
            publications = _names(connection, _PUBLICATIONS)
            spaces = _names(connection, _TABLESPACES)
            owned = owners_of(connection)
    except BackupError as error:
        yield Problem(
            message=f"The live database cannot be looked into: {error.message}",
            remedy="It will be put aside as it is, and its rows cannot be saved before." if switch else "",
            severity=Severity.NOTE,
        )
        return
    if publications and switch:
        yield Problem(
            message=f"Subscribers of {_sentence(publications)} must subscribe anew: publications come with the "
            "archive, what was sent already does not.",
            severity=Severity.NOTE,
        )
    if spaces:
        yield Problem(
            message=f"Tables stand in the tablespaces {_sentence(spaces)}; restored ones come into the database's.",
            severity=Severity.NOTE,
        )
    yield from _owners(owned)


def _owners(owned: Owners) -> Iterator[Problem]:
    if owned.heir:
        yield Problem(
            message=f"All tables belong to {owned.heir!r}: in the restored database they are handed over to it again.",
            severity=Severity.NOTE,
        )
    elif owned.others:
        yield Problem(
            message=f"Tables belong to {_sentence(owned.others)}: in the restored database all belong to the role "
            "that restores.",
            remedy="ALTER TABLE … OWNER TO … after the restore, or restore as a member of the one role that owns all.",
            severity=Severity.NOTE,
        )


def _names(connection: Connection, query: str, *values: object) -> list[str]:
    try:
        with connection.transaction():
            return [str(name) for (name,) in connection.execute(query, list(values) or None).fetchall()]
    except psycopg.errors.InsufficientPrivilege:
        return []


def _sentence(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")
