"""Comparing snapshots with copies: every difference is named, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from erp_backup.core.comparison import (
    MISSING,
    PRESENT,
    compare_extensions,
    compare_figures,
    compare_large_objects,
    compare_measurements,
    compare_migrations,
    compare_objects,
    compare_sequences,
    compare_tables,
    describe_value,
)
from erp_backup.core.figures import (
    Figures,
    Finding,
    Measurement,
    MeasurementKind,
    Outcome,
    SchemaObject,
    SequenceFigure,
    Severity,
    TableFigure,
    outcome_of,
)
from tests.support.samples import sample_figures, sample_measurements


def table(name: str = "item", **changes: Any) -> TableFigure:
    """A table of three rows."""
    figure = TableFigure(schema="public", name=name, columns=("id", "name"), rows=3, fingerprint="42")
    return replace(figure, **changes)


def sequence(**changes: Any) -> SequenceFigure:
    """A sequence that has given out 10, for a column that has 10."""
    figure = SequenceFigure(
        schema="public",
        name="item_id_seq",
        last_value=10,
        is_called=True,
        table="public.item",
        column="id",
        column_max=10,
    )
    return replace(figure, **changes)


def number(value: str, **changes: Any) -> Measurement:
    """A model check that measured a number."""
    return replace(Measurement(check="users", value=value, unit="users"), **changes)


def mapping(rows: dict[str, str] | None, **changes: Any) -> Measurement:
    """A model check that measured a figure per key."""
    total = sum(map(float, rows.values())) if rows else 0
    measured = Measurement(
        check="stock",
        kind=MeasurementKind.MAPPING,
        value=f"{total:.2f}",
        count=len(rows or ()),
        digest=f"digest of {sorted((rows or {}).items())}",
        rows=rows,
        labels={"1": "Bolt", "2": "Nut"},
    )
    return replace(measured, **changes)


def invariant(value: str, rows: dict[str, str] | None = None) -> Measurement:
    """A model check that looked for rows that break a rule."""
    return Measurement(
        check="ledger",
        kind=MeasurementKind.INVARIANT,
        value=value,
        digest=f"digest of {sorted((rows or {}).items())}",
        rows=rows,
    )


def only(findings: list[Finding]) -> Finding:
    """The one finding there is."""
    [finding] = findings
    return finding


class TestTables:
    """Rows and content."""

    def test_equal__nothing(self) -> None:
        """Equal tables in any order make no finding."""
        left = [table(), table("note")]

        assert [] == compare_tables(left, reversed(left))

    @pytest.mark.parametrize(("rows", "message"), [(1, "2 rows lost."), (1204, "1,201 rows too many.")])
    def test_other_number_of_rows__both_numbers(self, rows: int, message: str) -> None:
        """The finding has both numbers and says in which direction."""
        finding = only(compare_tables([table()], [table(rows=rows, fingerprint="1")]))

        assert ("table", "public.item", "3 rows", f"{rows:,} rows", message, Severity.FAILED) == (
            finding.kind,
            finding.subject,
            finding.expected,
            finding.found,
            finding.message,
            finding.severity,
        )

    def test_other_content__both_fingerprints(self) -> None:
        """As many rows with other content are found by their fingerprint."""
        finding = only(compare_tables([table()], [table(fingerprint="43")]))

        assert ("fingerprint 42", "fingerprint 43") == (finding.expected, finding.found)

    def test_other_columns__said_instead_of_fingerprints(self) -> None:
        """Fingerprints over other columns cannot be compared: the columns are the finding, their order included."""
        finding = only(compare_tables([table()], [table(columns=("name", "id"))]))

        assert ("id, name", "name, id") == (finding.expected, finding.found)

    def test_missing__finding(self) -> None:
        """A table that was not restored is one."""
        finding = only(compare_tables([table(), table("note")], [table()]))

        assert ("public.note", "3 rows", MISSING) == (finding.subject, finding.expected, finding.found)

    def test_added__finding(self) -> None:
        """A table that the snapshot did not have is one, too."""
        finding = only(compare_tables([table()], [table(), table("planted")]))

        assert ("public.planted", MISSING, "3 rows") == (finding.subject, finding.expected, finding.found)

    def test_same_name_in_another_schema__two_findings(self) -> None:
        """A table is its schema and its name."""
        findings = compare_tables([table()], [table(schema="archive")])

        assert ["public.item", "archive.item"] == [finding.subject for finding in findings]

    def test_engine_without_schemas__plain_names(self) -> None:
        """SQLite's tables are named without a dot."""
        assert "item" == only(compare_tables([table(schema="")], [])).subject

    def test_iterators__compared_as_lists(self) -> None:
        """What can be read only once is still compared in full."""
        assert 1 == len(compare_tables(iter([table()]), iter([table(fingerprint="1")])))


