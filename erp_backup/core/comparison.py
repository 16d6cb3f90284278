"""Comparing the figures of a snapshot with those of its restored copy: pure, and without mercy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from erp_backup.core.figures import (
    Figures,
    Finding,
    Measurement,
    MeasurementKind,
    SchemaObject,
    SequenceFigure,
    Severity,
    TableFigure,
)

K = TypeVar("K")
V = TypeVar("V")

MISSING = "missing"
PRESENT = "present"


def compare_figures(
    expected: Figures, found: Figures, *, same_major: bool = True, data: bool = True, schema: bool = True
) -> list[Finding]:
    """Return every difference between the snapshot's figures and the restored copy's.

    ``same_major`` says whether both servers are of one major version: definitions are spelled differently by different
    ones, so across versions only the presence of schema objects is compared. ``data`` and ``schema`` say what the
    archive holds. Digests made in different ways are not compared, and that is a finding.
    """
    findings: list[Finding] = []
    if data:
        findings += _other_method("fingerprint", "content", expected, found)
        findings += compare_tables(*_comparable_tables(expected, found))
        findings += compare_large_objects(expected.large_objects, found.large_objects)
        findings += compare_sequences(expected.sequences, found.sequences)
        findings += compare_migrations(expected.migrations, found.migrations)
    else:
        findings += _names_of_tables(expected.tables, found.tables)
    if schema:
        other_method = _other_method("definition", "definitions", expected, found)
        findings += other_method
        findings += [] if same_major else [_OTHER_MAJOR]
        findings += compare_objects(expected.objects, found.objects, same_major=same_major and not other_method)
        findings += compare_extensions(expected.extensions, found.extensions)
    return findings


_OTHER_MAJOR = Finding(
    kind="schema",
    subject="definitions",
    message="The server is of another major version, which spells definitions otherwise: only names were compared.",
    severity=Severity.NOTE,
)


def _other_method(method: str, subject: str, expected: Figures, found: Figures) -> list[Finding]:
    """A digest proves something only beside one that was made in the same way."""
    before, now = expected.methods.get(method, ""), found.methods.get(method, "")
    if before == now:
        return []
    return [
        Finding(
            kind="method",
            subject=subject,
            expected=before,
            found=now,
            message="This version digests otherwise: not compared. Verify with the version that made the backup.",
            severity=Severity.UNVERIFIED,
        )
    ]


def _comparable_tables(expected: Figures, found: Figures) -> tuple[list[TableFigure], list[TableFigure]]:
    """The tables of both sides, their fingerprints left out where they were made in different ways."""
    sides = list(expected.tables), list(found.tables)
    if expected.methods.get("fingerprint") == found.methods.get("fingerprint"):
        return sides
    before, now = ([replace(table, fingerprint="") for table in side] for side in sides)
    return before, now


def _table_key(table: TableFigure) -> tuple[str, str]:
    return table.schema, table.name


def compare_tables(expected: Iterable[TableFigure], found: Iterable[TableFigure]) -> list[Finding]:
    """Compare row counts and fingerprints, table by table; what is on one side only is a difference too."""
    findings = _names_of_tables(expected := list(expected), found := list(found))
    by_key = {_table_key(table): table for table in found}
    for table in expected:
        other = by_key.get(_table_key(table))
        if other is not None:
            findings += _compare_table(table, other)
    return findings


def _names_of_tables(expected: Iterable[TableFigure], found: Iterable[TableFigure]) -> list[Finding]:
    return _one_sided(
        {_table_key(table): table for table in expected},
        {_table_key(table): table for table in found},
        kind=lambda _table: "table",
        label=lambda table: table.label,
        describe=lambda table: f"{table.rows:,} rows",
    )


def _compare_table(expected: TableFigure, found: TableFigure) -> Iterator[Finding]:
    if expected.columns != found.columns:
        yield Finding(
            kind="table",
            subject=expected.label,
            expected=", ".join(expected.columns),
            found=", ".join(found.columns),
            message="The columns differ.",
        )
    elif expected.rows != found.rows:
        yield Finding(
            kind="table",
            subject=expected.label,
            expected=f"{expected.rows:,} rows",
            found=f"{found.rows:,} rows",
            message=f"{abs(expected.rows - found.rows):,} rows {'lost' if found.rows < expected.rows else 'too many'}.",
        )
    elif expected.fingerprint != found.fingerprint:
        yield Finding(
            kind="table",
            subject=expected.label,
            expected=f"fingerprint {expected.fingerprint}",
            found=f"fingerprint {found.fingerprint}",
            message=f"As many rows ({expected.rows:,}), but their content differs.",
        )


def compare_large_objects(expected: TableFigure | None, found: TableFigure | None) -> list[Finding]:
    """Compare the large objects as if they were one table."""
    nothing = TableFigure(schema="", name="large objects", columns=(), rows=0, fingerprint="0")
    return list(_compare_table(expected or nothing, found or nothing))


def compare_sequences(expected: Iterable[SequenceFigure], found: Iterable[SequenceFigure]) -> list[Finding]:
    """Demand that no sequence is missing, behind its column, or behind where the snapshot saw it.

    Equality is not demanded: sequences stand outside transactions and move on while a dump is taken.
    """
    expected_by_key = {(s.schema, s.name): s for s in expected}
    found_by_key = {(s.schema, s.name): s for s in found}
    findings = _one_sided(
        expected_by_key,
        found_by_key,
        kind=lambda _sequence: "sequence",
        label=lambda sequence: sequence.label,
        describe=lambda sequence: f"at {sequence.last_value}",
    )
    for key in expected_by_key.keys() & found_by_key.keys():
        findings += _compare_sequence(expected_by_key[key], found_by_key[key])
    return sorted(findings, key=lambda finding: finding.subject)


def _compare_sequence(expected: SequenceFigure, found: SequenceFigure) -> Iterator[Finding]:
    if (wanted := _purpose(expected)) != (purpose := _purpose(found)):
        yield Finding(
            kind="sequence",
            subject=expected.label,
            expected=wanted,
            found=purpose,
            message="It counts otherwise, or for another column.",
        )
    elif found.is_behind:
        yield Finding(
            kind="sequence",
            subject=expected.label,
            expected=f"beyond {found.column_max}",
            found=f"at {found.last_value}",
            message=f"The next value would collide with a row of {found.table}.{found.column}.",
            severity=Severity.SOURCE if expected.is_behind and not _is_before(found, expected) else Severity.FAILED,
        )
    elif _is_before(found, expected):
        yield Finding(
            kind="sequence",
            subject=expected.label,
            expected=f"at {expected.last_value} or beyond",
            found=f"at {found.last_value}",
            message="Numbers that were already given out would be given out again.",
        )


def _purpose(sequence: SequenceFigure) -> str:
    feeds = f" for {sequence.table}.{sequence.column}" if sequence.column else ""
    return f"in steps of {sequence.increment}{feeds}"


def _is_before(found: SequenceFigure, expected: SequenceFigure) -> bool:
    reached = (found.last_value, found.is_called)
    wanted = (expected.last_value, expected.is_called)
    if expected.increment < 0:
        reached, wanted = (-found.last_value, found.is_called), (-expected.last_value, expected.is_called)
    return reached < wanted


def compare_objects(
    expected: Iterable[SchemaObject], found: Iterable[SchemaObject], *, same_major: bool
) -> list[Finding]:
    """Compare the schema: what is missing, what is too much, and within one major version what is defined otherwise."""
    expected_by_key = {(o.kind, o.name): o for o in expected}
    found_by_key = {(o.kind, o.name): o for o in found}
    findings = _one_sided(
        expected_by_key,
        found_by_key,
        kind=lambda item: item.kind,
        label=lambda item: item.name,
        describe=lambda _item: PRESENT,
    )
    for key in sorted(expected_by_key.keys() & found_by_key.keys()) if same_major else ():
        if expected_by_key[key].digest != found_by_key[key].digest:
            findings.append(
                Finding(
                    kind=key[0],
                    subject=key[1],
                    expected=f"definition {expected_by_key[key].digest}",
                    found=f"definition {found_by_key[key].digest}",
                    message="It is defined otherwise than in the snapshot.",
                )
            )
    return findings


def compare_extensions(expected: dict[str, str], found: dict[str, str]) -> list[Finding]:
    """Demand every extension; another version of one is worth a note, since the server's own is installed."""
    findings = [
        Finding(kind="extension", subject=name, expected=version, found=MISSING, message="It was not restored.")
        for name, version in expected.items()
        if name not in found
    ]
    findings += [
        Finding(
            kind="extension",
            subject=name,
            expected=version,
            found=found[name],
            message="The server installs another version of it.",
            severity=Severity.NOTE,
        )
        for name, version in expected.items()
        if found.get(name, version) != version
    ]
    return findings


