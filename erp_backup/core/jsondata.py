"""Dataclasses to JSON and back: canonical when written, strict when read.

Canonical means UTF-8, keys sorted, no spaces, no floating-point numbers, one line feed at the end: equal data gives
equal bytes, so that a signature and a hash can speak about it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from erp_backup.core.errors import CorruptError

T = TypeVar("T")


def canonical(data: object) -> bytes:
    """Return the canonical bytes of plain JSON data. Raises TypeError or ValueError for what JSON does not have."""
    _refuse_floats(data)
    text = json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _refuse_floats(data: object) -> None:
    if isinstance(data, float):
        raise TypeError(f"No floating-point number may stand in canonical JSON: {data!r}")
    if isinstance(data, dict):
        for value in data.values():
            _refuse_floats(value)
    elif isinstance(data, list | tuple):
        for value in data:
            _refuse_floats(value)


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in ``raw``. Raises CorruptError for anything else, duplicate keys included."""
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CorruptError(f"It is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise CorruptError("It is not a JSON object.")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def to_data(value: Any) -> Any:
    """Return ``value`` (dataclasses, tuples, enums, aware datetimes) as plain JSON data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_data(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return format_time(value)
    return value


def format_time(at: datetime) -> str:
    """Return an aware time as ``2026-01-05T12:00:00.000000Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Return the aware time in ``text``. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def from_data(kind: type[T], data: Any) -> T:
    """Return ``data`` as ``kind``, every type checked, unknown keys ignored. Raises CorruptError naming the place."""
    return typing.cast("T", _read(kind, data, kind.__name__))


def _read(hint: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(typing.cast("type", hint), data, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        return None if data is None else _read(next(a for a in arguments if a is not types.NoneType), data, where)
    if origin in {tuple, list}:
        return origin(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(_typed(list, data, where)))
    if origin is dict:
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in _typed(dict, data, where).items()}
    return _read_scalar(hint, data, where)


def _read_dataclass(kind: type, data: Any, where: str) -> Any:
    _typed(dict, data, where)
    hints = _hints(kind)
    values = {name: _read(hint, data[name], f"{where}.{name}") for name, hint in hints.items() if name in data}
    try:
        return kind(**values)
    except TypeError as error:
        raise CorruptError(f"{where} is incomplete: {error}.") from error


@functools.cache  # a manifest has thousands of tables and columns, each a dataclass
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read_scalar(hint: Any, data: Any, where: str) -> Any:
    if hint is Any:
        return data
    try:
        if hint is datetime:
            return parse_time(_typed(str, data, where))
        if isinstance(hint, type) and issubclass(hint, Enum):
            return hint(data)
    except ValueError as error:
        raise CorruptError(f"{where}: {error}.") from error
    return _typed(hint, data, where)


def _typed(kind: type[T], data: Any, where: str) -> T:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise CorruptError(f"{where} should be {kind.__name__}, not {type(data).__name__}.")
    return data
