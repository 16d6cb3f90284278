"""Restoring into the live database in one transaction, for servers that let us neither rename nor create databases.

What it has of its own is dropped, what the archive holds is made, all tables are compared with the manifest, and only
then committed: whoever looks sees the old or the new state. psql gets it as one script that we begin and end: it is not
told ``--single-transaction``, with which it would commit what it has when we die and its input just ends.

The history of backups and restores stays as it is: it is neither dropped nor in what is taken of the archive.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from psycopg import sql

from erp_backup.core.errors import ProgramError
from erp_backup.core.manifest import Manifest
from erp_backup.core.process import Command, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, Tools
from erp_backup.engines.postgresql import owners, privileges, programs
from erp_backup.engines.postgresql.catalog import OURS, Table, no_member
from erp_backup.engines.postgresql.connecting import SESSION, Connection, errors_in_words, session
from erp_backup.engines.postgresql.loading import Loader
from erp_backup.engines.postgresql.measuring import fingerprint_query

_HISTORY = "c.relname LIKE 'erp\\_backup\\_%'"
_ENTRY = re.compile(r"\d+; \d+ \d+ (?P<kind>[A-Z][A-Z ]*[A-Z]) (?P<schema>\S+) (?P<name>.*)")
_HISTORY_NAME = re.compile(r"(?:(?:TABLE|SEQUENCE|INDEX|COLUMN|CONSTRAINT) )?erp_backup_")
# A newer pg_restore sets what an older server does not know; all of it is 0 in our sessions anyhow.
_UNKNOWN = re.compile(rb"^SET (?:transaction_timeout|idle_session_timeout) = 0;\n", re.MULTILINE)
_HEAD_END = b"\nSET row_security = off;"
_MOST_HEAD = 1 << 16
_COMMIT = re.compile(rb"^COMMIT;\n(?=\s*--\n-- PostgreSQL database dump complete\n)", re.MULTILINE)
_TAIL = 1024  # bytes that surely hold the end of the script, from the commit on
_STAYS = f"""
SELECT n.nspname FROM pg_namespace n WHERE {OURS} AND (n.nspname = 'public'
    OR EXISTS (SELECT 1 FROM pg_extension e WHERE e.extnamespace = n.oid)
    OR EXISTS (SELECT 1 FROM pg_depend d JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid
               WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND e.deptype = 'e')
    OR EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid AND {_HISTORY}))
"""
# Everything in the schemas that is nobody's part: what is part of another object goes with it.
_OBJECTS = f"""
SELECT o.type, o.identity, d.classid, d.objid
FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid, pg_identify_object(d.classid, d.objid, 0) o
WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = 'n' AND d.objsubid = 0 AND {OURS}
  AND NOT EXISTS (SELECT 1 FROM pg_depend i
                  WHERE i.classid = d.classid AND i.objid = d.objid AND i.objsubid = 0 AND i.deptype IN ('e', 'i'))
  AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND ({_HISTORY}
      OR EXISTS (SELECT 1 FROM pg_depend s JOIN pg_class h ON h.oid = s.refobjid
                 WHERE s.classid = 'pg_class'::regclass AND s.objid = c.oid AND s.deptype = 'a' AND c.relkind = 'S'
                   AND s.refclassid = 'pg_class'::regclass AND h.relname LIKE 'erp\\_backup\\_%')))
"""
_OTHERS = f"""
SELECT 'PUBLICATION', quote_ident(pubname) FROM pg_publication
UNION ALL SELECT 'EVENT TRIGGER', quote_ident(x.evtname) FROM pg_event_trigger x
    WHERE {no_member("pg_event_trigger", "x.oid")}
UNION ALL SELECT 'SERVER', quote_ident(x.srvname) FROM pg_foreign_server x
    WHERE {no_member("pg_foreign_server", "x.oid")}
UNION ALL SELECT 'FOREIGN DATA WRAPPER', quote_ident(x.fdwname) FROM pg_foreign_data_wrapper x
    WHERE {no_member("pg_foreign_data_wrapper", "x.oid")}
UNION ALL SELECT 'SCHEMA', quote_ident(n.nspname) FROM pg_namespace n WHERE {OURS} AND n.nspname NOT IN ({_STAYS})
"""
_DROP = f"""
DO $erp_backup$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY(
        SELECT format('DROP %s IF EXISTS %s CASCADE',
                      CASE type WHEN 'composite type' THEN 'TYPE' WHEN 'statistics object' THEN 'STATISTICS'
                                ELSE upper(type) END, identity)
        FROM ({_OBJECTS}) objects
        ORDER BY type NOT IN ('table', 'foreign table'), type NOT LIKE '%view', type = 'sequence', identity)
    LOOP
        EXECUTE one;
    END LOOP;
    FOREACH one IN ARRAY ARRAY(
        SELECT format('DROP %s IF EXISTS %s CASCADE', kind, name) FROM ({_OTHERS}) others(kind, name))
    LOOP
        EXECUTE one;
    END LOOP;
    FOREACH one IN ARRAY ARRAY(
        SELECT format('DELETE FROM %s %s', table_oid::regclass, condition)
        FROM pg_extension e, unnest(e.extconfig, e.extcondition) own(table_oid, condition)
        JOIN pg_class c ON c.oid = own.table_oid AND c.relkind IN ('r', 'p'))
    LOOP
        EXECUTE one;
    END LOOP;
    PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
