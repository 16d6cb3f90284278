"""What makes writing very many rows to PostgreSQL fast: indexes and foreign keys come afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_FOREIGN_KEYS = """
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
           format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
      FROM pg_constraint
     WHERE contype = 'f' AND conrelid::regclass = ANY (%s::regclass[])
     ORDER BY conname
"""
# Indexes behind a primary key or a unique constraint stay: they guard the rows while they are written. Partial ones
# stay too: they are small, and the server words some conditions anew when it reads its own wording back.
_INDEXES = """
    SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
      FROM pg_index
     WHERE indrelid = ANY (%s::regclass[])
       AND indpred IS NULL
       AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
     ORDER BY indexrelid::regclass::text
"""


@contextmanager
def bulk_load(connection: BaseDatabaseWrapper, written: list[type[models.Model]]) -> Iterator[None]:
    """Within the caller's transaction, drop these tables' plain indexes and foreign keys, and restore them at the end.

    One pass over the finished tables replaces a look-up per row and key. Putting them back checks every row: an
    orphan raises IntegrityError. Other databases than PostgreSQL are left as they are.
    """
    if connection.vendor != "postgresql":
        yield
        return
    tables = [connection.ops.quote_name(model._meta.db_table) for model in written]
    foreign_keys = _statements(connection, _FOREIGN_KEYS, tables)
    indexes = _statements(connection, _INDEXES, tables)
    _execute(connection, [drop for drop, _add in foreign_keys + indexes])
    yield
    _execute(connection, [add for _drop, add in indexes])
    # The planner must know the sizes before it joins tables to check the foreign keys.
    _execute(connection, [f"ANALYZE {', '.join(tables)}"])
    _execute(connection, [add for _drop, add in foreign_keys])


def _statements(connection: BaseDatabaseWrapper, query: str, tables: list[str]) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(query, [tables])
        return [(drop, add) for drop, add in cursor.fetchall()]


def _execute(connection: BaseDatabaseWrapper, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
