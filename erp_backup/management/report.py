"""The report of a verification for people: expected beside found, whatever is wrong first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import timedelta

from erp_backup.core.comparison import describe_value
from erp_backup.core.figures import Finding, Outcome, Severity, TableFigure
from erp_backup.core.manifest import Manifest
from erp_backup.core.units import format_count, format_duration, format_size
from erp_backup.management.tables import plain, render
from erp_backup.services.verification import LEVELS, VerificationResult

_VERDICTS = {
    Outcome.PASSED: "PASSED",
    Outcome.FAILED: "FAILED",
    Outcome.UNVERIFIED: "COULD NOT VERIFY",
}
_PROVES = {
    "stored": "every copy reads back as it was written, signed by us",
    "readable": "it decrypts and decompresses to the end, and its contents can be listed",
    "restored": "restored beside the live database: every table, sequence and definition is equal",
    "models": "restored, and every model check gives the figure it gave in the snapshot",
    "application": "restored, equal, and the ERP answers its health page on it",
}
_SHOWS = {
    "stored": "every copy reads back as it was imported",
    "readable": "it decrypts and decompresses to the end, and is whole as far as it tells",
    "restored": "restored beside the live database",
    "models": "restored, and the model checks were asked",
    "application": "restored, and the ERP answers its health page on it",
}
_MOST_TABLES = 40  # rows of the report; equal ones beyond are summed up in one line


def lines_of(result: VerificationResult, *, width: int) -> Iterator[str]:
    """Yield the lines of the report, none wider than ``width`` where that is possible."""
    return map(plain, _lines_of(result, width))


def _lines_of(result: VerificationResult, width: int) -> Iterator[str]:
    yield f"{_VERDICTS[result.outcome]}  {result.name}"
    manifest = result.manifest
    if manifest is not None:
        yield from _facts(result, manifest)
    if manifest is not None and _has_reached(result, "restored"):
        yield ""
        yield from _comparison(result, manifest, width)
    problems = [finding for finding in result.findings if finding.severity is not Severity.NOTE]
    if problems:
        yield ""
        yield from _problems(problems, width)
    for finding in result.findings:
        if finding.severity is Severity.NOTE:
            yield f"Note: {finding.kind} {finding.subject}: {finding.message}"
    if result.error is not None:
        yield ""
        yield f"{type(result.error).__name__}: {result.error}"
    if result.kept:
        yield f"The restored copy was kept. Look into it: {result.kept}"


def _has_reached(result: VerificationResult, level: str) -> bool:
    return result.reached in LEVELS and LEVELS.index(result.reached) >= LEVELS.index(level)


def _facts(result: VerificationResult, manifest: Manifest) -> Iterator[str]:
    database = manifest.database
    taken_at = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  state of   {taken_at}, {database.engine} {database.version}, {database.name}"
    codecs = " > ".join(manifest.archive.codecs) or "neither compressed nor encrypted"
    yield (
        f"  archive    {manifest.archive.name}, {format_size(manifest.archive.size)} "
        f"({format_size(manifest.archive.uncompressed_size)} as dumped; {codecs})"
    )
    if manifest.origin is not None:
        yield f"  imported   {manifest.origin.name}: it has no figures, nothing can be compared with its source"
    if result.reached:
        proves = _SHOWS if manifest.is_foreign else _PROVES
        yield f"  level      {result.reached}: {proves[result.reached]}"
    if result.reached != result.level:
        yield f"  asked for  {result.level}: not reached"
    times = [f"{format_duration(timedelta(milliseconds=result.total_milliseconds))} in all"]
    if result.restore_milliseconds is not None and _has_reached(result, "restored"):
        times.insert(0, f"restored in {format_duration(timedelta(milliseconds=result.restore_milliseconds))}")
    yield f"  time       {', '.join(times)}"


def _comparison(result: VerificationResult, manifest: Manifest, width: int) -> Iterator[str]:
    """Yield the tables and model checks, expected beside found; a narrow terminal gets no digits of fingerprints."""
    if manifest.is_foreign:
        yield from _found(result, width)
        return
    rows = list(_table_rows(result, manifest))
    headings: Sequence[str] = ("Table", "Rows expected", "Rows found", "Fingerprint expected", "Fingerprint found", "")
    if width < _WIDE:
        rows = [(*row[:3], row[-1]) for row in rows]
        headings = (*headings[:3], "Content")
    yield from render(headings, rows, right=frozenset({1, 2}), width=width)
    if result.measurements:
        yield ""
        checks = list(_check_rows(result, manifest))
        yield from render(("Model check", "Expected", "Found", ""), checks, width=width)


def _found(result: VerificationResult, width: int) -> Iterator[str]:
    """Yield what is in an archive that has no figures to compare with, for a person to judge."""
    tables = sorted(result.figures.tables if result.figures else (), key=lambda table: (-table.rows, table.label))
    rows = [(table.label, format_count(table.rows)) for table in tables[:_MOST_TABLES]]
    more = tables[_MOST_TABLES:]
    if more:
        rows.append((f"({len(more)} more)", format_count(sum(table.rows for table in more))))
    rows.append((f"{len(tables)} tables", format_count(sum(table.rows for table in tables))))
    yield from render(("Table", "Rows found"), rows, right=frozenset({1}), width=width)
    if result.measurements:
        yield ""
        checks = [(measured.check, describe_value(measured)) for measured in result.measurements]
        yield from render(("Model check", "Found"), checks, width=width)


def _table_rows(result: VerificationResult, manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Yield a row a table: every one that differs, and as many equal ones as a person reads; the sum at the end."""
    expected = manifest.figures.tables
    found = {table.label: table for table in result.figures.tables} if result.figures else {}
    different = [table for table in expected if found.get(table.label) != table]
    equal = sorted((table for table in expected if found.get(table.label) == table), key=lambda table: -table.rows)
    shown = [*different, *equal[: max(0, _MOST_TABLES - len(different))]]
    wrong = {finding.subject for finding in result.findings if finding.kind == "table" and _is_failure(finding)}
    for table in shown:
        yield _table_row(table, found.get(table.label), is_wrong=table.label in wrong)
    if len(equal) > len(shown) - len(different):
        yield f"({len(equal) - len(shown) + len(different)} more, equal)", "", "", "", "", SAME
    rows = sum(table.rows for table in expected)
    found_rows = sum(table.rows for table in found.values())
    yield (
        f"{len(expected)} tables",
        format_count(rows),
        format_count(found_rows),
        "",
        "",
        f"{len(wrong)} {DIFFERENT}" if wrong else NOT_COMPARED if different else SAME,
    )