def compare_migrations(expected: tuple[str, ...], found: tuple[str, ...]) -> list[Finding]:
    """Demand the same applied migrations, as Django records them."""
    return _one_sided(
        {name: name for name in expected},
        {name: name for name in found},
        kind=lambda _name: "migration",
        label=lambda name: name,
        describe=lambda _name: "applied",
    )


def _one_sided(
    expected: dict[K, V],
    found: dict[K, V],
    *,
    kind: Callable[[V], str],
    label: Callable[[V], str],
    describe: Callable[[V], str],
) -> list[Finding]:
    """Return a finding for each thing that stands on one side only, in order of appearance."""
    lost = [
        Finding(
            kind=kind(item),
            subject=label(item),
            expected=describe(item),
            found=MISSING,
            message="It was not restored.",
        )
        for key, item in expected.items()
        if key not in found
    ]
    added = [
        Finding(
            kind=kind(item),
            subject=label(item),
            expected=MISSING,
            found=describe(item),
            message="It was not in the snapshot.",
        )
        for key, item in found.items()
        if key not in expected
    ]
    return lost + added


def compare_measurements(expected: Iterable[Measurement], found: Iterable[Measurement]) -> list[Finding]:
    """Compare model checks by name: every figure equal, every invariant whole.

    A model check that only the manifest knows could not be compared; one that only the code knows is newer than the
    backup.
    """
    found_by_name = {measurement.check: measurement for measurement in found}
    findings: list[Finding] = []
    for measurement in expected:
        other = found_by_name.pop(measurement.check, None)
        if other is None:
            findings.append(_not_compared(measurement.check, "The code no longer has this model check."))
        else:
            findings += _compare_measurement(measurement, other)
    for other in found_by_name.values():
        findings += _without_expectation(other)
    return findings