END
$erp_backup$;
"""
# The setting ends with its transaction.
_REMEMBER = "SELECT set_config('erp_backup.transaction', txid_current()::text, true);\n"
_REQUIRE_ONE_TRANSACTION = """
DO $erp_backup$ BEGIN
    IF current_setting('erp_backup.transaction', true) IS DISTINCT FROM pg_catalog.txid_current()::text THEN
        RAISE EXCEPTION 'the archive has ended the transaction';
    END IF;
END $erp_backup$;
"""
_HISTORY_INDEXES = f"""
SELECT n.nspname, x.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace WHERE {_HISTORY}
"""
_EXTENSION_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
"""
_DROPPED_TABLES = f"""
SELECT n.nspname, c.relname FROM ({_OBJECTS}) t
JOIN pg_class c ON c.oid = t.objid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.type IN ('table', 'foreign table') ORDER BY 1, 2
"""
_SUBSCRIPTIONS = """
SELECT subname FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY subname
"""
_NOT_OURS = f"""
SELECT t.identity, pg_get_userbyid(s.owner) FROM ({_OBJECTS}) t
JOIN ({owners.OBJECT_OWNERS}) s ON s.classid = t.classid AND s.objid = t.objid
WHERE NOT pg_has_role(s.owner, 'USAGE') ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the live database keeps: what is taken of the archive has to go without it."""

    schemas: frozenset[str]
    extensions: frozenset[str]
    history_indexes: frozenset[tuple[str, str]]
    extension_tables: frozenset[tuple[str, str]]
    heir: str  # the one other role that all belongs to, if we may act as it


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What stands in the live database: ``tables`` (schema, name) are dropped; ``foreign`` may not be (what, whose)."""

    tables: tuple[tuple[str, str], ...]
    foreign: tuple[tuple[str, str], ...]
    subscriptions: tuple[str, ...]


def outlook(connection: Connection) -> Outlook:
    """Return what a restore in place would drop, and what it may not drop."""
    return Outlook(
        tables=tuple(connection.execute(_DROPPED_TABLES).fetchall()),
        foreign=tuple(connection.execute(_NOT_OURS).fetchall()),
        subscriptions=tuple(name for (name,) in connection.execute(_SUBSCRIPTIONS).fetchall()),
    )


def restore(
    database: Database, tools: Tools, dump: Path, manifest: Manifest, *, folder: Folder, statements: Sequence[str]
) -> tuple[str, ...]:
    """Replace all that the live database has by what ``dump`` holds; ``statements`` belong to the same transaction.

    Returns what of the rights could not be given back, in words. Raises LockedError, DatabaseError, ProgramError and
    their kin: then the live database is as it was, unless the connection was lost in the very moment of the commit.
    """
    with session(database.settings, purpose="in place") as connection, errors_in_words(database.name):
        standing = _standing(connection)
        major = connection.info.server_version // 10000
    wanted = max(major, int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0))
    pg_restore, psql = (
        programs.choose(tools.runner, name, tools.program_dirs, wanted)[0] for name in ("pg_restore", "psql")
    )
    rights = privileges.statements_of(tools.runner, pg_restore, dump, folder.path / "rights")
    script = chain(
        _prologue(tools.lock_timeout, standing),
        _open_at_both_ends(_script(tools, pg_restore, dump, standing, folder)),
        _epilogue(manifest, standing, statements),
    )
    loader = Loader(settings=database.settings, tools=tools, folder=folder, major=major)
    environment, connection_string = loader.environment({"synchronous_commit": "on"})
    argv = (str(psql), *programs.restricted_psql_arguments(connection=connection_string))
    _run(tools, Command(argv=argv, env=environment), script)
    with session(database.settings, purpose="rights") as connection, errors_in_words(database.name):
        return privileges.give(connection, rights)


def _standing(connection: Connection) -> Standing:
    names = connection.execute("SELECT extname FROM pg_extension").fetchall()
    return Standing(
        schemas=frozenset(name for (name,) in connection.execute(_STAYS).fetchall()),
        extensions=frozenset(name for (name,) in names),
        history_indexes=frozenset((schema, name) for schema, name in connection.execute(_HISTORY_INDEXES).fetchall()),
        extension_tables=frozenset((schema, name) for schema, name in connection.execute(_EXTENSION_TABLES).fetchall()),
        heir=owners.owners_of(connection).heir,
    )


def _run(tools: Tools, command: Command, script: Iterable[bytes]) -> None:
    try:
        tools.runner.run(command, stdin=script)
    except ProgramError as error:
        reason = programs.explain(error)
        if reason is not error:
            raise reason from error
        said = programs.report_of(error.stderr).errors
        raise ProgramError(
            f"The restore in place failed: {said[0] if said else programs.last_line(error.stderr)}.",
            remedy="Nothing was changed: it was one transaction.",
            program=error.program,
            status=error.status,
            stderr=error.stderr,
        ) from error


def _script(tools: Tools, program: Path, dump: Path, standing: Standing, folder: Folder) -> Iterator[bytes]:
    """The archive as SQL, without what stays in the live database."""
    listed = tools.runner.run(Command(argv=(str(program), "--list", str(dump)), env=base_environment()))
    lines = listed.stdout.decode(errors="surrogateescape").splitlines()
    listing = folder.path / "entries"
    listing.write_text("\n".join(line for line in lines if not _stays(line, standing)), errors="surrogateescape")
    argv = (str(program), *programs.script_arguments(listing=listing, path=dump))
    yield from tools.runner.stream(Command(argv=argv, env=base_environment()))


def _stays(line: str, standing: Standing) -> bool:
    """Whether an entry of the archive's list is about something that is not dropped."""
    entry = _ENTRY.match(line)
    if entry is None:
        return False
    kind, schema, name = entry["kind"], entry["schema"], entry["name"]
    first = name.split(" ", 1)[0]
    if kind == "SCHEMA":
        return first in standing.schemas
    if kind == "COMMENT" and schema == "-":
        about, _blank, rest = name.partition(" ")
        names = {"EXTENSION": standing.extensions, "SCHEMA": standing.schemas}.get(about, frozenset())
        return rest.split(" ", 1)[0] in names
    return _HISTORY_NAME.match(name) is not None or (schema, first) in standing.history_indexes


