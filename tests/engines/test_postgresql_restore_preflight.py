"""What a restore's preflight sees on PostgreSQL: each thing that would go wrong, made to be so once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from erp_backup.core.errors import (
    BackupError,
    LockedError,
    NoSpaceError,
    ProgramMissingError,
    RefusedError,
    ServerUnreachableError,
    VersionError,
)
from erp_backup.core.figures import Figures, Severity
from erp_backup.core.manifest import DatabaseFacts, Manifest
from erp_backup.core.workspace import Workspace
from erp_backup.engines.base import Problem
from erp_backup.engines.postgresql import PostgreSQL
from tests.support.pg_engine import connect, engine_of, run, take
from tests.support.postgres import Cluster, temporary_database

FAILED, NOTE = Severity.FAILED, Severity.NOTE


@pytest.fixture(scope="module")
def manifest(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of a backup of a database that is like the live one."""
    postgres.start()
    with (
        temporary_database(postgres, owner="erp_owner") as entry,
        Workspace(tmp_path_factory.mktemp("state")).folder("test") as folder,
    ):
        return take(engine_of(entry), folder).manifest


def said(engine: PostgreSQL, manifest: Manifest, severity: Severity, *, switch: bool = True) -> list[str]:
    """Return the messages of that severity, each with its remedy."""
    found = engine.restore_preflight(manifest, switch=switch)
    return [str(problem.as_error()) for problem in found if problem.severity is severity]


def only(problems: list[Problem]) -> Problem:
    """Return the one problem that would stop the run."""
    (problem,) = [problem for problem in problems if problem.severity is FAILED]
    return problem


def database(manifest: Manifest, **values: object) -> Manifest:
    """Return the manifest of a backup of another database."""
    facts: DatabaseFacts = replace(manifest.database, **values)  # type: ignore[arg-type]
    return replace(manifest, database=facts)