def _is_failure(finding: Finding) -> bool:
    return finding.severity is Severity.FAILED


def _table_row(expected: TableFigure, found: TableFigure | None, *, is_wrong: bool) -> tuple[str, ...]:
    """What differs and is no failure was not compared: rows where only the schema was saved, digests of other kinds."""
    return (
        expected.label,
        format_count(expected.rows),
        format_count(found.rows) if found else MISSING,
        _short(expected.fingerprint),
        _short(found.fingerprint) if found else MISSING,
        DIFFERENT if is_wrong else SAME if expected == found else NOT_COMPARED,
    )


def _short(fingerprint: str) -> str:
    """The last digits are enough for the eye; all of them are compared."""
    return fingerprint if len(fingerprint) <= _DIGITS else f"..{fingerprint[-_DIGITS:]}"


def _check_rows(result: VerificationResult, manifest: Manifest) -> Iterator[tuple[str, ...]]:
    found = {measurement.check: measurement for measurement in result.measurements}
    marks = {
        finding.subject.split(" [")[0]: _MARKS[finding.severity]
        for finding in sorted(result.findings, key=lambda finding: _ORDER.index(finding.severity))
        if finding.kind in {"model check", "invariant"}
    }
    for expected in manifest.measurements:
        other = found.get(expected.check)
        yield (
            expected.check,
            describe_value(expected),
            describe_value(other) if other else "not measured",
            marks.get(expected.check, SAME),
        )


def _problems(findings: list[Finding], width: int) -> Iterator[str]:
    """Yield what is wrong, the figures first."""
    for finding in sorted(findings, key=lambda finding: -_ORDER.index(finding.severity)):
        figures = f": expected {finding.expected}, found {finding.found}" if finding.expected or finding.found else ""
        text = f"{_MARKS[finding.severity]}: {finding.kind} {finding.subject}{figures}. {finding.message}"
        yield from textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False) or [""]


SAME = "="
DIFFERENT = "DIFFERS"
MISSING = "missing"
NOT_COMPARED = "not compared"
_DIGITS = 8
_WIDE = 100  # columns that both fingerprints need beside the rest
# From least to worst, and how each is marked.
_ORDER = [Severity.NOTE, Severity.SOURCE, Severity.UNVERIFIED, Severity.FAILED]
_MARKS = {
    Severity.NOTE: "note",
    Severity.SOURCE: "also in the source",
    Severity.UNVERIFIED: NOT_COMPARED,
    Severity.FAILED: DIFFERENT,
}
