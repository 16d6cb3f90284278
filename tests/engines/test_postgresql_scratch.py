"""Scratch databases: made like the source, for their owner only, gone with it; and locks that die with their holder."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from erp_backup.core.errors import BackupError, LockedError, RefusedError
from erp_backup.core.workspace import Folder
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.scratch import creation_sql
from tests.support.pg_engine import connect, engine_of, eventually, job, round_trip, run, scratch_databases
from tests.support.postgres import Cluster

LOCALE = """
SELECT to_jsonb(d) - '{oid,datname,datacl,datfrozenxid,datminmxid,datlastsysoid,dattablespace}'::text[]
FROM pg_database d WHERE datname = %s
"""
SOURCES = {
    "LATIN1 and C": {"encoding": "LATIN1", "locale": "C"},
    "UTF8 with two locales": {"encoding": "UTF8", "lc_collate": "C", "lc_ctype": "C.UTF-8"},
    "no encoding": {"encoding": "SQL_ASCII", "locale": "C"},
    "ICU": {"encoding": "UTF8", "locale": "C.UTF-8", "locale_provider": "icu", "icu_locale": "de-u-kn"},
}


class TestCreation:
    """What a new scratch database is like."""

    @pytest.mark.parametrize("options", SOURCES.values(), ids=SOURCES.keys())
    def test_encoding_and_locale__are_the_source_s(
        self, postgres: Cluster, job_folder: Folder, options: dict[str, str]
    ) -> None:
        """Another collation would sort, and another encoding refuse, what the source holds."""
        postgres.start()
        name = "erp_elsewhere"
        entry = postgres.create_database(name, owner="erp_owner", template="template0", **options)
        try:
            # Bytes of no encoding at all in the one, a letter with an accent in the others.
            letter = r"E'\377\301'" if options["encoding"] == "SQL_ASCII" else r"chr(233)"
            raw = {**entry, "OPTIONS": {"client_encoding": options["encoding"]}}
            run(raw, "CREATE TABLE word (w text)", f"INSERT INTO word VALUES ({letter} || 'x'), ('y10'), ('y9')")
            run(raw, "CREATE UNIQUE INDEX word_w ON word (w)")
            engine = engine_of(entry)
            with engine.scratch(engine.facts(), job_folder) as scratch, postgres.connect() as admin:
                rows = [admin.execute(LOCALE, [database]).fetchone() for database in (name, scratch.name)]
            wrong = round_trip(engine, job_folder)
        finally:
            postgres.drop_database(name)

        assert rows[0] == rows[1]
        assert [] == wrong

    def test_others__may_not_connect(self, pg_engine: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
        """A copy of everything is for the one who made it: a new database would let everybody in."""
        postgres.create_role("somebody_else", "secret")
        try:
            with pg_engine.scratch(pg_engine.facts(), job_folder) as scratch:
                with (
                    pytest.raises(psycopg.OperationalError, match="permission denied for database"),
                    postgres.connect(scratch.name, user="somebody_else"),
                ):
                    pass
                with connect(pg_engine.database.settings, scratch.name) as ours:
                    answer = ours.execute("SELECT 1").fetchone()
        finally:
            postgres.drop_role("somebody_else")

        assert (1,) == answer

    def test_tablespace__is_the_source_s(self, postgres: Cluster, job_folder: Folder) -> None:
        """A large database stands on a disk that was chosen for it, and its copy is as large."""
        postgres.start()
        with postgres.connect() as admin:
            admin.execute("SET allow_in_place_tablespaces = on")
            admin.execute("CREATE TABLESPACE roomy OWNER erp_owner LOCATION ''")
        entry = postgres.create_database("erp_large", owner="erp_owner", tablespace="roomy")
        try:
            engine = engine_of(entry)
            with engine.scratch(engine.facts(), job_folder) as scratch, connect(entry, scratch.name) as ours:
                space = ours.execute(
                    "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace"
                    " WHERE datname = current_database()"
                ).fetchone()
        finally:
            postgres.drop_database("erp_large")
            with postgres.connect() as admin:
                admin.execute("DROP TABLESPACE roomy")

        assert ("roomy",) == space

    @pytest.mark.parametrize(
        ("provider", "major", "clause"),
        [
            ("libc", 14, "LC_CTYPE 'C'"),
            ("libc", 15, "LOCALE_PROVIDER 'libc'"),
            ("icu", 15, "LOCALE_PROVIDER 'icu' ICU_LOCALE 'de'"),
            ("builtin", 17, "LOCALE_PROVIDER 'builtin' BUILTIN_LOCALE 'de'"),
        ],
    )
    def test_provider__is_named_where_the_server_knows_providers(
        self, pg_engine: PostgreSQL, provider: str, major: int, clause: str
    ) -> None:
        """Each version has its own words; what an older one does not know is not said to it."""
        facts = replace(pg_engine.facts(), ctype="C", locale_provider=provider, locale="de")

        assert creation_sql("x", facts, major).as_string().endswith(clause)

    def test_role_without_the_right__is_refused(
        self, postgres: Cluster, pg_database: dict[str, Any], job_folder: Folder
    ) -> None:
        """Without CREATEDB there is no drill; that says which right is missing."""
        postgres.create_role("plain_user", "secret", createdb=False)
        engine = engine_of(postgres.entry(pg_database["NAME"], user="plain_user"))
        try:
            with pytest.raises(RefusedError) as caught, engine.scratch(engine.facts(), job_folder):
                pass
        finally:
            postgres.drop_role("plain_user")

        assert "permission denied to create database" in str(caught.value)
        assert set() == scratch_databases(pg_database)

    def test_command_to_look_at_it__opens_it(
        self, pg_engine: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """What is printed for people works as it is, and holds no password."""
        password = pg_engine.database.settings["PASSWORD"]
        with pg_engine.scratch(pg_engine.facts(), job_folder) as scratch:
            command = scratch.how_to_look()
            shown = subprocess.run(
                [*shlex.split(command), "-XAtc", "SELECT current_database()"],
                env={"PATH": os.environ["PATH"], "PGPASSWORD": password},
                capture_output=True,
                text=True,
                check=True,
            )
            name = scratch.name

        assert name == shown.stdout.strip()
        assert password not in command
        assert password not in repr(scratch)


class TestEnd:
    """When it goes, and what does not go with it."""

    @pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
    def test_end_of_its_job__drops_it(
        self, pg_engine: PostgreSQL, job_folder: Folder, postgres: Cluster, error: type[BaseException] | None
    ) -> None:
        """Success, failure, Ctrl-C and the end of the process: in each case it goes, whoever is connected."""
        with (
            contextlib.suppress(ValueError, KeyboardInterrupt, SystemExit),
            pg_engine.scratch(pg_engine.facts(), job_folder) as scratch,
        ):
            somebody = connect(pg_engine.database.settings, scratch.name)
            there = scratch.name in postgres.databases()
            if error is not None:
                raise error
        somebody.close()

        assert there
        assert set() == scratch_databases(pg_engine.database.settings)

    def test_session_that_is_lost__does_not_keep_it(
        self, pg_engine: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """When the session that owns it was ended, it is dropped through another one."""
        with pg_engine.scratch(pg_engine.facts(), job_folder), postgres.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'erp_backup drill' AND usename = 'erp_owner'"
            )

        assert set() == scratch_databases(pg_engine.database.settings)

    def test_killed_job__leaves_what_the_next_one_removes(
        self, pg_engine: PostgreSQL, postgres: Cluster, tmp_path: Path
    ) -> None:
        """While the other process lives, its lock is refused to us by name and its copy is safe; then both are free."""
        script = """
            with engine.lock("backup of the night", folder.path), engine.scratch(engine.facts(), folder) as scratch:
                print(scratch.name, flush=True)
                threading.Event().wait()
        """
        with job(pg_engine.database.settings, tmp_path / "other", script) as process:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            with pytest.raises(LockedError) as caught, pg_engine.lock("ours", tmp_path):
                pass
            removed_while_it_lived = pg_engine.remove_orphans()
            process.send_signal(signal.SIGKILL)
            process.wait()
        removed = [] if not eventually(lambda: _is_free(pg_engine, tmp_path)) else pg_engine.remove_orphans()

        assert "erp_backup backup of the night (server process " in str(caught.value)
        assert [] == removed_while_it_lived
        assert [name] == removed
        assert set() == scratch_databases(pg_engine.database.settings)

    def test_what_only_looks_like_ours__stays(self, pg_engine: PostgreSQL, postgres: Cluster) -> None:
        """A name of another length, a comment of somebody's, another owner: none of our business."""
        ours = "erp_backup_scratch_" + "0" * 16
        names = [
            "erp_backup_scratch_mine",
            f"{ours}0",
            "erp_backup_scratch_" + "1" * 16,
            "erp_backup_scratch_" + "2" * 16,
        ]
        for name in names[:3]:
            postgres.create_database(name, owner="erp_owner")
        postgres.create_database(names[3])
        postgres.create_database(ours, owner="erp_owner")
        try:
            with postgres.connect() as admin:
                admin.execute(f"COMMENT ON DATABASE {names[2]} IS 'the accounts'")
            removed = pg_engine.remove_orphans()
            left = postgres.databases()
        finally:
            for name in [*names, ours]:
                postgres.drop_database(name)

        assert [ours] == removed
        assert set(names) <= left

    def test_orphan_that_cannot_be_dropped__does_not_stop_the_run(
        self, pg_engine: PostgreSQL, postgres: Cluster
    ) -> None:
        """A superuser who looks into it cannot be disconnected by an ordinary role: it waits for another run."""
        name = "erp_backup_scratch_" + "3" * 16
        postgres.create_database(name, owner="erp_owner")
        try:
            with postgres.connect(name):
                removed = pg_engine.remove_orphans()
            removed_later = pg_engine.remove_orphans()
        finally:
            postgres.drop_database(name)

        assert [] == removed
        assert [name] == removed_later