class TestServer:
    """What the server must be able to do for any restore."""

    def test_all_is_well__nothing_stops_it(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """An ordinary owner with CREATEDB and pg_signal_backend is all it takes; nothing is changed by looking."""
        with connect(pg_engine.database.settings) as connection:
            query = "SELECT txid_current_if_assigned(), count(*) FROM pg_database"
            before = connection.execute(query).fetchone()
            failed = said(pg_engine, manifest, FAILED)
            after = connection.execute(query).fetchone()

        assert [] == failed
        assert before == after

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ({"major": 99}, VersionError, "was made on PostgreSQL 99"),
            ({"encoding": "KLINGON"}, RefusedError, "no encoding 'KLINGON'"),
            ({"collation": "tlh_QO.UTF-8"}, RefusedError, "no locale 'tlh_QO.UTF-8'"),
            ({"ctype": "tlh_QO.UTF-8"}, RefusedError, "no locale 'tlh_QO.UTF-8'"),
            ({"size": 1 << 60}, NoSpaceError, "are free"),
        ],
    )
    def test_backup_that_does_not_fit_the_server__said_with_a_remedy(
        self,
        pg_engine: PostgreSQL,
        postgres: Cluster,
        manifest: Manifest,
        values: dict[str, object],
        error: type[BackupError],
        message: str,
    ) -> None:
        """Newer server, unknown encoding and locale, no room: each is a failure of its own class."""
        with pg_read_settings(postgres):
            problem = only(pg_engine.restore_preflight(database(manifest, **values), switch=True))

        assert message in problem.message
        assert problem.remedy
        assert problem.error is error

    def test_locale_of_builtin_provider__refused_before_17(
        self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest
    ) -> None:
        """A server without that provider cannot sort like that."""
        failed = said(pg_engine, database(manifest, locale_provider="builtin", locale="C.UTF-8"), FAILED)
        with postgres.connect() as admin:
            is_new = admin.info.server_version >= 170000

        assert is_new is (failed == [])

    def test_locale_spelt_otherwise__is_the_same(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """``C.UTF-8``, ``C.utf8`` and ``POSIX`` need nothing; no false alarm."""
        for name in ("C.utf8", "C.UTF-8", "POSIX", "C"):
            assert [] == said(pg_engine, database(manifest, collation=name, ctype=name), FAILED)

    def test_server_that_does_not_tell_where_its_files_are__says_how_much_is_needed(
        self, pg_engine: PostgreSQL, manifest: Manifest
    ) -> None:
        """An ordinary role does not learn the folder: then the figure is there for a person to compare."""
        (note,) = [text for text in said(pg_engine, manifest, NOTE) if "needs about" in text]

        assert "df at the server" in note

    def test_collation_of_another_version__noted(
        self, postgres: Cluster, manifest: Manifest, pg_engine: PostgreSQL
    ) -> None:
        """Indexes are built anew, so it is a note; it says REINDEX for the others."""
        facts = {"locale_provider": "icu", "locale": "de", "collation_version": "1.2"}
        notes = said(pg_engine, database(manifest, **facts), NOTE)

        assert ["REINDEX" in text for text in notes if "version 1.2" in text] == [True]

    def test_extensions__missing_and_reserved_ones_stop_it(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """One that is not installed, one that only a superuser may create, one of another version."""
        wanted = {"nowhere": "1.0", "amcheck": "0.1", "plpgsql": "1.0"}
        changed = replace(manifest, figures=replace(manifest.figures, extensions=wanted))
        failed = said(pg_engine, changed, FAILED)

        assert 2 == len(failed)
        assert "'nowhere' (1.0) is not installed at the server" in failed[0]
        assert "Only a superuser may create the extension 'amcheck'" in failed[1]
        assert any("was 0.1 in the backup" in note for note in said(pg_engine, changed, NOTE))

    def test_no_program__said(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """Without a pg_restore for the archive's version nothing can be restored."""
        newer = replace(manifest, tools={"pg_dump": "99.1"})
        problem = only(pg_engine.restore_preflight(newer, switch=True))

        assert problem.error in {VersionError, ProgramMissingError}
        assert problem.remedy

    def test_server_away__the_only_thing_said(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """Nothing else can be known then."""
        away = engine_of({**pg_engine.database.settings, "PORT": "1"})
        (problem,) = away.restore_preflight(manifest, switch=True)

        assert problem.error is ServerUnreachableError

    def test_superuser__refused_unless_told_why(
        self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest
    ) -> None:
        """An archive could do a lot with such rights."""
        engine = engine_of(postgres.entry(pg_engine.database.name))

        assert any("is a superuser" in text and "--as-superuser" in text for text in said(engine, manifest, FAILED))

    def test_everything_at_once__everything_is_said(self, postgres: Cluster, manifest: Manifest) -> None:
        """The list does not end at the first thing: rights, versions, extensions, encoding, the owner."""
        postgres.create_role("helpless", "secret", createdb=False)
        changed = replace(
            database(manifest, major=99, encoding="KLINGON"), figures=Figures(extensions={"nowhere": "1"})
        )
        try:
            with temporary_database(postgres, owner="postgres") as entry:
                engine = engine_of(postgres.entry(entry["NAME"], user="helpless"))
                failed = " ".join(said(engine, changed, FAILED))
                notes = " ".join(said(engine, changed, NOTE))
        finally:
            postgres.drop_role("helpless")

        assert "may not create databases" in failed
        assert "ALTER ROLE helpless CREATEDB" in failed
        assert "was made on PostgreSQL 99" in failed
        assert "KLINGON" in failed
        assert "nowhere" in failed
        assert "belongs to 'postgres', and 'helpless' may not rename it" in failed
        assert "GRANT pg_signal_backend TO helpless" in notes


class TestLiveDatabase:
    """What stands in the way of a switch."""

    def test_no_live_database__noted(self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest) -> None:
        """On an empty server there is nothing to replace, and nothing wrong about that."""
        postgres.drop_database(pg_engine.database.name)

        assert [] == said(pg_engine, manifest, FAILED)
        assert any("nothing is replaced" in note for note in said(pg_engine, manifest, NOTE))

    def test_connections__counted_and_named(self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest) -> None:
        """Who will be thrown out is known before; a superuser's session would be in the way."""
        postgres.create_role("clerk", "secret")
        name = pg_engine.database.name
        try:
            with postgres.connect(name, user="clerk") as one, postgres.connect(name, user="clerk"):
                one.execute("SET application_name = 'till'")
                notes = said(pg_engine, manifest, NOTE)
                failed = said(pg_engine, manifest, FAILED)
            with postgres.connect(name):
                problem = only(pg_engine.restore_preflight(manifest, switch=True))
                elsewhere = said(pg_engine, manifest, FAILED, switch=False)
        finally:
            postgres.drop_role("clerk")

        assert any("2 open connections will be ended: clerk 2 (till)" in note for note in notes)
        assert [] == failed
        assert "'postgres'" in problem.message
        assert problem.error is LockedError
        assert [] == elsewhere

    def test_others_without_the_right_to_end_them__said(
        self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest
    ) -> None:
        """An owner without pg_signal_backend cannot clear the way of other roles' sessions."""
        with postgres.connect() as admin:
            admin.execute("REVOKE pg_signal_backend FROM erp_owner")
        postgres.create_role("clerk", "secret")
        try:
            with postgres.connect(pg_engine.database.name, user="clerk"):
                failed = said(pg_engine, manifest, FAILED)
            notes = said(pg_engine, manifest, NOTE)
        finally:
            postgres.drop_role("clerk")
            with postgres.connect() as admin:
                admin.execute("GRANT pg_signal_backend TO erp_owner")

        assert ["GRANT pg_signal_backend TO erp_owner" in text for text in failed] == [True]
        assert any("may end its own connections only" in note for note in notes)

    def test_prepared_transaction__would_block(self, manifest: Manifest, pg_engine: PostgreSQL) -> None:
        """It holds the database without any session that could be ended."""
        with Cluster(max_prepared_transactions="2") as cluster:
            cluster.create_role("erp", "secret")
            entry = cluster.create_database("erp", owner="erp")
            run(entry, "CREATE TABLE t ()", "BEGIN", "DROP TABLE t", "PREPARE TRANSACTION 'till 4'")
            problem = only(engine_of(entry).restore_preflight(manifest, switch=True))

        assert "till 4" in problem.message
        assert problem.error is LockedError

    def test_slots_publications_subscriptions__each_by_name(
        self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest
    ) -> None:
        """A slot would hold WAL for the one put aside; what follows a publication must follow anew."""
        name = pg_engine.database.name
        with postgres.connect(name) as admin:
            admin.execute("SELECT pg_create_logical_replication_slot('till_slot', 'test_decoding')")
            admin.execute("CREATE PUBLICATION tills FOR ALL TABLES")
            admin.execute("CREATE SUBSCRIPTION head CONNECTION 'dbname=x' PUBLICATION y WITH (connect = false)")
        try:
            failed = said(pg_engine, manifest, FAILED)
            notes = said(pg_engine, manifest, NOTE)
        finally:
            with postgres.connect(name) as admin:
                admin.execute("SELECT pg_drop_replication_slot('till_slot')")
                admin.execute("ALTER SUBSCRIPTION head SET (slot_name = NONE)")
                admin.execute("DROP SUBSCRIPTION head")

        assert ["till_slot" in text and "pg_drop_replication_slot" in text for text in failed] == [True]
        assert any("Subscribers of tills must subscribe anew" in note for note in notes)
        assert any("The subscription 'head' stays" in note for note in notes)

    @pytest.mark.parametrize(
        ("statement", "undo", "message"),
        [
            ("IS_TEMPLATE true", "IS_TEMPLATE false", "is a template"),
            ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true", "accepts no connections"),
            ("SET log_min_duration_statement = 7", "RESET ALL", "log_min_duration_statement"),
            ("SET app.sign = 'x'", "RESET ALL", "app.sign"),
        ],
    )
    def test_what_the_new_one_would_not_be__said(
        self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest, statement: str, undo: str, message: str
    ) -> None:
        """What cannot be copied to what takes its place."""
        with postgres.connect() as admin:
            admin.execute(f"ALTER DATABASE {pg_engine.database.name} {statement}")
            problem = only(pg_engine.restore_preflight(manifest, switch=True))
            admin.execute(f"ALTER DATABASE {pg_engine.database.name} {undo}")

        assert message in problem.message
        assert problem.remedy

    def test_what_will_be_otherwise__noted(self, pg_engine: PostgreSQL, postgres: Cluster, manifest: Manifest) -> None:
        """Settings and tables of other roles change nothing about whether it can be done."""
        postgres.create_role("clerk", "secret")
        name = pg_engine.database.name
        run(pg_engine.database.settings, "CREATE TABLE item ()", "CREATE TABLE clerks ()")
        try:
            with postgres.connect() as admin:
                admin.execute(f"ALTER ROLE clerk IN DATABASE {name} SET work_mem = '9MB'")
            with postgres.connect(name) as admin:
                admin.execute("ALTER TABLE clerks OWNER TO clerk")
            notes = " ".join(said(pg_engine, manifest, NOTE))
            failed = said(pg_engine, manifest, FAILED)
        finally:
            postgres.drop_database(name)
            postgres.drop_role("clerk")

        assert [] == failed
        assert "Settings of the role 'clerk'" in notes
        assert "Tables belong to clerk: in the restored database all belong to the role that restores" in notes

    def test_long_name__noted(self, postgres: Cluster, manifest: Manifest) -> None:
        """What is put aside gets a shortened one."""
        name = "erp_" + "x" * 50
        entry = postgres.create_database(name, owner="erp_owner")
        try:
            notes = said(engine_of(entry), manifest, NOTE)
        finally:
            postgres.drop_database(name)

        assert any("shortened" in note for note in notes)

    def test_maintenance_database__must_be_another_and_let_us_in(
        self, pg_engine: PostgreSQL, manifest: Manifest
    ) -> None:
        """The switch is made from outside."""
        entry = pg_engine.database.settings
        same = only(engine_of(entry, maintenance_database=entry["NAME"]).restore_preflight(manifest, switch=True))
        none = only(engine_of(entry, maintenance_database="nowhere").restore_preflight(manifest, switch=True))

        assert "is also the database that a switch is made from" in same.message
        assert "A switch needs a session in 'nowhere'" in none.message

    def test_pooler_that_does_not_answer__said(self, pg_engine: PostgreSQL, manifest: Manifest) -> None:
        """Its clients would get errors instead of waiting: better to know before."""
        engine = engine_of(pg_engine.database.settings, pooler="host=127.0.0.1 port=1 dbname=pgbouncer")
        problem = only(engine.restore_preflight(manifest, switch=True))

        assert "pooler" in problem.message
        assert problem.error is ServerUnreachableError


@contextlib.contextmanager
def pg_read_settings(cluster: Cluster) -> Iterator[Path]:
    """Let the owner know where the server's files are."""
    with cluster.connect() as admin:
        admin.execute("GRANT pg_read_all_settings TO erp_owner")
        try:
            yield cluster.data_dir
        finally:
            admin.execute("REVOKE pg_read_all_settings FROM erp_owner")
