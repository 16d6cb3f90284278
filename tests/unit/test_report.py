"""The report of a verification, as people read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from erp_backup.core.comparison import compare_figures, compare_measurements
from erp_backup.core.errors import LocationError
from erp_backup.core.figures import Finding, Measurement, Severity, TableFigure
from erp_backup.management.report import lines_of
from erp_backup.services.verification import VerificationResult
from tests.support.samples import sample_figures, sample_manifest, sample_measurements


def result_of(**changes: Any) -> VerificationResult:
    """A drill that passed."""
    passed = VerificationResult(
        name="erp1",
        level="models",
        reached="models",
        location="local",
        manifest=sample_manifest(measurements=sample_measurements()[:3]),
        figures=sample_figures(),
        measurements=sample_measurements()[:3],
        restore_milliseconds=63_000,
        total_milliseconds=125_000,
    )
    return replace(passed, **changes)


def report(result: VerificationResult, width: int = 120) -> str:
    """The report as one text."""
    return "\n".join(lines_of(result, width=width))


def line_with(text: str, beginning: str) -> str:
    """The first line that begins so."""
    return next(line for line in text.splitlines() if line.startswith(beginning))


class TestPassed:
    """All equal."""

    def test_verdict__first(self) -> None:
        """The first word is the verdict."""
        assert report(result_of()).startswith("PASSED  erp1\n")

    def test_facts__what_when_and_how_long(self) -> None:
        """State, archive, level and times are told."""
        said = report(result_of())

        assert "state of   2026-01-05 12:00:00 UTC, sqlite 3.40.1, /srv/erp/böhm's.db" in said
        assert "100 bytes (8.2 kB as dumped; zstd)" in said
        assert "level      models: restored, and every model check gives the figure it gave in the snapshot" in said
        assert "restored in 1 min 3 s, 2 min 5 s in all" in said

    def test_tables_and_model_checks__expected_beside_found(self) -> None:
        """Equal ones are marked, and summed up."""
        said = report(result_of())

        assert ["public.erp_item", "3", "3", "..78901".replace("78901", "45678901"), "..45678901", "="] == line_with(
            said, "public.erp_item"
        ).split()
        assert ["2", "tables", "3", "3", "="] == line_with(said, "2 tables").split()
        assert line_with(said, "users.active").split() == ["users.active", "2", "users", "2", "users", "="]

    def test_many_tables__equal_ones_summed_up(self) -> None:
        """A person reads forty rows, not four thousand."""
        tables = tuple(
            TableFigure(schema="", name=f"t{n}", columns=("id",), rows=n, fingerprint="1") for n in range(4000)
        )
        figures = replace(sample_figures(), tables=tables)
        said = report(result_of(manifest=sample_manifest(figures=figures, measurements=()), figures=figures))

        assert "(3960 more, equal)" in said
        assert len(said.splitlines()) < 70

    def test_shallow__says_what_it_proves_and_no_tables(self) -> None:
        """A look at the stored bytes does not look like a drill."""
        said = report(result_of(level="stored", reached="stored", figures=None, measurements=()))

        assert "level      stored: every copy reads back" in said
        assert "erp_item" not in said

    def test_schema_only__rows_not_called_different(self) -> None:
        """An archive without rows passes, and its tables are not said to differ."""
        empty = tuple(replace(table, rows=0, fingerprint="0") for table in sample_figures().tables)
        manifest = sample_manifest(kind="schema", measurements=())
        said = report(result_of(manifest=manifest, figures=replace(sample_figures(), tables=empty), measurements=()))

        assert "DIFFERS" not in said
        assert line_with(said, "public.erp_item").endswith("not compared")


class TestFailed:
    """Something is different."""

    @pytest.fixture
    def failed(self) -> VerificationResult:
        """A drill that found a table and a model check that differ."""
        found = replace(
            sample_figures(), tables=(replace(sample_figures().tables[0], rows=2), *sample_figures().tables[1:])
        )
        measured = (replace(sample_measurements()[0], value="1"), *sample_measurements()[1:3])
        findings = compare_figures(sample_figures(), found)
        findings += compare_measurements(sample_measurements()[:3], measured)
        return result_of(figures=found, measurements=measured, findings=tuple(findings))

    def test_tables_and_model_checks__marked(self, failed: VerificationResult) -> None:
        """What differs comes first and is marked; the rest is not."""
        said = report(failed)

        assert said.startswith("FAILED  erp1")
        assert line_with(said, "public.erp_item").endswith("DIFFERS")
        assert line_with(said, "public.erp_note").endswith("=")
        assert line_with(said, "2 tables").endswith("1 DIFFERS")
        assert line_with(said, "users.active").endswith("DIFFERS")
        assert line_with(said, "stock.balances").endswith("=")

    def test_findings__in_sentences(self, failed: VerificationResult) -> None:
        """Each finding names its subject and both figures."""
        said = " ".join(report(failed).split())

        assert "DIFFERS: table public.erp_item: expected 3 rows, found 2 rows. 1 rows lost." in said
        assert "DIFFERS: model check users.active: expected 2 users, found 1 users. The figure differs." in said

    def test_table_missing__said_in_its_row(self) -> None:
        """A table that was not restored has no figures."""
        found = replace(sample_figures(), tables=sample_figures().tables[1:])
        findings = tuple(compare_figures(sample_figures(), found))
        said = report(result_of(figures=found, findings=findings))

        assert line_with(said, "public.erp_item").split()[2:] == ["missing", "..45678901", "missing", "DIFFERS"]


class TestUnverified:
    """Something could not be compared."""

    def test_error__told_with_its_class_and_remedy(self) -> None:
        """What was asked for and not reached is said, with the reason."""
        error = LocationError("The location 'away' failed.", remedy="Look at it.")
        said = report(result_of(reached="", figures=None, measurements=(), error=error))

        assert said.startswith("COULD NOT VERIFY  erp1")
        assert "asked for  models: not reached" in said
        assert "LocationError: The location 'away' failed. Look at it." in said

    def test_digested_otherwise__not_called_different(self) -> None:
        """Digests of another method are not compared: the table does not say that it differs."""
        other = replace(
            sample_figures(),
            methods={},
            tables=tuple(replace(table, fingerprint="5") for table in sample_figures().tables),
        )
        findings = tuple(compare_figures(sample_figures(), other))
        said = report(result_of(figures=other, findings=findings))

        assert said.startswith("COULD NOT VERIFY")
        assert line_with(said, "public.erp_item").endswith("not compared")

    def test_model_check_that_was_not_measured__said(self) -> None:
        """One that the code no longer has."""
        findings = tuple(compare_measurements(sample_measurements()[:3], sample_measurements()[:2]))
        said = report(result_of(measurements=sample_measurements()[:2], findings=findings))

        assert line_with(said, "ledger.balanced").split()[1:] == ["0", "broken", "not", "measured", "not", "compared"]

    def test_no_manifest__name_and_error(self) -> None:
        """A manifest that cannot be read leaves the name and the reason."""
        said = report(VerificationResult(name="erp1", level="models", error=LocationError("Away.")))

        assert ["COULD NOT VERIFY  erp1", "", "LocationError: Away."] == said.splitlines()


class TestNotes:
    """Worth knowing."""

    def test_note__at_the_end_and_no_problem(self) -> None:
        """A note is no finding that anybody must act on."""
        note = Finding(kind="extension", subject="citext", message="Another version.", severity=Severity.NOTE)
        said = report(result_of(findings=(note,)))

        assert said.startswith("PASSED")
        assert said.endswith("Note: extension citext: Another version.")

    def test_wrong_in_the_source_too__passed_and_marked(self) -> None:
        """What the source had already is told apart from what the restore did."""
        broken = (*sample_measurements()[:2], replace(sample_measurements()[2], value="2", rows={"5": "x"}))
        findings = tuple(compare_measurements(broken, broken))
        said = report(result_of(manifest=sample_manifest(measurements=broken), measurements=broken, findings=findings))

        assert said.startswith("PASSED")
        assert line_with(said, "ledger.balanced").endswith("also in the source")

    def test_kept__how_to_look(self) -> None:
        """A copy that was kept comes with the command to look at it."""
        assert report(result_of(kept="psql scratch")).endswith("Look into it: psql scratch")


class TestForm:
    """Any terminal, any name."""

    @pytest.mark.parametrize("width", [60, 80, 99, 100, 200])
    def test_any_width__tables_fit(self, width: int) -> None:
        """Tables are no wider than the terminal."""
        said = report(result_of(), width).splitlines()
        start = next(number for number, line in enumerate(said) if line.startswith("Table"))

        assert max(len(line) for line in said[start:]) <= width

    def test_control_characters_in_any_name__harmless(self) -> None:
        """A table that is called like a command to the terminal is shown, and obeyed by nobody."""
        evil = "\x1b[2J\nPASSED"
        figures = replace(sample_figures(), tables=(replace(sample_figures().tables[0], name=evil),))
        measurement = Measurement(check=evil, value="1")
        finding = Finding(kind="table", subject=evil, message=evil)
        result = result_of(
            name=evil,
            manifest=sample_manifest(figures=figures, measurements=(measurement,), host=evil),
            figures=figures,
            measurements=(measurement,),
            findings=(finding,),
            error=LocationError(evil),
        )

        assert all(line.isprintable() for line in lines_of(result, width=120))
