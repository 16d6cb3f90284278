"""Model checks that every ERP gets without declaring anything.

They look at all data, the ERP's own and Django's (sessions, the admin's log) and ours: whatever the snapshot
held, the copy holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Exists, ForeignKey, Model, OuterRef

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks.base import Context, ModelCheck, all_rows
from erp_backup.modelchecks.counts import Count
from erp_backup.modelchecks.registry import register_temporarily
from erp_backup.modelchecks.tallies import MappingTally, tally_offenders
from erp_backup.modelchecks.values import text_of

_CHUNK = 5000


def builtins(database: str) -> tuple[ModelCheck, ...]:
    """Return the built-in model checks for the backups of that alias."""
    with register_temporarily(empty=True) as registered:
        for kind in (Rows, Orphans, UnappliedMigrations):
            kind(kind.title, database=database)
        if _has_active_users(database):
            Count("erp_backup.active_users", get_user_model(), database=database, unit="users", is_active=True)
        return tuple(registered)


def _has_active_users(database: str) -> bool:
    if not apps.is_installed("django.contrib.auth"):
        return False
    user = get_user_model()
    fields = {field.name for field in user._meta.concrete_fields}
    return "is_active" in fields and router.allow_migrate_model(database, user)


class Rows(ModelCheck):
    """How many rows each model has, tables of many-to-many relations included."""

    title = "erp_backup.rows"
    kind = MeasurementKind.MAPPING

    def measure(self, context: Context) -> Measurement:
        """Count in the database, model by model. A model whose table does not exist (yet) is left out."""
        tally = MappingTally()
        tables = _tables(context.using)
        for model in _models_of(context.database):
            if model._meta.db_table in tables:
                count = all_rows(model, context.using).count()
                tally.add(model._meta.label, str(count), Decimal(count))
        return self.result(**tally.values())


class Orphans(ModelCheck):
    """Rows whose foreign key points nowhere, for the keys that the database itself does not watch over.

    On SQLite that is every one: whoever opens the file without ``PRAGMA foreign_keys`` can break them.
    """

    title = "erp_backup.orphans"
    kind = MeasurementKind.INVARIANT

    def measure(self, context: Context) -> Measurement:
        """Look in the database; only offending rows leave it."""
        return self.result(**tally_offenders(self._orphans(context)))

    def _orphans(self, context: Context) -> Iterator[tuple[str, str]]:
        tables = _tables(context.using)
        is_unwatched = connections[context.using].vendor == "sqlite"
        for model in _models_of(context.database):
            for field in _foreign_keys(model) if model._meta.db_table in tables else ():
                if (is_unwatched or not field.db_constraint) and _is_here(field.related_model, context, tables):
                    yield from _orphans_of(field, context.using)


def _foreign_keys(model: type[Model]) -> Iterator[Any]:
    """Yield the foreign keys in the model's own table; a child's link to its parent is one."""
    for field in model._meta.local_concrete_fields:
        if isinstance(field, ForeignKey):
            yield field


def _orphans_of(field: Any, using: str) -> Iterator[tuple[str, str]]:
    target = all_rows(field.related_model, using).filter(**{field.target_field.attname: OuterRef(field.attname)})
    rows = all_rows(field.model, using).filter(~Exists(target), **{f"{field.attname}__isnull": False})
    for key, value in rows.values_list("pk", field.attname).iterator(chunk_size=_CHUNK):
        yield f"{field.model._meta.label}.{field.name} {text_of(key)}", f"points at {text_of(value)}"


class UnappliedMigrations(ModelCheck):
    """Migrations that the code has and the database does not."""

    title = "erp_backup.unapplied_migrations"
    kind = MeasurementKind.INVARIANT

    def measure(self, context: Context) -> Measurement:
        """Plan a migration without running it. A database that Django never migrated has none to apply."""
        connection = connections[context.using]
        if not MigrationRecorder(connection).has_table():
            return self.result(**tally_offenders(()))
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        names = sorted(f"{migration.app_label}.{migration.name}" for migration, _backwards in plan)
        return self.result(**tally_offenders((name, "") for name in names))


def _models_of(database: str) -> Iterator[type[Model]]:
    """Yield the models that live on that alias with a table that Django made: no proxies, no swapped ones."""
    for model in apps.get_models(include_auto_created=True):
        options = model._meta
        if options.managed and not options.proxy and router.allow_migrate_model(database, model):
            yield model


def _tables(using: str) -> set[str]:
    connection = connections[using]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor, include_views=True))


def _is_here(model: Any, context: Context, tables: set[str]) -> bool:
    """Say whether a related model's rows are in this database; a key may point into another one."""
    return model._meta.db_table in tables and router.allow_migrate_model(context.database, model)