def _not_compared(check: str, message: str, *, severity: Severity = Severity.UNVERIFIED) -> Finding:
    return Finding(kind="model check", subject=check, message=message, severity=severity)


def _without_expectation(found: Measurement) -> Iterator[Finding]:
    """A model check that the manifest does not know: its figure proves nothing, its invariant still must hold."""
    yield _not_compared(
        found.check, "It is newer than the backup; there is no figure to compare.", severity=Severity.NOTE
    )
    if found.kind is MeasurementKind.INVARIANT and not found.error and found.value != "0":
        yield _broken(found, severity=Severity.UNVERIFIED, message="Whether the source had it too is not known.")


def _compare_measurement(expected: Measurement, found: Measurement) -> Iterator[Finding]:
    if found.error:
        yield _failed_measurement(expected, found)
    elif expected.error:
        yield _not_compared(expected.check, f"It could not be measured when the backup was taken: {expected.error}")
    elif expected.kind is not found.kind:
        yield _not_compared(
            expected.check, f"It measured a {expected.kind} when the backup was taken and a {found.kind} now."
        )
    else:
        yield from COMPARISONS[expected.kind](expected, found)


def _failed_measurement(expected: Measurement, found: Measurement) -> Finding:
    """A check that ran in the source and raises on the copy has found something; one out of time has found nothing."""
    healthy_before = not expected.error
    return Finding(
        kind="model check",
        subject=expected.check,
        expected=describe_value(expected),
        found="time limit" if found.timed_out else "error",
        message=found.error,
        severity=Severity.FAILED if healthy_before and not found.timed_out else Severity.UNVERIFIED,
    )