def _prologue(lock_timeout: float, standing: Standing) -> Iterator[bytes]:
    yield b"SET client_encoding = 'UTF8';\nSET client_min_messages = warning;\nSET search_path = pg_catalog;\nBEGIN;\n"
    yield f"SET LOCAL lock_timeout = {max(1, round(lock_timeout * 1000))};\n".encode()
    if standing.heir:
        yield sql.SQL("SET LOCAL ROLE {};\n").format(sql.Identifier(standing.heir)).as_bytes(None)
    yield _REMEMBER.encode() + _DROP.encode()


def _open_at_both_ends(script: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out of the script's head what servers of some versions do not know, and of its tail the commit.

    The script is pg_restore's for a single transaction: in any other it commits after each large object. Raises
    ProgramError for a tail that is not as we know it, and so is not committed.
    """
    tail = b""
    for chunk in _with_known_head(script):
        tail += chunk
        yield tail[:-_TAIL]
        tail = tail[-_TAIL:]
    whole, found = _COMMIT.subn(b"", tail)
    if found != 1:
        raise ProgramError("pg_restore wrote a script whose end is not as we know it.", program="pg_restore")
    yield whole


def _with_known_head(script: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in script:
        head += chunk
        if _HEAD_END in head or len(head) > _MOST_HEAD:
            break
    settings, end, rest = head.partition(_HEAD_END)
    yield _UNKNOWN.sub(b"", settings) + end + rest
    yield from script


def _epilogue(manifest: Manifest, standing: Standing, statements: Sequence[str]) -> Iterator[bytes]:
    """Compare, do what belongs to it, commit. Only a script that came to its end gets here."""
    yield _REQUIRE_ONE_TRANSACTION.encode()
    for name, value in SESSION.items():
        query = sql.SQL("SELECT set_config(name, {value}, true) FROM pg_settings WHERE name = {name};\n")
        yield query.format(name=sql.Literal(name), value=sql.Literal(value)).as_bytes(None)
    can_compare = manifest.figures.methods.get("fingerprint") == "hashtextextended-sum/1"
    for figure in manifest.figures.tables:
        if figure.name.startswith("erp_backup_") or (figure.schema, figure.name) in standing.extension_tables:
            continue
        table = Table(oid=0, schema=figure.schema, name=figure.name, columns=figure.columns)
        expected = figure.fingerprint if can_compare else None
        yield _require(table, figure.rows, expected)
    yield b"RESET search_path;\n"
    for statement in statements:
        yield f"{statement};\n".encode()
    yield b"COMMIT;\n"


def _require(table: Table, rows: int, fingerprint: str | None) -> bytes:
    """A statement that fails where the table is not what the manifest says."""
    tag = sql.SQL(f"$c{secrets.token_hex(8)}$")
    same = sql.SQL("f.rows = {}").format(sql.Literal(rows))
    if fingerprint is not None:
        same += sql.SQL(" AND f.content = {}").format(sql.Literal(fingerprint))
    return (
        sql.SQL(
            "DO {tag} BEGIN PERFORM FROM ({query}) f(rows, content) WHERE {same}; IF NOT FOUND THEN "
            "RAISE EXCEPTION USING MESSAGE = {message}; END IF; END {tag};\n"
        )
        .format(
            tag=tag,
            query=fingerprint_query(table, table.columns if fingerprint is not None else ()),
            same=same,
            message=sql.Literal(f"{table.label} differs from the manifest"),
        )
        .as_bytes(None)
    )
