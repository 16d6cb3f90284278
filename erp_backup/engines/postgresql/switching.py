"""The switch: a finished database takes the live one's place in one transaction, or nothing has happened.

Both renames and both comments are one commit, on a session in the maintenance database; a second session ends the
connections of the two databases until the renames have their locks. Newcomers wait for these locks, then find the new
database. The comments are the durable state: whoever comes after a killed run reads there what took place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from erp_backup.core.errors import BackupError, LockedError, RefusedError, ServerUnreachableError
from erp_backup.core.interrupts import signals_held
from erp_backup.engines.base import Database, Replaced, Switched, SwitchRequest, Tools
from erp_backup.engines.postgresql import pooler, properties
from erp_backup.engines.postgresql.connecting import Connection, errors_in_words, first_line, session
from erp_backup.engines.postgresql.locks import advisory_lock, maintenance_session
from erp_backup.engines.postgresql.marks import PausedMark, ReplacedMark, SwitchedMark, comment_sql, switched_mark
from erp_backup.engines.postgresql.measuring import cut
from erp_backup.engines.postgresql.properties import Properties
from erp_backup.engines.postgresql.recovering import lock_name, settle_pause, wait_until_over
from erp_backup.engines.postgresql.replaced import mark_of, size_of

NAME_LIMIT = 63  # bytes of a database's name
_EVERY = 0.01  # seconds between two rounds of ending sessions
_JOIN_LIMIT = 5.0  # seconds for one round, or for a statement to be cancelled
# Who may not be ended is left out: the error would keep the others from being ended. Before PostgreSQL tells us the
# kind of a session we must be allowed to see it, but the server's own workers have no user.
_END_SESSIONS = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
JOIN pg_roles me ON me.rolname = current_user
WHERE a.datid = ANY (%s) AND a.pid <> pg_backend_pid() AND (me.rolsuper OR NOT r.rolsuper AND (
    pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))
"""
_WHO = """
SELECT usename, application_name, pid FROM pg_stat_activity
WHERE datid = ANY (%s) AND usesysid IS NOT NULL ORDER BY pid LIMIT 5
"""
_IN_THE_WAY = (psycopg.errors.ObjectInUse, psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """The database that is to be live: its name until then, and the comment it shall have in the end.

    ``settings`` are its own where there is no live database to take them from.
    """

    name: str
    comment: str | None = None  # None: that of the live one
    settings: tuple[str, ...] = ()


def switch(database: Database, tools: Tools, newcomer: Newcomer, request: SwitchRequest) -> Switched:
    """Put ``newcomer`` in the place of the live database. Raises LockedError, RefusedError and kin: nothing changed."""
    with _sessions(database, tools) as (main, helper), errors_in_words(database.name):
        live = properties.read(main, database.name)
        new = properties.require(main, newcomer.name)
        if live is None:
            properties.apply_settings(main, newcomer.name, newcomer.settings)
        else:
            _refuse_unfinished(live)
            properties.copy(main, live, newcomer.name)
        size = size_of(main, database.name)
        plan = _Plan(live=live, new=new, newcomer=newcomer, request=request, place=database.name)
        plan.name = free_name(main, database.name, request) if live else ""
        _carry_out(database, tools, main, helper, plan)
    replaced = plan.mark and Replaced(
        name=plan.name, live=database.name, restore=request.restore, replaced_at=request.at, size=size
    )
    return Switched(restore=request.restore, replaced=replaced or None)


def switch_back(database: Database, tools: Tools, replaced: Replaced, request: SwitchRequest) -> Switched:
    """Put a database that was put aside back in its place, with the comment it had, and the live one's properties."""
    with maintenance_session(database, tools, "switch") as connection, errors_in_words(replaced.name):
        mark = mark_of(connection, database, replaced)
    return switch(database, tools, Newcomer(name=replaced.name, comment=mark.comment), request)


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What becomes of which database; ``name`` is the one that the live database gets."""

    live: Properties | None
    new: Properties
    newcomer: Newcomer
    request: SwitchRequest
    place: str
    name: str = ""

    @property
    def mark(self) -> ReplacedMark | None:
        """What is written on the database that is put aside."""
        if self.live is None:
            return None
        return ReplacedMark(
            live=self.place, restore=self.request.restore, replaced_at=self.request.at, comment=self.live.comment
        )

    @property
    def oids(self) -> list[int]:
        return [self.new.oid] if self.live is None else [self.live.oid, self.new.oid]

    def renames(self) -> Iterator[sql.Composed]:
        if self.live is not None:
            yield rename_sql(self.place, self.name)
        yield rename_sql(self.newcomer.name, self.place)

    def comments(self, *, is_paused: bool) -> Iterator[sql.Composed]:
        if self.mark is not None:
            yield comment_sql(self.name, self.mark.text())
        comment = self.newcomer.comment
        if comment is None:
            comment = self.live.comment if self.live else ""
        mark = SwitchedMark(restore=self.request.restore, replaced=self.name, comment=comment, is_paused=is_paused)
        yield comment_sql(self.place, mark.text())


def rename_sql(name: str, new: str) -> sql.Composed:
    """Return what renames a database."""
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new))


@contextlib.contextmanager
def _sessions(database: Database, tools: Tools) -> Iterator[tuple[Connection, Connection]]:
    """Hold the session that switches and the one that ends others; in the live database they could not rename it."""
    where = tools.maintenance_database
    if where == database.name:
        raise RefusedError(
            f"{database.name!r} cannot be switched from a session in itself.",
            remedy="Name another database of the server in ERP_BACKUP['MAINTENANCE_DATABASE'].",
        )
    with (
        session(database.settings, database=where, purpose="switch") as main,
        advisory_lock(main, lock_name(database)),
        session(database.settings, database=where, purpose="switch helper") as helper,
    ):
        _notice_our_death(main)
        yield main, helper


def _notice_our_death(connection: Connection) -> None:
    """Let the server look, while a statement waits for a lock, whether we still are there (from PostgreSQL 14 on)."""
    with contextlib.suppress(psycopg.Error):  # not on every system
        connection.execute(
            "SELECT set_config(name, '200ms', false) FROM pg_settings WHERE name = 'client_connection_check_interval'"
        )


def _refuse_unfinished(live: Properties) -> None:
    if switched_mark(live.comment):
        raise RefusedError(
            f"What followed the last switch of {live.name!r} was never completed.",
            remedy="Run the restore again: each run begins by completing the one before it.",
        )


def free_name(connection: Connection, live: str, request: SwitchRequest) -> str:
    """Return the name that the live database gets: with the time, cut to what the server allows, of no other one."""
    taken = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
    number = 1
    while (name := kept_name(live, request, number)) in taken:
        number += 1
    return name


def kept_name(live: str, request: SwitchRequest, number: int = 1) -> str:
    """Return the ``number``-th choice for the name of a database that is put aside."""
    suffix = f"__old_{request.at.astimezone(UTC):%Y%m%d_%H%M%S}" + (f"_{number}" if number > 1 else "")
    return live.encode()[: NAME_LIMIT - len(suffix)].decode(errors="ignore") + suffix


def _carry_out(database: Database, tools: Tools, main: Connection, helper: Connection, plan: _Plan) -> None:
    with _clients_waiting(tools, main, plan) as is_paused:
        try:
            main.execute("BEGIN")
            milliseconds = max(1, round(plan.request.limit * 1000))  # 0 would be for ever
            main.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            main.execute(f"SET LOCAL statement_timeout = {2 * milliseconds}")
            # Once both renames have their locks nobody is in, and nobody gets in before the end of the transaction.
            with _sessions_ended(helper, plan.oids):
                for statement in plan.renames():
                    main.execute(statement)
            for statement in plan.comments(is_paused=is_paused):
                main.execute(statement)
        except BaseException as error:
            _give_up(main)
            if isinstance(error, _IN_THE_WAY):
                raise _locked(main, plan, error) from error
            raise
        with signals_held():
            _commit(database, tools, main, plan)


@contextlib.contextmanager
def _clients_waiting(tools: Tools, main: Connection, plan: _Plan) -> Iterator[bool]:
    """Let the pooler's clients wait, and note that where a later run finds it, should this one be killed."""
    if not tools.pooler or plan.live is None:
        yield False
        return
    with pooler.console(tools.pooler) as connection:
        names = pooler.pools_of(connection, plan.place, are_paused=False)
        if names:
            main.execute(comment_sql(plan.place, PausedMark(comment=plan.live.comment).text()))
        try:
            pooler.pause(connection, names, plan.request.limit)
            yield bool(names)
        finally:
            # Where they cannot be told to go on, the mark stays, here or in what the switch has written.
            with contextlib.suppress(psycopg.Error, ServerUnreachableError):
                pooler.resume(tools.pooler, names)
                settle_pause(main, plan.place)


@contextlib.contextmanager
def _sessions_ended(helper: Connection, oids: Sequence[int]) -> Iterator[None]:
    """End the sessions of these databases again and again, in a thread of its own."""
    is_over = threading.Event()

    def work() -> None:
        # Should it fail, the sessions stay, and the renames say so.
        with contextlib.suppress(psycopg.Error):
            while not is_over.is_set():
                helper.execute(_END_SESSIONS, [list(oids)])
                is_over.wait(_EVERY)

    thread = threading.Thread(target=work, name="switch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_JOIN_LIMIT)
        if thread.is_alive():
            cut(helper)


def _give_up(main: Connection) -> None:
    """Take the transaction back; a statement that still runs (a signal came in between) is cancelled first."""
    with contextlib.suppress(psycopg.Error):
        if main.info.transaction_status is TransactionStatus.ACTIVE:
            main.cancel_safe(timeout=_JOIN_LIMIT)
            main.close()
        else:
            main.execute("ROLLBACK")


def _locked(main: Connection, plan: _Plan, error: psycopg.Error) -> LockedError:
    """Say who is in the way; ``error`` says only that somebody is."""
    names: list[str] = []
    with contextlib.suppress(psycopg.Error):
        rows = main.execute(_WHO, [plan.oids]).fetchall()
        names = [f"{user} ({application or 'no name'}, server process {pid})" for user, application, pid in rows]
    who = f" Still connected: {', '.join(names)}." if names else ""
    return LockedError(
        f"{plan.place!r} could not be switched: {first_line(error)}.{who}",
        remedy="Nothing was changed. End these sessions (a superuser's only a superuser can end), then run it again.",
    )


def _commit(database: Database, tools: Tools, main: Connection, plan: _Plan) -> None:
    """Commit; where the answer is lost, look whether it took place. Raises the error only when it did not."""
    try:
        main.execute("COMMIT")
    except psycopg.Error as error:
        main.close()
        try:
            with maintenance_session(database, tools, "switch recovery") as fresh:
                wait_until_over(fresh, tools, database)
                now = properties.read(fresh, plan.place)
        except (BackupError, psycopg.Error):
            raise ServerUnreachableError(
                f"The server went away while {plan.place!r} was switched: {first_line(error)}.",
                remedy=f"{plan.place!r} is exactly the old or the new database. When the server runs again, "
                "run this again: it completes the switch, or begins anew.",
            ) from error
        if now is None or now.oid != plan.new.oid:
            raise