def _same_number(left: str, right: str) -> bool:
    """Compare two figures as decimals, so that ``1.50`` equals ``1.5``; anything else compares as text."""
    try:
        # A NaN does not equal itself as a decimal.
        return left == right or Decimal(left) == Decimal(right)
    except InvalidOperation:
        return False


def _compare_number(expected: Measurement, found: Measurement) -> Iterator[Finding]:
    if not _same_number(expected.value, found.value):
        yield Finding(
            kind="model check",
            subject=expected.check,
            expected=describe_value(expected),
            found=describe_value(found),
            message="The figure differs.",
        )


def _compare_mapping(expected: Measurement, found: Measurement) -> Iterator[Finding]:
    if expected.rows is not None and found.rows is not None:
        yield from _compare_rows(expected, found)
    elif (expected.count, expected.digest) != (found.count, found.digest):
        yield Finding(
            kind="model check",
            subject=expected.check,
            expected=describe_value(expected),
            found=describe_value(found),
            message="The values differ, key by key.",
        )


def _compare_rows(expected: Measurement, found: Measurement) -> Iterator[Finding]:
    before, now = expected.rows or {}, found.rows or {}
    labels = {**found.labels, **expected.labels}
    for key in sorted(before.keys() | now.keys()):
        is_in_both = key in before and key in now  # a value may be called whatever stands for none
        if not is_in_both or not _same_number(before[key], now[key]):
            yield Finding(
                kind="model check",
                subject=f"{expected.check} [{labels.get(key, key)}]",
                expected=before.get(key, MISSING),
                found=now.get(key, MISSING),
                message="The figure of this key differs.",
            )


def _compare_invariant(expected: Measurement, found: Measurement) -> Iterator[Finding]:
    if found.value == "0":
        if expected.value != "0":
            yield _broken(expected, severity=Severity.FAILED, message="The source broke this rule, the copy does not.")
    elif (expected.value, expected.digest) == (found.value, found.digest):
        yield _broken(found, severity=Severity.SOURCE, message="The source had it too; the restore did not cause it.")
    else:
        yield Finding(
            kind="invariant",
            subject=expected.check,
            expected=f"{expected.value} rows",
            found=f"{found.value} rows",
            message=f"The restore broke it: {_samples(found)}".strip(),
        )


def _broken(measurement: Measurement, *, severity: Severity, message: str) -> Finding:
    return Finding(
        kind="invariant",
        subject=measurement.check,
        expected="0 rows",
        found=f"{measurement.value} rows",
        message=f"{message} {_samples(measurement)}".strip(),
        severity=severity,
    )


def _samples(measurement: Measurement) -> str:
    rows = list((measurement.rows or {}).items())[:3]
    return "; ".join(f"{key}: {text}" if text else key for key, text in rows)


def describe_value(measurement: Measurement) -> str:
    """Return the figure of a model check as people read it: ``1,204 rows``, ``37 keys, total 4,120.5``."""
    if measurement.error:
        return "not measured"
    unit = f" {measurement.unit}" if measurement.unit else ""
    value = _grouped(measurement.value)
    if measurement.kind is MeasurementKind.MAPPING:
        return f"{measurement.count:,} keys, total {value}{unit}"
    if measurement.kind is MeasurementKind.INVARIANT:
        return f"{value} broken"
    return f"{value}{unit}"


def _grouped(value: str) -> str:
    try:
        return f"{Decimal(value):,}"
    except InvalidOperation:
        return value


COMPARISONS: dict[MeasurementKind, Callable[[Measurement, Measurement], Iterator[Finding]]] = {
    MeasurementKind.NUMBER: _compare_number,
    MeasurementKind.MAPPING: _compare_mapping,
    MeasurementKind.INVARIANT: _compare_invariant,
}
