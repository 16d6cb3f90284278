"""Whom a restored database lets in, and whose it is: as in its source, where that can be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from erp_backup.core.figures import Severity
from erp_backup.core.workspace import Folder
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.privileges import split
from tests.contracts.engine import Dumped
from tests.support.pg_engine import connect, engine_of, run, take
from tests.support.postgres import Cluster, temporary_database
from tests.support.switching import nothing_left, request

SOURCE = (
    "CREATE SCHEMA side",
    "CREATE TABLE item (id serial PRIMARY KEY, secret text)",
    'CREATE TABLE side."odd; \'{}""name" (id int)',
    "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n'",
    "REVOKE ALL ON FUNCTION twice FROM PUBLIC",
)
RIGHTS = (
    "GRANT USAGE ON SCHEMA side TO reporting",
    "GRANT SELECT (id) ON item TO reporting, leaver",
    "GRANT USAGE ON SEQUENCE item_id_seq TO reporting",
    'GRANT SELECT ON side."odd; \'{}""name" TO leaver, reporting WITH GRANT OPTION',
    "GRANT EXECUTE ON FUNCTION twice TO reporting",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reporting",
)
READS = ("SELECT id FROM item", "SELECT nextval('item_id_seq')", "SELECT twice(2)", "SELECT * FROM later")
KINDS = (
    "CREATE DOMAIN money_text AS text",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE VIEW ids AS SELECT id FROM item",
    "CREATE INDEX item_secret ON item (secret)",
    "CREATE STATISTICS both_columns ON id, secret FROM item",
    "CREATE PROCEDURE nothing() LANGUAGE sql AS ''",
    "CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY) PARTITION BY RANGE (id)",
    "CREATE TABLE part PARTITION OF parts DEFAULT",
    "CREATE EXTENSION pg_trgm",
    "SELECT lo_from_bytea(4711, 'large')",
)
OWNERS = """
SELECT DISTINCT pg_get_userbyid(role) FROM (
    SELECT relowner AS role, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'side')
    UNION ALL SELECT proowner, p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'
    UNION ALL SELECT typowner, coalesce(nullif(typelem, 0), t.oid) FROM pg_type t
        JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname = 'public'
    UNION ALL SELECT stxowner, oid FROM pg_statistic_ext
    UNION ALL SELECT nspowner, oid FROM pg_namespace WHERE nspname = 'side'
    UNION ALL SELECT lomowner, oid FROM pg_largeobject_metadata
    UNION ALL SELECT datdba, oid FROM pg_database WHERE datname = current_database()) roles(role, oid)
WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = roles.oid AND d.deptype = 'e')
"""


@contextlib.contextmanager
def roles(cluster: Cluster, *names: str) -> Iterator[None]:
    """Create roles, and drop them when the databases that know them are gone."""
    for name in names:
        cluster.create_role(name, "secret")
    try:
        yield
    finally:
        for name in names:
            cluster.drop_role(name)


@pytest.fixture
def live(postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of a database with rights for a role that reads reports and one that will be gone."""
    with (
        roles(postgres, "reporting", "leaver"),
        temporary_database(postgres, owner="erp_owner") as entry,
        nothing_left(postgres, entry["NAME"]),
    ):
        run(entry, *SOURCE, *RIGHTS)
        yield engine_of(entry)


def switch(engine: PostgreSQL, folder: Folder, dumped: Dumped) -> tuple[str, ...]:
    """Restore and switch as dbrestore does; return what could not be given back."""
    with engine.scratch(dumped.manifest.database, folder) as scratch:
        assert () == scratch.load(dumped.path, dumped.manifest).errors
        notes = scratch.restore_privileges(dumped.path, dumped.manifest)
        engine.settle_switch(engine.switch(scratch, request()))
    return notes


def can(entry: Mapping[str, Any], statement: str) -> bool:
    """Whether the reporting role may do that."""
    with connect({**entry, "USER": "reporting", "PASSWORD": "secret"}) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


