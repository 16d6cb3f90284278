"""What goes into an archive: kinds, formats, excluded tables, schemas; and how the archive says what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from erp_backup.core.errors import RefusedError
from erp_backup.core.figures import Severity
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import PostgreSQL
from tests.support.pg_engine import drill, engine_of, run, take
from tests.support.postgres import Cluster, temporary_database

SCHEMA = """
CREATE SCHEMA sales; CREATE SCHEMA "Odd.schema"; CREATE SCHEMA logs;
CREATE TABLE item (id serial PRIMARY KEY, word text);
CREATE TABLE session (id serial PRIMARY KEY, word text);
CREATE TABLE sales.session (id serial PRIMARY KEY, word text);
CREATE TABLE "Odd.schema"."odd[1].table?" (id serial PRIMARY KEY, word text);
CREATE TABLE "Odd.schema".odd1 (id serial PRIMARY KEY, word text);
CREATE TABLE event (id int, word text) PARTITION BY LIST (id);
CREATE TABLE event_middle PARTITION OF event FOR VALUES IN (1, 2) PARTITION BY LIST (id);
CREATE TABLE logs.leaf_1 PARTITION OF event_middle FOR VALUES IN (1);
CREATE TABLE logs.leaf_2 PARTITION OF event_middle FOR VALUES IN (2);
CREATE TABLE logs.leaf_3 PARTITION OF event FOR VALUES IN (3);
INSERT INTO item (word) VALUES ('row-of-item');
INSERT INTO session (word) VALUES ('row-of-session');
INSERT INTO sales.session (word) VALUES ('row-of-sales');
INSERT INTO "Odd.schema"."odd[1].table?" (word) VALUES ('row-of-odd');
INSERT INTO "Odd.schema".odd1 (word) VALUES ('row-of-plain');
INSERT INTO event VALUES (1, 'row-of-leaf1'), (2, 'row-of-leaf2'), (3, 'row-of-leaf3');
SELECT lo_from_bytea(4711, 'large');
CREATE EXTENSION hstore;
"""
WORDS = {"item", "session", "sales", "odd", "plain", "leaf1", "leaf2", "leaf3"}


@pytest.fixture(scope="module")
def engine(postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of a database with tables in several schemas, one row in each, which says where it is from."""
    postgres.start()
    with temporary_database(postgres, owner="erp_owner") as entry:
        run(entry, SCHEMA)
        yield engine_of(entry)


def words_in(content: bytes) -> set[str]:
    """Return which tables' rows stand in a dump."""
    return {word for word in WORDS if f"row-of-{word}".encode() in content}


class TestExcludedTables:
    """Rows of excluded tables stay out, whatever is in their names."""

    @pytest.mark.parametrize(
        ("patterns", "missing"),
        [
            (("session",), {"session", "sales"}),
            (("public.session",), {"session"}),
            (("sales.*",), {"sales"}),
            (("*.session", "item"), {"session", "sales", "item"}),
            (("odd[1].table?",), {"odd"}),
            (("Odd.schema.odd?",), {"plain"}),
            (("event",), {"leaf1", "leaf2", "leaf3"}),
            (("public.event_middle",), {"leaf1", "leaf2"}),
            (("logs.leaf_2",), {"leaf2"}),
        ],
    )
    def test_pattern__keeps_exactly_these_rows_out(
        self, engine: PostgreSQL, job_folder: Folder, patterns: tuple[str, ...], missing: set[str]
    ) -> None:
        """By name in any schema, by schema and name, by wildcard, and through a partitioned table at any height."""
        request = DumpRequest(excluded_tables=patterns)
        dumped = take(engine, job_folder, request)
        problems = engine.preflight(request)

        empty = {table.label for table in dumped.manifest.figures.tables if table.rows == 0}
        assert WORDS - missing == words_in(dumped.path.read_bytes())
        assert len(missing) == len(empty)
        assert {f"rows of {label}" for label in empty} <= set(dumped.manifest.not_included)
        assert [] == problems

    @pytest.mark.parametrize("format_name", ["custom", "plain"])
    def test_archive_without_them__restores_to_equal_figures(
        self, engine: PostgreSQL, job_folder: Folder, format_name: str
    ) -> None:
        """A copy has these tables, empty, and that is what the figures say."""
        request = DumpRequest(format=format_name, excluded_tables=("session", "event", "odd[[]1*"))
        dumped = take(engine, job_folder, request)

        report, findings = drill(engine, job_folder, dumped)

        assert ([], ()) == (findings, report.errors)

    def test_pattern_without_a_table__is_noted(self, engine: PostgreSQL) -> None:
        """A misspelt exclusion would silently make archives larger, so preflight says it; it stops nothing."""
        problems = engine.preflight(DumpRequest(excluded_tables=("item", "sessoin", "Item")))

        assert [Severity.NOTE, Severity.NOTE] == [problem.severity for problem in problems]
        assert "'sessoin'" in problems[0].message