class TestLargeObjects:
    """All of them count as one table."""

    def test_none_on_both_sides__nothing(self) -> None:
        """Most databases have none."""
        assert [] == compare_large_objects(None, None)

    @pytest.mark.parametrize("lost", [True, False])
    def test_on_one_side__finding(self, lost: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """Lost ones and planted ones are found."""
        some = TableFigure(schema="", name="large objects", columns=(), rows=2, fingerprint="9")
        pair = (some, None) if lost else (None, some)

        assert "2 rows lost." if lost else "2 rows too many." == only(compare_large_objects(*pair)).message


class TestSequences:
    """At or beyond where the snapshot saw them, and beyond their column."""

    def test_equal__nothing(self) -> None:
        """The same is good."""
        assert [] == compare_sequences([sequence()], [sequence()])

    def test_further_on__nothing(self) -> None:
        """A sequence moves on while the dump is taken: that is no difference."""
        assert [] == compare_sequences([sequence()], [sequence(last_value=15)])

    def test_behind_its_column__collision(self) -> None:
        """The next value would be a row's that is there already."""
        finding = only(compare_sequences([sequence()], [sequence(last_value=9)]))

        assert (Severity.FAILED, "beyond 10", "at 9") == (finding.severity, finding.expected, finding.found)
        assert "public.item.id" in finding.message

    def test_not_called_yet_at_its_columns_maximum__collision(self) -> None:
        """A sequence that has not been called gives out the value it stands at."""
        assert "collide" in only(compare_sequences([sequence()], [sequence(is_called=False)])).message

    def test_behind_in_the_source_too__not_the_restores_fault(self) -> None:
        """What was already wrong is told apart from what the restore broke."""
        behind = sequence(last_value=4)

        assert Severity.SOURCE is only(compare_sequences([behind], [behind])).severity

    def test_further_behind_than_in_the_source__failed(self) -> None:
        """A restore that makes it worse is not excused by a source that was bad: numbers would be given out again."""
        findings = compare_sequences([sequence(last_value=4)], [sequence(last_value=2)])

        assert Severity.FAILED in {finding.severity for finding in findings}

    def test_before_the_snapshot__numbers_given_out_again(self) -> None:
        """Beyond the column, but before what was given out: invoice numbers would repeat."""
        finding = only(compare_sequences([sequence(last_value=20)], [sequence(last_value=15)]))

        assert ("at 20 or beyond", "at 15") == (finding.expected, finding.found)

    def test_not_called_where_the_snapshot_had_called__before(self) -> None:
        """At the same value, not called is one step behind."""
        unowned = {"column_max": None}
        finding = only(compare_sequences([sequence(**unowned)], [sequence(is_called=False, **unowned)]))

        assert "given out again" in finding.message

    @pytest.mark.parametrize(("last_value", "count"), [(-10, 0), (-11, 0), (-9, 1)])
    def test_descending__the_other_way_round(self, last_value: int, count: int) -> None:
        """A sequence that counts down is behind when it is above."""
        down = sequence(last_value=-10, increment=-1, column_max=-10)
        findings = compare_sequences([down], [replace(down, last_value=last_value)])

        assert count == len(findings)

    @pytest.mark.parametrize(("last_value", "count"), [(-5, 0), (-6, 0), (-4, 1)])
    def test_descending_without_a_column__never_back(self, last_value: int, count: int) -> None:
        """Nor may it give numbers out again."""
        down = sequence(last_value=-5, increment=-1, column_max=None)

        assert count == len(compare_sequences([down], [replace(down, last_value=last_value)]))

    @pytest.mark.parametrize(
        "change", [{"increment": 2}, {"table": "public.note"}, {"column": "number"}, {"column": ""}]
    )
    def test_other_step_or_column__finding(self, change: dict[str, Any]) -> None:
        """A sequence that feeds nothing any more, or something else, is not the one that was backed up."""
        finding = only(compare_sequences([sequence()], [sequence(**change)]))

        assert "in steps of 1 for public.item.id" == finding.expected

    def test_missing_and_added__findings(self) -> None:
        """Sequences are demanded by name, sorted for people."""
        findings = compare_sequences([sequence(name="b")], [sequence(name="a")])

        assert [("public.a", MISSING), ("public.b", "at 10")] == [(f.subject, f.expected) for f in findings]


class TestObjects:
    """Indexes, constraints, triggers, functions, views, types."""

    index = SchemaObject(kind="index", name="public.item_pkey", digest="aa")

    def test_missing_and_added__findings_of_their_kind(self) -> None:
        """Each is named with its kind."""
        trigger = SchemaObject(kind="trigger", name="planted", digest="bb")
        findings = compare_objects([self.index], [trigger], same_major=True)

        assert [("index", PRESENT, MISSING), ("trigger", MISSING, PRESENT)] == [
            (f.kind, f.expected, f.found) for f in findings
        ]

    def test_defined_otherwise__both_digests(self) -> None:
        """Another definition under the same name is found."""
        finding = only(compare_objects([self.index], [replace(self.index, digest="cc")], same_major=True))

        assert ("definition aa", "definition cc") == (finding.expected, finding.found)

    def test_defined_otherwise_on_another_major_version__nothing(self) -> None:
        """Another version spells definitions differently."""
        assert [] == compare_objects([self.index], [replace(self.index, digest="cc")], same_major=False)

    def test_missing_on_another_major_version__finding(self) -> None:
        """But everything must be there."""
        assert 1 == len(compare_objects([self.index], [], same_major=False))

    def test_same_name_of_another_kind__two_findings(self) -> None:
        """An index that came back as a view is both missing and added."""
        assert 2 == len(compare_objects([self.index], [replace(self.index, kind="view")], same_major=True))


class TestExtensions:
    """Demanded by name."""

    def test_missing__failed(self) -> None:
        """A missing extension is a failure."""
        assert (Severity.FAILED, "1.1", MISSING) == _facts(only(compare_extensions({"citext": "1.1"}, {})))

    def test_another_version__note(self) -> None:
        """The server installs its own version: worth knowing."""
        finding = only(compare_extensions({"citext": "1.1"}, {"citext": "1.6"}))

        assert (Severity.NOTE, "1.1", "1.6") == _facts(finding)

    def test_one_more__nothing(self) -> None:
        """A template may bring more."""
        assert [] == compare_extensions({}, {"pg_stat_statements": "1.9"})


def _facts(finding: Finding) -> tuple[Severity, str, str]:
    return finding.severity, finding.expected, finding.found


class TestMigrations:
    """As Django records them."""

    def test_missing_and_added__findings(self) -> None:
        """Both directions are differences."""
        findings = compare_migrations(("erp.0001", "erp.0002"), ("erp.0001", "erp.0003"))

        assert [("erp.0002", MISSING), ("erp.0003", "applied")] == [(f.subject, f.found) for f in findings]


class TestFigures:
    """All of a database at once."""

    def test_equal__nothing(self) -> None:
        """Figures equal themselves."""
        assert [] == compare_figures(sample_figures(), sample_figures())

    @pytest.mark.parametrize("kind", ["table", "sequence", "index", "extension", "migration"])
    def test_nothing_restored__every_kind_is_missed(self, kind: str) -> None:
        """An empty copy is missed in every respect."""
        assert kind in {finding.kind for finding in compare_figures(sample_figures(), Figures())}

    def test_definitions_of_another_major_version__said_and_names_compared(self) -> None:
        """That only names were compared is worth a note; a name that is missing still fails."""
        other = replace(sample_figures(), objects=(replace(sample_figures().objects[0], digest="other"),))
        findings = compare_figures(sample_figures(), other, same_major=False)

        assert [("schema", Severity.NOTE)] == [(finding.kind, finding.severity) for finding in findings]
        assert Severity.FAILED in {
            finding.severity
            for finding in compare_figures(sample_figures(), replace(other, objects=()), same_major=False)
        }

    @pytest.mark.parametrize("method", ["fingerprint", "definition"])
    def test_digested_otherwise__not_compared_and_never_a_pass(self, method: str) -> None:
        """Digests of two methods say nothing about each other: neither a difference nor a pass."""
        expected = sample_figures()
        found = replace(
            expected,
            methods={**expected.methods, method: "another way"},
            tables=tuple(replace(t, fingerprint="1") for t in expected.tables)
            if method == "fingerprint"
            else expected.tables,
            objects=tuple(replace(o, digest="1") for o in expected.objects)
            if method == "definition"
            else expected.objects,
        )
        finding = only(compare_figures(expected, found))

        assert (Severity.UNVERIFIED, expected.methods[method], "another way") == _facts(finding)

    def test_digested_otherwise__rows_still_compared(self) -> None:
        """The number of rows needs no method."""
        expected = sample_figures()
        fewer = tuple(replace(table, rows=table.rows + 1) for table in expected.tables)
        findings = compare_figures(expected, replace(expected, methods={}, tables=fewer))

        assert 2 == sum(finding.kind == "table" and finding.severity is Severity.FAILED for finding in findings)

    def test_schema_only__rows_do_not_matter_but_tables_do(self) -> None:
        """An archive of the schema has no rows to compare, and all tables."""
        expected = sample_figures()
        empty = replace(
            expected, tables=tuple(replace(t, rows=0, fingerprint="0") for t in expected.tables), migrations=()
        )

        assert [] == compare_figures(expected, empty, data=False)
        assert 1 == len(compare_figures(expected, replace(empty, tables=empty.tables[:1]), data=False))

    def test_data_only__definitions_do_not_matter(self) -> None:
        """An archive of rows builds no schema."""
        expected = sample_figures()

        assert [] == compare_figures(expected, replace(expected, objects=(), extensions={}), schema=False)


class TestNumbers:
    """Model checks that measure one figure."""

    def test_equal_as_decimals__nothing(self) -> None:
        """Trailing zeros do not differ."""
        assert [] == compare_measurements([number("1.50")], [number("1.5")])

    def test_other_figure__both(self) -> None:
        """The finding shows both as people read them."""
        finding = only(compare_measurements([number("1204")], [number("1203")]))

        assert ("users", "1,204 users", "1,203 users") == (finding.subject, finding.expected, finding.found)

    def test_large_figures__not_rounded(self) -> None:
        """Thirty digits differ in the last one."""
        figure = "123456789012345678901234567890"

        assert 1 == len(compare_measurements([number(figure)], [number(figure[:-1] + "1")]))

    @pytest.mark.parametrize(("found", "count"), [("2026-01-05", 0), ("2026-01-06", 1), ("", 1)])
    def test_no_decimal__compared_as_text(self, found: str, count: int) -> None:
        """A date is a figure as well."""
        assert count == len(compare_measurements([number("2026-01-05")], [number(found)]))

    def test_not_a_number__equals_nothing_by_accident(self) -> None:
        """NaN against a number is a difference."""
        assert 1 == len(compare_measurements([number("NaN")], [number("1")]))

    def test_not_a_number_in_both__nothing(self) -> None:
        """A sum over a NaN is one in the copy as well."""
        assert [] == compare_measurements([number("NaN")], [number("NaN")])


class TestMappings:
    """Model checks that measure a figure per key."""

    def test_swapped_balances_with_equal_total__two_findings(self) -> None:
        """Totals agree while two items are swapped: each key is its own finding, under its label."""
        findings = compare_measurements([mapping({"1": "10", "2": "20"})], [mapping({"1": "20", "2": "10"})])

        assert [("stock [Bolt]", "10", "20"), ("stock [Nut]", "20", "10")] == [
            (f.subject, f.expected, f.found) for f in findings
        ]

    def test_key_whose_value_reads_missing__is_missed_when_it_goes(self) -> None:
        """The word that stands for no value may be a value."""
        left, right = mapping(None), mapping(None)
        findings = compare_measurements([replace(left, rows={"1": "missing"})], [replace(right, rows={})])

        assert [Severity.FAILED] == [finding.severity for finding in findings]

    def test_missing_and_added_keys__findings(self) -> None:
        """A key on one side only is a difference, labelled or not."""
        findings = compare_measurements([mapping({"1": "10"})], [mapping({"3": "10"})])

        assert [("stock [Bolt]", MISSING), ("stock [3]", "10")] == [(f.subject, f.found) for f in findings]

    def test_too_large_to_keep__compared_by_digest(self) -> None:
        """Where the rows are not kept, count and digest speak for them."""
        left = mapping(None, digest="a", count=50_000, value="7")

        assert [] == compare_measurements([left], [left])
        assert (
            "The values differ, key by key." == only(compare_measurements([left], [replace(left, digest="b")])).message
        )

    def test_other_count__finding(self) -> None:
        """A digest that agrees does not excuse another number of keys."""
        left = mapping(None, digest="a", count=3)

        assert 1 == len(compare_measurements([left], [replace(left, count=4)]))

    @pytest.mark.parametrize("kept_by", ["snapshot", "copy"])
    def test_rows_on_one_side__compared_by_digest(self, kept_by: str) -> None:
        """Rows that only one side kept do not hide a difference."""
        rows, digest = mapping({"1": "10"}), mapping(None, digest="other", count=1)
        pair = (rows, digest) if kept_by == "snapshot" else (digest, rows)

        assert 1 == len(compare_measurements([pair[0]], [pair[1]]))

    def test_equal_rows_in_other_words__nothing(self) -> None:
        """Where the rows are there, decimals decide and not the digest of their text."""
        assert [] == compare_measurements([mapping({"1": "10.0"})], [mapping({"1": "10.00"})])


class TestInvariants:
    """Model checks that look for rows that break a rule."""

    def test_whole_in_both__nothing(self) -> None:
        """None is good."""
        assert [] == compare_measurements([invariant("0")], [invariant("0")])

    def test_broken_by_the_restore__failed_with_samples(self) -> None:
        """The finding shows what breaks the rule, three rows of it."""
        rows = {str(n): f"row {n}" for n in range(1, 5)}
        finding = only(compare_measurements([invariant("0")], [invariant("4", rows)]))

        assert (Severity.FAILED, "0 rows", "4 rows") == _facts(finding)
        assert "The restore broke it: 1: row 1; 2: row 2; 3: row 3" == finding.message

    def test_broken_in_both_alike__source(self) -> None:
        """What was already broken is not the restore's doing."""
        broken = invariant("2", {"1": "", "2": ""})

        assert Severity.SOURCE is only(compare_measurements([broken], [broken])).severity

    def test_broken_in_both_by_other_rows__failed(self) -> None:
        """As many broken rows that are others were broken by the restore."""
        finding = only(compare_measurements([invariant("1", {"1": ""})], [invariant("1", {"2": ""})]))

        assert Severity.FAILED is finding.severity

    def test_more_broken_than_in_the_source__failed(self) -> None:
        """So were more of them."""
        assert Severity.FAILED is only(compare_measurements([invariant("1")], [invariant("2")])).severity

    def test_whole_where_the_source_was_broken__failed(self) -> None:
        """A copy that is better than its source is not its source."""
        finding = only(compare_measurements([invariant("1", {"9": "x"})], [invariant("0")]))

        assert Severity.FAILED is finding.severity
        assert "9: x" in finding.message


class TestUnmeasured:
    """Model checks that one side could not measure, or does not know."""

    failed = number("", error="ValueError: no such thing")
    late = number("", error="It took too long.", timed_out=True)

    def test_error_on_the_copy__failed(self) -> None:
        """What ran in the source and raises on the copy has found something."""
        finding = only(compare_measurements([number("2")], [self.failed]))

        assert (Severity.FAILED, "2 users", "error") == _facts(finding)

    def test_out_of_time_on_the_copy__unverified(self) -> None:
        """A time limit proves nothing in either direction."""
        assert (Severity.UNVERIFIED, "2 users", "time limit") == _facts(
            only(compare_measurements([number("2")], [self.late]))
        )

    def test_error_in_both__unverified(self) -> None:
        """Nothing was compared, so nothing passed."""
        assert Severity.UNVERIFIED is only(compare_measurements([self.failed], [self.failed])).severity

    @pytest.mark.parametrize("before", [failed, late])
    def test_error_in_the_source__unverified(self, before: Measurement) -> None:
        """A figure of the copy alone proves nothing; the reason is told."""
        finding = only(compare_measurements([before], [number("2")]))

        assert Severity.UNVERIFIED is finding.severity
        assert before.error in finding.message

    def test_gone_from_the_code__unverified(self) -> None:
        """A model check that nobody has any more was not compared."""
        assert Severity.UNVERIFIED is only(compare_measurements([number("2")], [])).severity

    def test_newer_than_the_backup__note(self) -> None:
        """A model check that the manifest does not know is worth a note."""
        assert Severity.NOTE is only(compare_measurements([], [number("2")])).severity

    def test_newer_invariant_that_is_broken__unverified(self) -> None:
        """Whose fault a broken rule is cannot be told without the snapshot's figure."""
        findings = compare_measurements([], [invariant("3", {"1": ""})])

        assert [Severity.NOTE, Severity.UNVERIFIED] == [finding.severity for finding in findings]

    def test_newer_invariant_that_is_whole__note(self) -> None:
        """One that holds is only new."""
        assert [Severity.NOTE] == [finding.severity for finding in compare_measurements([], [invariant("0")])]

    def test_other_kind__unverified(self) -> None:
        """A model check that measures something else now compares nothing."""
        finding = only(compare_measurements([number("2", check="ledger")], [invariant("0")]))

        assert Severity.UNVERIFIED is finding.severity
        assert "number" in finding.message
        assert "invariant" in finding.message


class TestDescribedValues:
    """Figures as people read them."""

    @pytest.mark.parametrize(
        ("measurement", "text"),
        [
            (number("1204.50"), "1,204.50 users"),
            (number("1204", unit=""), "1,204"),
            (number("2026-01-05", unit=""), "2026-01-05"),
            (mapping({"1": "4120.5"}), "1 keys, total 4,120.50"),
            (invariant("1200"), "1,200 broken"),
            (number("", error="no"), "not measured"),
        ],
    )
    def test_value__thousands_apart_and_unit(self, measurement: Measurement, text: str) -> None:
        """Each kind has its own form."""
        assert text == describe_value(measurement)

    def test_samples__all_described(self) -> None:
        """No kind is without words."""
        assert all(describe_value(measurement) for measurement in sample_measurements())


class TestOutcome:
    """What findings add up to."""

    @pytest.mark.parametrize(
        ("severities", "outcome"),
        [
            ([], Outcome.PASSED),
            ([Severity.NOTE, Severity.SOURCE], Outcome.PASSED),
            ([Severity.NOTE, Severity.UNVERIFIED], Outcome.UNVERIFIED),
            ([Severity.UNVERIFIED, Severity.FAILED], Outcome.FAILED),
        ],
    )
    def test_severities__worst_decides(self, severities: list[Severity], outcome: Outcome) -> None:
        """One failure fails all; what could not be compared is never a pass."""
        findings = [Finding(kind="table", subject="x", severity=severity) for severity in severities]

        assert outcome is outcome_of(findings)
