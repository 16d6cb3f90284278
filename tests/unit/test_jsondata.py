"""Canonical JSON: equal data gives equal bytes, and nothing else is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest

from erp_backup.core.errors import CorruptError
from erp_backup.core.jsondata import canonical, format_time, from_data, parse, parse_time, to_data


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A dataclass within one."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Every kind of field that manifests have."""

    text: str
    flag: bool = False
    colour: Colour = Colour.RED
    at: datetime | None = None
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    words: list[str] = field(default_factory=list)
    named: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


class TestCanonical:
    """Writing."""

    def test_any_order__same_bytes(self) -> None:
        """Keys are sorted at every depth, without spaces, with one line feed at the end."""
        left, right = {"b": {"y": 1, "x": None}, "a": [True, "é"]}, {"a": [True, "é"], "b": {"x": None, "y": 1}}

        assert b'{"a":[true,"\xc3\xa9"],"b":{"x":null,"y":1}}\n' == canonical(left) == canonical(right)

    @pytest.mark.parametrize("data", [{"a": 0.5}, [[1.0]], {"a": [{"b": float("nan")}]}, (0.0,)])
    def test_floating_point__refused(self, data: object) -> None:
        """A float is written differently by different writers."""
        with pytest.raises(TypeError, match="floating-point"):
            canonical(data)

    @pytest.mark.parametrize("data", [{"a": {1, 2}}, {"a": b"bytes"}, object()])
    def test_what_json_does_not_have__refused(self, data: object) -> None:
        """Nothing is turned into text by accident."""
        with pytest.raises(TypeError):
            canonical(data)


class TestParse:
    """Reading."""

    def test_object__its_data(self) -> None:
        """What was written is read."""
        assert {"a": [1, "é"]} == parse(canonical({"a": [1, "é"]}))

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b'"text"',
            b"{",
            b'{"a":1}}',
            b'{"a":1,"a":2}',
            b'{"b":{"a":1,"a":1}}',
            b'{"a":"\xff"}',
            b"\xef\xbb\xbf{}",
            b'{"a":' + b"9" * 5000 + b"}",
            b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
        ids=lambda raw: raw[:20],
    )
    def test_anything_else__corrupt(self, raw: bytes) -> None:
        """Whatever is not one JSON object with unique keys is refused as damaged, never with another error."""
        with pytest.raises(CorruptError):
            parse(raw)


class TestDataclasses:
    """Dataclasses to data and back."""

    whole = Outer(
        text="é\n",
        flag=True,
        at=datetime(2026, 1, 5, 12, 0, 0, 1, tzinfo=UTC),
        inner=Inner(number=1),
        many=(Inner(number=2), Inner(number=3)),
        words=["a"],
        named={"k": Inner(number=4)},
        anything=[1, None],
    )

    @pytest.mark.parametrize("value", [whole, Outer(text="")])
    def test_any_value__comes_back(self, value: Outer) -> None:
        """What is written is read as the same."""
        assert value == from_data(Outer, parse(canonical(to_data(value))))

    def test_unknown_keys__ignored(self) -> None:
        """A later version may know more."""
        assert Outer(text="x") == from_data(Outer, {"text": "x", "invented": 1})

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"text": 1}, "Outer.text should be str, not int"),
            ({"text": None}, "Outer.text should be str, not NoneType"),
            ({"flag": 1}, "Outer.flag should be bool"),
            ({"inner": {"number": True}}, "Outer.inner.number should be int, not bool"),
            ({"inner": {"number": 1.0}}, "Outer.inner.number should be int, not float"),
            ({"inner": {}}, "Outer.inner is incomplete"),
            ({"inner": []}, "Outer.inner should be dict"),
            ({"many": {}}, "Outer.many should be list"),
            ({"many": [{"number": 1}, 5]}, r"Outer.many\[1\] should be dict"),
            ({"words": ["a", 1]}, r"Outer.words\[1\] should be str"),
            ({"named": {"k": 1}}, "Outer.named.k should be dict"),
            ({"named": []}, "Outer.named should be dict"),
            ({"colour": "blue"}, "Outer.colour: 'blue' is not a valid"),
            ({"colour": []}, "Outer.colour"),
            ({"at": "yesterday"}, "Outer.at"),
            ({"at": 5}, "Outer.at should be str"),
        ],
    )
    def test_wrong_type__corrupt_with_its_place(self, change: dict[str, Any], place: str) -> None:
        """The message names the place."""
        with pytest.raises(CorruptError, match=place):
            from_data(Outer, {"text": "x", **change})


class TestTimes:
    """Aware times."""

    def test_any_zone__written_in_utc(self) -> None:
        """The zone of the machine does not show."""
        at = datetime(2026, 1, 5, 17, 45, tzinfo=timezone(timedelta(hours=5, minutes=45)))

        assert "2026-01-05T12:00:00.000000Z" == format_time(at)
        assert at == parse_time(format_time(at))

    @pytest.mark.parametrize(
        "text", ["2026-01-05T12:00:00Z", "2026-01-05 12:00:00.000000", "", "2026-13-05T12:00:00.0Z"]
    )
    def test_other_forms__refused(self, text: str) -> None:
        """There is one form."""
        with pytest.raises(ValueError, match="does not match"):
            parse_time(text)
