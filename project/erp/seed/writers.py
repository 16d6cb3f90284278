"""Writing very many rows: COPY on PostgreSQL, INSERT of many rows at a time elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

Row = tuple[Any, ...]
_BATCH = 2000
# psycopg writes every other type by itself.
_PREPARED_FOR_COPY = (models.JSONField,)
_PREPARED_FOR_INSERT = (
    models.BinaryField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.JSONField,
    models.TimeField,
    models.UUIDField,
)


def write_rows(
    connection: BaseDatabaseWrapper, model: type[models.Model], columns: Sequence[str], rows: Iterable[Row]
) -> None:
    """Write `rows`, tuples of values of the named columns, into the model's table.

    Memory stays flat however many rows there are. They must not query this connection while they are read: it is
    busy with COPY until the last one, and would wait for itself.
    """
    fields: list[Any] = [model._meta.get_field(column) for column in columns]
    write = _copy if connection.vendor == "postgresql" else _insert
    write(connection, model, fields, rows)


def _copy(connection: BaseDatabaseWrapper, model: Any, fields: list[Any], rows: Iterable[Row]) -> None:
    quote = connection.ops.quote_name
    names = ", ".join(quote(field.column) for field in fields)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {quote(model._meta.db_table)} ({names}) FROM STDIN") as copy,
    ):
        for row in _prepared(connection, fields, _PREPARED_FOR_COPY, rows):
            copy.write_row(row)


def _insert(connection: BaseDatabaseWrapper, model: Any, fields: list[Any], rows: Iterable[Row]) -> None:
    quote = connection.ops.quote_name
    names = ", ".join(quote(field.column) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({places})"  # noqa: S608  quoted names only
    prepared = _prepared(connection, fields, _PREPARED_FOR_INSERT, rows)
    with connection.cursor() as cursor:
        while batch := list(islice(prepared, _BATCH)):
            cursor.executemany(statement, batch)


def _prepared(
    connection: BaseDatabaseWrapper,
    fields: list[Any],
    kinds: tuple[type[models.Field[Any, Any]], ...],
    rows: Iterable[Row],
) -> Iterator[Row]:
    """Yield the rows with the values of these kinds of field as the database driver wants them."""
    prepare: list[tuple[int, Callable[..., Any]]] = []
    for index, field in enumerate(fields):
        if isinstance(field, kinds):
            prepare.append((index, field.get_db_prep_save))
    if not prepare:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for index, convert in prepare:
            values[index] = convert(values[index], connection)
        yield tuple(values)
