"""Restoring into the live database in one transaction: all of it, or nothing."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from dataclasses import replace

import pytest

from erp_backup.core.comparison import compare_figures
from erp_backup.core.errors import BackupError, LockedError, ProgramError
from erp_backup.core.figures import Figures, Severity
from erp_backup.core.workspace import Folder
from erp_backup.engines.postgresql import PostgreSQL
from tests.contracts.engine import Dumped
from tests.support.pg_engine import connect, engine_of, eventually, job, run, take
from tests.support.postgres import Cluster, temporary_database

SOURCE = (
    'CREATE SCHEMA "odd; \'schema"',
    "CREATE EXTENSION pg_trgm",
    "CREATE TYPE mood AS ENUM ('fine', 'bad')",
    "CREATE DOMAIN short AS text CHECK (length(value) < 20)",
    "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n'",
    "CREATE TABLE item (id serial PRIMARY KEY, name short, feels mood, n int GENERATED ALWAYS AS IDENTITY)",
    "CREATE INDEX item_name ON item USING gin ((name::text) gin_trgm_ops)",
    'CREATE TABLE "odd; \'schema"."odd {"" $$ table" (item_id int REFERENCES item, at date) PARTITION BY RANGE (at)',
    'CREATE TABLE part PARTITION OF "odd; \'schema"."odd {"" $$ table" '
    "FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')",
    "CREATE VIEW names AS SELECT name, twice(id) AS two FROM item",
    "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
    "CREATE TYPE span AS RANGE (subtype = int)",
    "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM item",
    "INSERT INTO item (name, feels) SELECT 'n ' || g, 'fine' FROM generate_series(1, 200) g",
    'INSERT INTO "odd; \'schema"."odd {"" $$ table" SELECT id, \'2026-01-05\' FROM item',
    "SELECT lo_from_bytea(4711, 'large')",
    "GRANT SELECT ON item TO pg_monitor",
    "CREATE TABLE erp_backup_note (id serial PRIMARY KEY, text text)",
    "CREATE INDEX odd_name_of_ours ON erp_backup_note (text)",
    "INSERT INTO erp_backup_note (text) VALUES ('before')",
)
CHANGES = (
    "INSERT INTO erp_backup_note (text) VALUES ('after')",
    "DELETE FROM item WHERE id NOT IN (SELECT item_id FROM part) OR id = 0",
    "UPDATE item SET name = 'changed'",
    "CREATE TABLE newer (id int PRIMARY KEY, item_id int REFERENCES item)",
    "INSERT INTO newer VALUES (1, 1)",
    "CREATE SCHEMA newer_schema",
    "CREATE TABLE newer_schema.t (m mood)",
    "ALTER TABLE item ADD COLUMN more int",
    "SELECT lo_unlink(4711)",
    "SELECT lo_from_bytea(4712, 'newer')",
)
NOTES = "SELECT text FROM erp_backup_note ORDER BY id"


@pytest.fixture
def live(postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of a database with a bit of everything; its owner may create no database."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        run(entry, *SOURCE)
        yield engine_of(entry)


@pytest.fixture
def dumped(live: PostgreSQL, job_folder: Folder) -> Dumped:
    """A backup of it, after which it was changed."""
    dumped = take(live, job_folder)
    figures = replace(dumped.manifest.figures, methods=dict(live.methods))
    dumped = replace(dumped, manifest=replace(dumped.manifest, figures=figures))
    run(live.database.settings, *CHANGES)
    return dumped


def content(engine: PostgreSQL) -> object:
    """Everything that is measured of the live database, the history included."""
    figures = engine.in_place().figures(Figures())
    with connect(engine.database.settings) as connection:
        return figures, connection.execute(NOTES).fetchall()


def test_everything__is_as_in_the_archive_and_the_history_stays(
    live: PostgreSQL, dumped: Dumped, job_folder: Folder
) -> None:
    """Rows, definitions, sequences, large objects; what the archive does not have is gone, statements are in it."""
    notes = live.in_place().restore(
        dumped.path, dumped.manifest, job_folder, ["INSERT INTO erp_backup_note (text) VALUES ('restored')"]
    )
    found = replace(live.in_place().figures(dumped.manifest.figures), methods=dict(live.methods))
    differences = compare_figures(dumped.manifest.figures, found)
    with connect(live.database.settings) as connection:
        history = connection.execute(NOTES).fetchall()
        connection.execute("INSERT INTO item (name) VALUES ('next')")
        rights = connection.execute("SELECT has_table_privilege('pg_monitor', 'item', 'SELECT')").fetchone()

    assert () == notes
    assert (True,) == rights
    assert [("before",), ("after",), ("restored",)] == history
    assert {"public.erp_backup_note"} == {finding.subject for finding in differences}


def test_preflight__names_what_is_dropped(live: PostgreSQL, dumped: Dumped, postgres: Cluster) -> None:
    """Newer tables, with or without foreign keys; what belongs to others stands in the way."""
    notes = [p.message for p in live.in_place().preflight(dumped.manifest) if p.severity is Severity.NOTE]
    name = live.database.name
    with postgres.connect(name) as admin:
        admin.execute("CREATE TABLE theirs ()")
    failed = [p.message for p in live.in_place().preflight(dumped.manifest) if p.severity is Severity.FAILED]

    assert "Drops table public.newer, which the backup does not have." in notes
    assert "Drops table newer_schema.t, which the backup does not have." in notes
    assert not any("erp_backup_note" in note for note in notes)
    assert ["public.theirs belongs to 'postgres', and we may not drop it."] == failed


@pytest.mark.parametrize("fault", ["differs", "statement", "locked", "damaged"])
def test_any_failure__leaves_the_live_database_as_it_was(
    live: PostgreSQL, dumped: Dumped, job_folder: Folder, fault: str
) -> None:
    """Rows other than the manifest's, a statement that fails, a reader who does not go, half an archive."""
    before = content(live)
    manifest, statements = dumped.manifest, [""]
    with contextlib.ExitStack() as stack:
        if fault == "differs":
            tables = tuple(
                replace(table, fingerprint="1") if table.name == "item" else table for table in manifest.figures.tables
            )
            manifest = replace(manifest, figures=replace(manifest.figures, tables=tables))
        elif fault == "statement":
            statements = ["SELECT 1 / 0"]
        elif fault == "locked":
            reader = stack.enter_context(connect(live.database.settings))
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM item")
        else:
            whole = dumped.path.read_bytes()
            dumped.path.write_bytes(whole[: len(whole) * 9 // 10])
        with pytest.raises(BackupError) as raised:
            live.in_place().restore(dumped.path, manifest, job_folder, statements)

    assert isinstance(raised.value, LockedError if fault == "locked" else ProgramError)
    assert before == content(live)


def test_killed_in_the_middle__old_state(
    live: PostgreSQL, dumped: Dumped, job_folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Everything is dropped and loaded and waits for the commit when we are killed: nothing of it ever takes place."""
    before = content(live)
    program = f"""
        import pickle
        dumped = pickle.loads(bytes.fromhex("{pickle.dumps(dumped).hex()}"))
        engine.in_place().restore(dumped.path, dumped.manifest, folder, ["SELECT pg_sleep(2)"])
    """
    entry = live.database.settings
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(2)%' AND state = 'active'"
    anybody = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def count(query: str) -> int:
        with connect(entry) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    with job(entry, tmp_path_factory.mktemp("state"), program) as process:
        assert eventually(lambda: count(sleeping) == 1), process.stderr
        process.kill()
        assert eventually(lambda: count(anybody) == 0)

    assert before == content(live)