class TestLock:
    """One backup of a database at a time, on the whole server."""

    def test_other_databases__are_not_in_the_way(self, pg_engine: PostgreSQL, tmp_path: Path) -> None:
        """The lock is for one database, not for the server."""
        other = engine_of({**pg_engine.database.settings, "NAME": "postgres"})

        with pg_engine.lock("one", tmp_path), other.lock("other", tmp_path):
            pass

    def test_user_without_maintenance_database__meets_the_same_lock(
        self, pg_engine: PostgreSQL, tmp_path: Path, job_folder: Folder
    ) -> None:
        """Who may not connect to `postgres` locks in the live database; both kinds see each other and their copies."""
        elsewhere = engine_of(pg_engine.database.settings, maintenance_database="nowhere")
        for holder, late in ((pg_engine, elsewhere), (elsewhere, pg_engine)):
            with (
                holder.lock("the first", tmp_path),
                pytest.raises(LockedError, match="the first"),
                late.lock("the second", tmp_path),
            ):
                pass
        with pg_engine.scratch(pg_engine.facts(), job_folder):
            removed = elsewhere.remove_orphans()
        with elsewhere.scratch(elsewhere.facts(), job_folder):
            removed += pg_engine.remove_orphans()

        assert [] == removed

    def test_lost_session__frees_the_lock(self, pg_engine: PostgreSQL, tmp_path: Path, postgres: Cluster) -> None:
        """The lock is its session's: an end of that ends the lock, and the holder's own end is quiet."""
        with pg_engine.lock("holder", tmp_path):
            with postgres.connect() as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                    " WHERE application_name = 'erp_backup holder'"
                )
            free = _is_free(pg_engine, tmp_path)

        assert free


def _is_free(engine: PostgreSQL, state_dir: Path) -> bool:
    try:
        with engine.lock("look", state_dir):
            return True
    except BackupError:
        return False