class TestSchemas:
    """An archive of some schemas only."""

    @pytest.mark.parametrize("format_name", ["custom", "plain"])
    def test_named_schemas__are_all_that_is_in_it(
        self, engine: PostgreSQL, job_folder: Folder, format_name: str
    ) -> None:
        """Rows, definitions and figures are those of the schemas named; a copy has no more."""
        dumped = take(engine, job_folder, DumpRequest(format=format_name, schemas=("Odd.schema", "sales")))

        report, findings = drill(engine, job_folder, dumped)

        assert {"odd", "plain", "sales"} == words_in(dumped.path.read_bytes())
        assert ([], ()) == (findings, report.errors)
        assert 3 == len(dumped.manifest.figures.tables)
        assert "everything outside the schemas Odd.schema, sales" in dumped.manifest.not_included
        assert ({}, None) == (dumped.manifest.figures.extensions, dumped.manifest.figures.large_objects)

    def test_public_schema_alone__restores(self, engine: PostgreSQL, job_folder: Folder) -> None:
        """The schema that every database is born with can be asked for like any other."""
        dumped = take(engine, job_folder, DumpRequest(schemas=("public",)))

        report, findings = drill(engine, job_folder, dumped)

        assert {"item", "session"} == words_in(dumped.path.read_bytes())
        assert ([], ()) == (findings, report.errors)

    def test_unknown_schema__is_refused_before_the_dump(self, engine: PostgreSQL) -> None:
        """pg_dump would end with an error; preflight says it in words."""
        problems = engine.preflight(DumpRequest(schemas=("sales", "Sales")))

        assert [("No schema is called 'Sales'.", Severity.FAILED)] == [(p.message, p.severity) for p in problems]


class TestKinds:
    """Definitions and rows, or one of the two."""

    @pytest.mark.parametrize("format_name", ["custom", "plain"])
    @pytest.mark.parametrize(
        "expected",
        [
            ("full", WORDS, True, set()),
            ("schema", set(), True, {"all rows"}),
            ("data", WORDS, False, {"the schema: tables, indexes, constraints and all other definitions"}),
        ],
    )
    def test_kind__holds_what_it_says(
        self,
        engine: PostgreSQL,
        job_folder: Folder,
        format_name: str,
        expected: tuple[str, set[str], bool, set[str]],
    ) -> None:
        """A schema archive has no row, a data archive no definition, and each says what it lacks."""
        kind, words, has_tables, lacks = expected
        dumped = take(engine, job_folder, DumpRequest(kind=kind, format=format_name))
        content = dumped.path.read_bytes()

        texts = {"all rows", "the schema: tables, indexes, constraints and all other definitions"}
        assert words == words_in(content)
        assert has_tables == (b"CREATE TABLE public.item" in content)
        assert lacks == texts & set(dumped.manifest.not_included)
        assert (None if kind == "schema" else 1) == _large_objects(dumped.manifest.figures)

    def test_data_alone__cannot_be_drilled_and_says_so(self, engine: PostgreSQL, job_folder: Folder) -> None:
        """There is nothing to restore rows into; that is refused, never passed."""
        dumped = take(engine, job_folder, DumpRequest(kind="data"))

        with pytest.raises(RefusedError, match="rows alone"):
            drill(engine, job_folder, dumped)


def _large_objects(figures: Any) -> int | None:
    return figures.large_objects and figures.large_objects.rows
