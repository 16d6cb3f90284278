"""The ERP's models as tables and the links between them, from Django's own description of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models, router
from django.db.models import Model

from erp_backup.core.errors import RefusedError, UsageError

# What a row does when the row goes that it refers to: it goes as well, or it would not have let it go.
_GOES_ALONG = {"CASCADE", "PROTECT", "RESTRICT", "DO_NOTHING", "DB_CASCADE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A foreign key from ``column`` of one model's table to ``target_column`` of another's."""

    source: type[Model]
    column: str
    target: type[Model]
    target_column: str
    field: str
    goes_along: bool  # its rows cannot be without what they refer to
    is_parent: bool = False  # from a child to its parent, in multi-table inheritance
    is_enforced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """All links between the models of one database, and the models that are many-to-many relations."""

    links: tuple[Link, ...]
    relations: frozenset[type[Model]]

    def of(self, model: type[Model]) -> Iterator[Link]:
        """Yield the links of a model's own table."""
        return (link for link in self.links if link.source is model)

    def to(self, model: type[Model]) -> Iterator[Link]:
        """Yield the links that lead to a model's table."""
        return (link for link in self.links if link.target is model)


def graph_of(database: str) -> Graph:
    """Return the graph of the models that live on that alias with a table that Django made."""
    here = [model for model in apps.get_models(include_auto_created=True) if _is_here(model, database)]
    relations = {_through(field) for model in here for field in model._meta.local_many_to_many}
    return Graph(links=tuple(_links(here)), relations=frozenset(relations))


def _through(field: Any) -> type[Model]:
    through: type[Model] = field.remote_field.through._meta.concrete_model
    return through


def _is_here(model: type[Model], database: str) -> bool:
    options = model._meta
    return bool(
        options.managed and not options.proxy and not options.swapped and router.allow_migrate_model(database, model)
    )


def _links(here: Iterable[type[Model]]) -> Iterator[Link]:
    known = set(here)
    for model in known:
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.ForeignKey):
                target = field.related_model._meta.concrete_model
                if target in known:
                    yield _link(model, target, field)


def _link(model: type[Model], target: type[Model], field: Any) -> Link:
    remote = field.remote_field
    return Link(
        source=model,
        column=field.column,
        target=target,
        target_column=field.target_field.column,
        field=field.name,
        goes_along=getattr(remote.on_delete, "__name__", str(remote.on_delete)) in _GOES_ALONG,
        is_parent=bool(remote.parent_link),
        is_enforced=field.db_constraint,
    )


def model_called(name: str, database: str) -> type[Model]:
    """Return the model whose table holds the rows; a proxy's are its concrete model's.

    Raises UsageError where there is none of that name, RefusedError for one that is no table of that database.
    """
    try:
        model: type[Model] = apps.get_model(name)
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"There is no model {name!r}.", remedy="Write app.Model, as in INSTALLED_APPS: 'erp.Item'."
        ) from error
    concrete: type[Model] | None = model._meta.concrete_model
    if concrete is None or not concrete._meta.managed or concrete._meta.swapped:
        raise RefusedError(
            f"{model._meta.label} is not managed by Django (a view, a foreign table, or swapped for another model).",
            remedy="Name the models whose tables its rows come from.",
        )
    if not router.allow_migrate_model(database, concrete):
        raise RefusedError(
            f"{concrete._meta.label} does not live in the database {database!r}, which the backup is of.",
            remedy="Choose a backup of its database; 'listbackups' shows what there is.",
        )
    return concrete
