"""Whatever can stand in a database comes back from a dump with equal figures and equal definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.figures import Figures
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import PostgreSQL, catalog, definitions
from tests.support.pg_engine import connect, drill, engine_of, round_trip, run, scratch_databases, take
from tests.support.postgres import Cluster, temporary_database

ZOO = Path(__file__).parents[1] / "support" / "zoo.sql"
ODD_NAME = "sme erp's?db"

# What only a superuser may make: it runs as one, so that all of it comes back, too.
FOR_SUPERUSERS = r"""
CREATE TYPE raw_text;
CREATE FUNCTION raw_in(cstring) RETURNS raw_text LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION raw_out(raw_text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE raw_text (INPUT = raw_in, OUTPUT = raw_out, LIKE = text);
CREATE TABLE raws (a raw_text, b raw_text[]);
INSERT INTO raws VALUES ('x y', ARRAY['a,b'::raw_text, NULL]);
CREATE FUNCTION backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $2 - $1';
CREATE OPERATOR CLASS backwards_ops FOR TYPE int USING btree AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backwards(int, int);
CREATE TABLE ordered (a int);
INSERT INTO ordered SELECT generate_series(1, 50);
CREATE INDEX ordered_backwards ON ordered (a backwards_ops);
CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER noted ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION note_ddl();
CREATE FOREIGN DATA WRAPPER nothing OPTIONS (debug 'true');
CREATE SERVER elsewhere TYPE 'x' FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far_away (a int OPTIONS (x 'y'), b text) SERVER elsewhere OPTIONS (name 'there');
CREATE TABLE mixed (a int) PARTITION BY RANGE (a);
CREATE TABLE mixed_near PARTITION OF mixed FOR VALUES FROM (0) TO (10);
CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES FROM (10) TO (20) SERVER elsewhere;
INSERT INTO mixed VALUES (5);
CREATE PUBLICATION all_of_it FOR ALL TABLES;
CREATE SUBSCRIPTION nowhere CONNECTION 'host=nowhere.invalid' PUBLICATION x WITH (connect = false);
CREATE FUNCTION grow() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1';
CREATE EXTENSION amcheck;
DROP SCHEMA public_to_drop;
"""


@pytest.fixture(scope="module")
def zoo(postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of an oddly named database with one of everything, owned by an ordinary role."""
    postgres.start()
    entry = postgres.create_database(ODD_NAME, owner="erp_owner")
    try:
        run(entry, *ZOO.read_text().split("\n\n"))
        yield engine_of(entry)
    finally:
        postgres.drop_database(ODD_NAME)


@pytest.mark.parametrize("format_name", ["custom", "plain"])
def test_one_of_everything__comes_back(zoo: PostgreSQL, job_folder: Folder, format_name: str) -> None:
    """Types, names, partitions, inheritance, constraints, code, views, policies: all equal, without an error."""
    dumped = take(zoo, job_folder, DumpRequest(format=format_name))
    report, findings = drill(zoo, job_folder, dumped)

    assert [] == findings
    assert () == report.errors
    assert {"public.kinds": 3, 'odd schema\'s "name".t%s{0}[1]*?': 2, "public.no_columns": 2}.items() <= rows_of(
        dumped.manifest.figures
    ).items()
    assert dumped.manifest.figures.large_objects is not None
    assert 3 == dumped.manifest.figures.large_objects.rows
    assert KINDS <= {item.kind for item in dumped.manifest.figures.objects}


# Every kind of object that the zoo holds: a query that finds nothing would compare equal, too.
KINDS = {
    "cast",
    "collation",
    "column",
    "comment",
    "constraint",
    "function",
    "index",
    "materialized view",
    "operator",
    "partitioned table",
    "policy",
    "publication",
    "rule",
    "schema",
    "sequence",
    "statistics",
    "table",
    "text search configuration",
    "text search dictionary",
    "trigger",
    "type",
    "view",
}


def rows_of(figures: Figures) -> dict[str, int]:
    """Return the rows of each table."""
    return {table.label: table.rows for table in figures.tables}


def test_schema_of_everything__comes_back_without_rows(zoo: PostgreSQL, job_folder: Folder) -> None:
    """A schema archive holds all definitions; its figures say that it holds no row."""
    dumped = take(zoo, job_folder, DumpRequest(kind="schema"))

    report, findings = drill(zoo, job_folder, dumped)

    assert ([], ()) == (findings, report.errors)
    assert {0} == set(rows_of(dumped.manifest.figures).values())
    assert dumped.manifest.figures.large_objects is None
    assert "all rows" in dumped.manifest.not_included


@pytest.mark.parametrize("format_name", ["custom", "plain"])
def test_what_only_superusers_make__comes_back(postgres: Cluster, job_folder: Folder, format_name: str) -> None:
    """Base types, operator classes, event triggers, foreign tables and extensions of a superuser are equal."""
    postgres.start()
    with temporary_database(postgres, owner=postgres.superuser) as entry:
        run(entry, "DROP SCHEMA public", "CREATE SCHEMA public_to_drop", "CREATE SCHEMA public")
        run(entry, FOR_SUPERUSERS)
        engine = engine_of(entry)
        dumped = take(engine, job_folder, DumpRequest(format=format_name))
        integrity: list[str] = []
        report, findings = drill(
            engine, job_folder, dumped, lambda scratch: integrity.extend(scratch.integrity_errors())
        )
        run(entry, "ALTER SUBSCRIPTION nowhere SET (slot_name = NONE)", "DROP SUBSCRIPTION nowhere")
        left = scratch_databases(entry)

    assert set() == left
    assert ([], (), []) == (findings, report.errors, integrity)
    assert {"event trigger", "operator class", "foreign server", "foreign table"} <= {
        item.kind for item in dumped.manifest.figures.objects
    }
    assert {"rows of foreign table public.far_away", "rows of foreign table public.mixed_far"} <= set(
        dumped.manifest.not_included
    )
    assert "subscription nowhere" in dumped.manifest.not_included
    assert "amcheck" in dumped.manifest.figures.extensions


def test_damaged_index__is_found_by_amcheck(postgres: Cluster, job_folder: Folder) -> None:
    """An index whose order is not that of its operators is an integrity error that names it."""
    postgres.start()
    with temporary_database(postgres, owner=postgres.superuser) as entry:
        run(entry, FOR_SUPERUSERS.split("CREATE FUNCTION note_ddl", maxsplit=1)[0], "CREATE EXTENSION amcheck")
        engine = engine_of(entry)
        found: list[str] = []

        def damage(scratch: Any) -> None:
            run(
                scratch.settings,
                "CREATE OR REPLACE FUNCTION backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2'",
            )
            found.extend(scratch.integrity_errors())

        drill(engine, job_folder, take(engine, job_folder), damage)

    assert 1 == len(found)
    assert "index public.ordered_backwards: item order invariant violated" in found[0]


def test_dropped_public_schema__is_no_finding(pg_engine: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
    """Every database is born with a schema `public`; a copy that has it empty lacks and adds nothing."""
    with postgres.connect(pg_engine.database.name) as admin:
        admin.execute("DROP SCHEMA public; CREATE SCHEMA own AUTHORIZATION erp_owner")
    run(pg_engine.database.settings, "CREATE TABLE own.item (a int)", "INSERT INTO own.item VALUES (1)")

    assert [] == round_trip(pg_engine, job_folder)


def test_empty_database__comes_back(pg_engine: PostgreSQL, job_folder: Folder) -> None:
    """A database without a single table is dumped and drilled like any other."""
    assert [] == round_trip(pg_engine, job_folder)


def test_trigger_of_a_partitioned_table__does_not_fire_in_a_parallel_load(
    pg_engine: PostgreSQL, job_folder: Folder
) -> None:
    """pg_restore -j makes such triggers before it loads the partitions, which would write an audit trail twice."""
    run(
        pg_engine.database.settings,
        "CREATE TABLE audit (a int)",
        "CREATE TABLE entry (a int) PARTITION BY RANGE (a)",
        *(f"CREATE TABLE entry_{n} PARTITION OF entry FOR VALUES FROM ({n}000) TO ({n + 1}000)" for n in range(6)),
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.audit VALUES (NEW.a); RETURN NEW; END'",
        "CREATE TRIGGER audited AFTER INSERT ON entry FOR EACH ROW EXECUTE FUNCTION note()",
        "INSERT INTO entry SELECT generate_series(0, 5999)",
    )

    assert 2 == pg_engine.tools.jobs
    assert [] == round_trip(pg_engine, job_folder)


def test_rows_of_an_extension__are_measured_where_it_wants_them_dumped(
    pg_database: dict[str, Any], postgres: Cluster, job_folder: Folder
) -> None:
    """Of an extension's own tables only the rows count that pg_dump takes along; other tables of it do not."""
    with postgres.connect(pg_database["NAME"]) as admin:
        admin.execute(
            """CREATE EXTENSION hstore;
               CREATE TABLE codes (a int, is_own boolean); CREATE TABLE fixed (a int);
               INSERT INTO codes VALUES (1, false), (2, true), (3, true); INSERT INTO fixed VALUES (1);
               ALTER EXTENSION hstore ADD TABLE codes; ALTER EXTENSION hstore ADD TABLE fixed;
               GRANT SELECT ON codes TO erp_owner;
               UPDATE pg_extension SET extconfig = ARRAY['codes'::regclass::oid], extcondition = ARRAY['WHERE is_own']
               WHERE extname = 'hstore'"""
        )
    with engine_of(pg_database).snapshot(DumpRequest(), job_folder) as snapshot:
        figures = snapshot.figures()

    assert {"public.codes": 2} == rows_of(figures)


class TestDigest:
    """How definitions are compared: words count, and what stands in quotes to the letter."""

    def test_round_trip_of_an_in_list__digests_alike(self) -> None:
        """The server moves the casts of an IN list and the brackets of a BETWEEN when it reads its own text back."""
        before = (
            "CHECK (((status)::text = ANY ((ARRAY['A  b'::character varying, 'C''s'::character varying])::text[])))"
        )
        after = (
            "CHECK (((status)::text = ANY (ARRAY[('A  b'::character varying)::text,"
            " ('C''s'::character varying)::text])))"
        )

        assert definitions.digest(before) == definitions.digest(after)
        assert definitions.digest("(((a >= 1) AND (a <= 5)) AND b)") == definitions.digest(
            "((a >= 1) AND (a <= 5) AND b)"
        )

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("a = 'b c'::text", "a = 'bc'::text"),
            ("a = '(b)'::text", "a = 'b'::text"),
            ("a = 'b'", "a = b"),
            ('"a b"', '"ab"'),
            ("a b", "ab"),
            ("a = 'x::text'", "a = 'x'"),
            ("a - 1", "a + 1"),
            ("'it''s'::text || b", "'its'::text || b"),
        ],
    )
    def test_other_words__digest_differently(self, one: str, other: str) -> None:
        """A blank between quotes, a sign, a quoted name: each is another definition."""
        assert definitions.digest(one) != definitions.digest(other)


def test_tables__are_listed_with_all_their_ancestors(zoo: PostgreSQL) -> None:
    """A leaf knows every partitioned table above it, each with its own schema; those have no rows of their own."""
    with connect(zoo.database.settings) as connection:
        found = {table.name: table for table in catalog.relations(connection)}

    assert {("public", "sales"), ("public", "sales_north")} == set(found["sales North new"].ancestors)
    assert ("at", "amount", "region", "id", "note") == found["sales North new"].columns
    assert found["sales_north"].is_partitioned
    assert () == found["no_columns"].columns
