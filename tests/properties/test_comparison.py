"""Comparison, for any figures: equal to themselves, and to nothing that differs in anything."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import assume, given
from hypothesis import strategies as st

from erp_backup.core.comparison import compare_figures, compare_measurements
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

T = TypeVar("T")
name = st.text("abcdé_.", min_size=1, max_size=4)
number = st.integers(-(10**20), 10**20)
decimal = st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str)
odd_value = st.sampled_from(["NaN", "sNaN", "Infinity", "-0", "1E+400", "2026-01-05", "", "missing"])
# Any value is any other one; kept apart from the strategies above so that a mutation always has something to become.
any_table = st.builds(
    TableFigure,
    schema=name,
    name=name,
    columns=st.lists(name, min_size=1, max_size=3, unique=True).map(tuple),
    rows=st.integers(0, 10**12),
    fingerprint=number.map(str),
)
any_sequence = st.builds(
    SequenceFigure,
    schema=name,
    name=name,
    last_value=number,
    is_called=st.booleans(),
    increment=st.integers(-3, 3).filter(bool),
    table=name,
    column=name,
    column_max=st.none() | number,
)
any_object = st.builds(SchemaObject, kind=st.sampled_from(["index", "view"]), name=name, digest=name)
any_figures = st.builds(
    Figures,
    tables=st.lists(any_table, max_size=4, unique_by=lambda t: (t.schema, t.name)).map(tuple),
    sequences=st.lists(any_sequence, max_size=3, unique_by=lambda s: (s.schema, s.name)).map(tuple),
    objects=st.lists(any_object, max_size=4, unique_by=lambda o: (o.kind, o.name)).map(tuple),
    extensions=st.dictionaries(name, name, max_size=2),
    migrations=st.lists(name, max_size=3, unique=True).map(tuple),
    methods=st.dictionaries(st.sampled_from(["fingerprint", "definition"]), name),
    large_objects=st.none() | any_table,
)
number_measurement = st.builds(Measurement, check=name, value=decimal | odd_value, unit=st.sampled_from(["", "users"]))
mapping_measurement = st.builds(
    Measurement,
    check=name,
    kind=st.just(MeasurementKind.MAPPING),
    value=decimal,
    count=st.integers(0, 10**6),
    digest=name,
    rows=st.none() | st.dictionaries(name, decimal | odd_value, max_size=3),
    labels=st.dictionaries(name, name, max_size=2),
)
invariant_measurement = st.builds(
    Measurement,
    check=name,
    kind=st.just(MeasurementKind.INVARIANT),
    value=st.integers(0, 50).map(str),
    digest=name,
    rows=st.none() | st.dictionaries(name, name, max_size=3),
)
healthy = number_measurement | mapping_measurement | invariant_measurement
any_measurements = st.lists(healthy, max_size=5, unique_by=lambda m: m.check)


def is_wrong(findings: list[Finding]) -> bool:
    """Whether somebody would look at it: a note or what the source had too is not it."""
    return any(finding.severity in {Severity.FAILED, Severity.UNVERIFIED} for finding in findings)


def changed(draw: st.DrawFn, item: T, fields: dict[str, st.SearchStrategy[Any]]) -> T:
    """The item with one of these fields changed to another value."""
    field = draw(st.sampled_from(sorted(fields)))
    value = draw(fields[field].filter(lambda new: new != getattr(item, field)))
    return dataclasses.replace(item, **{field: value})  # type: ignore[type-var]


# What must be noticed. A column's maximum is left out: the table's own fingerprint covers it.
_TABLE = {
    "schema": name,
    "name": name,
    "columns": st.lists(name, min_size=1, max_size=3, unique=True).map(tuple),
    "rows": st.integers(0, 10**12),
    "fingerprint": number.map(str),
}
_SEQUENCE = {"schema": name, "name": name, "table": name, "column": name, "increment": st.integers(1, 3)}
_OBJECT = {"kind": st.sampled_from(["index", "view"]), "name": name, "digest": name}


@st.composite
def figures_and_one_change(draw: st.DrawFn) -> tuple[Figures, Figures]:
    """Figures, and the same with exactly one thing changed."""
    figures = draw(any_figures)
    kinds = {"tables": _TABLE, "sequences": _SEQUENCE, "objects": _OBJECT}
    kind = draw(st.sampled_from(sorted(kinds)))
    items = list(getattr(figures, kind))
    assume(items)
    place = draw(st.integers(0, len(items) - 1))
    items[place] = changed(draw, items[place], kinds[kind])
    return figures, replace(figures, **{kind: tuple(items)})


@given(any_figures)
def test_figures_and_themselves__nothing_wrong(figures: Figures) -> None:
    """A copy that equals its snapshot passes; what its source already had is only told."""
    findings = compare_figures(figures, figures)

    assert {Severity.SOURCE} >= {finding.severity for finding in findings}
    assert len(findings) == sum(sequence.is_behind for sequence in figures.sequences)


@given(any_figures, st.randoms())
def test_figures_in_another_order__nothing_wrong(figures: Figures, random: Any) -> None:
    """Order is not content."""
    turned = {}
    for kind in ("tables", "sequences", "objects", "migrations"):
        items = list(getattr(figures, kind))
        random.shuffle(items)
        turned[kind] = tuple(items)

    assert not is_wrong(compare_figures(figures, replace(figures, **turned)))


@given(figures_and_one_change())
def test_one_field_changed__found_in_both_directions(pair: tuple[Figures, Figures]) -> None:
    """Any single field of any table, sequence or definition is noticed."""
    left, right = pair

    assert is_wrong(compare_figures(left, right))
    assert is_wrong(compare_figures(right, left))


@given(any_figures, st.data())
def test_one_thing_lost__found(figures: Figures, data: st.DataObject) -> None:
    """Whatever is not restored is noticed."""
    kind = data.draw(st.sampled_from(["tables", "sequences", "objects", "migrations"]))
    items = getattr(figures, kind)
    assume(items)
    place = data.draw(st.integers(0, len(items) - 1))

    assert is_wrong(compare_figures(figures, replace(figures, **{kind: items[:place] + items[place + 1 :]})))


@given(any_figures, any_figures)
def test_lost_extensions_and_large_objects__found(figures: Figures, other: Figures) -> None:
    """So are extensions and large objects."""
    assume(set(figures.extensions) - set(other.extensions))

    assert is_wrong(compare_figures(figures, replace(figures, extensions=other.extensions)))
    if figures.large_objects and (figures.large_objects.rows or figures.large_objects.columns):
        assert is_wrong(compare_figures(figures, replace(figures, large_objects=None)))


@given(any_sequence, st.integers(1, 10**6))
def test_sequence_set_back__found(sequence: SequenceFigure, steps: int) -> None:
    """A sequence may be ahead of its snapshot, never before it."""
    back = replace(sequence, last_value=sequence.last_value - steps * (1 if sequence.increment > 0 else -1))

    assert is_wrong(compare_figures(Figures(sequences=(sequence,)), Figures(sequences=(back,))))


@given(any_measurements)
def test_measurements_and_themselves__nothing_wrong(measurements: list[Measurement]) -> None:
    """Every figure, odd ones included, equals itself."""
    findings = compare_measurements(measurements, list(reversed(measurements)))

    assert not is_wrong(findings)


@given(healthy, st.data())
def test_one_figure_changed__found(measurement: Measurement, data: st.DataObject) -> None:
    """Any single figure that a model check gives is noticed, in both directions."""
    other = data.draw(st.just(measurement).flatmap(_other_figure))

    assert is_wrong(compare_measurements([measurement], [other]))
    assert is_wrong(compare_measurements([other], [measurement]))


def _other_figure(measurement: Measurement) -> st.SearchStrategy[Measurement]:
    """The same model check with another figure."""
    if measurement.kind is MeasurementKind.NUMBER:
        return decimal.filter(lambda value: _differs(value, measurement.value)).map(
            lambda v: replace(measurement, value=v)
        )
    if measurement.kind is MeasurementKind.INVARIANT:
        more = str(int(measurement.value) + 1)
        return st.sampled_from([replace(measurement, value=more, digest=f"{measurement.digest}x")])
    if measurement.rows is None:
        changes: list[dict[str, Any]] = [{"digest": f"{measurement.digest}x"}, {"count": (measurement.count or 0) + 1}]
        return st.sampled_from(changes).map(lambda change: replace(measurement, **change))
    rows = measurement.rows
    added = st.just({**rows, "new": "1"})
    if not rows:
        return added.map(lambda changed_rows: replace(measurement, rows=changed_rows))
    key = st.sampled_from(sorted(rows))
    lost = key.map(lambda gone: {k: v for k, v in rows.items() if k != gone})
    other = key.map(lambda hit: {**rows, hit: "77777777.77" if _differs("77777777.77", rows[hit]) else "5"})
    return (added | lost | other).map(lambda changed_rows: replace(measurement, rows=changed_rows))


def _differs(left: str, right: str) -> bool:
    numbers = [Measurement(check="x", value=value) for value in (left, right)]
    return bool(compare_measurements(numbers[:1], numbers[1:]))