class TestRights:
    """From the archive, statement by statement."""

    def test_reporting_role__reads_before_and_after_a_switch(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """Tables, columns, sequences, schemas, functions, tables to come; a role that is gone costs a note."""
        entry = live.database.settings
        dumped = take(live, job_folder)
        with postgres.connect(entry["NAME"]) as admin:
            admin.execute("DROP OWNED BY leaver")
            admin.execute("DROP ROLE leaver")
        notes = switch(live, job_folder, dumped)
        run(entry, "CREATE TABLE later ()")

        assert ('Rights that the backup has could not be given back: role "leaver" does not exist (2 times).',) == notes
        assert [True] * 4 == [can(entry, statement) for statement in READS]
        assert can(entry, 'SELECT * FROM side."odd; \'{}""name"')
        assert not can(entry, "SELECT secret FROM item")
        assert [] == list(job_folder.path.glob("rights*"))

    def test_drill__gives_no_rights(self, live: PostgreSQL, job_folder: Folder) -> None:
        """What is looked at by us alone lets nobody else in."""
        dumped = take(live, job_folder)
        with live.scratch(dumped.manifest.database, job_folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            with connect(live.database.settings, scratch.name) as connection:
                rights = connection.execute("SELECT relacl FROM pg_class WHERE relname = 'item'").fetchone()

        assert (None,) == rights

    def test_script__is_split_at_its_statements(self) -> None:
        """Names and texts may hold a semicolon; comments and psql's own commands are none."""
        script = '\\restrict x\n-- Name: a; Type: ACL\n--\nGRANT ALL ON "a;\n--""b" TO x;\nREVOKE y;\n\\unrestrict x\n'

        assert ['GRANT ALL ON "a;\n--""b" TO x', "REVOKE y"] == list(split(script))


class TestOwners:
    """Of the live database, when somebody else restores."""

    @pytest.mark.parametrize("user", ["restorer", "postgres"])
    def test_one_other_role_owns_all__it_is_handed_over(self, job_folder: Folder, postgres: Cluster, user: str) -> None:
        """A member of the owner's role restores, or a superuser; databases of its own stay its own."""
        with (
            roles(postgres, "app", "restorer", "reporting", "leaver"),
            temporary_database(postgres, owner="app") as entry,
            nothing_left(postgres, entry["NAME"]),
            temporary_database(postgres, owner="restorer") as another,
        ):
            with postgres.connect() as admin:
                admin.execute("GRANT app, pg_signal_backend TO restorer")
            run(entry, *SOURCE, *RIGHTS, *KINDS)
            engine = engine_of(postgres.entry(entry["NAME"], user=user))
            dumped = take(engine, job_folder)
            said = [str(p.message) for p in engine.restore_preflight(dumped.manifest, switch=True)]
            notes = switch(engine, job_folder, dumped)
            with postgres.connect(entry["NAME"]) as admin:
                owners = admin.execute(OWNERS).fetchall()
                theirs = admin.execute(
                    "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [another["NAME"]]
                ).fetchone()

            assert () == notes
            assert [("app",)] == owners
            assert ("restorer",) == theirs
            assert any("handed over to it again" in text for text in said)
            assert can(entry, "SELECT id FROM item")

    def test_several_owners__all_is_ours_and_that_is_said(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """Nobody can say from the copy what was whose."""
        entry = live.database.settings
        run(entry, "CREATE TABLE clerks ()")
        with postgres.connect(entry["NAME"]) as admin:
            admin.execute("ALTER TABLE clerks OWNER TO reporting")
            admin.execute("GRANT SELECT ON clerks TO erp_owner")
        dumped = take(live, job_folder)
        notes = [p.message for p in live.restore_preflight(dumped.manifest, switch=True) if p.severity is Severity.NOTE]
        switch(live, job_folder, dumped)
        with connect(entry) as connection:
            owners = connection.execute(OWNERS).fetchall()

        assert [("erp_owner",)] == owners
        assert any("Tables belong to reporting" in note for note in notes)
