"""Which rows are asked for: primary keys and Django lookups become a query on the copy. Values only, never SQL."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ObjectDoesNotExist, ValidationError
from django.db.models import Model, QuerySet

from erp_backup.core.errors import UsageError
from erp_backup.modelchecks.base import all_rows
from erp_backup.services.rows.request import RowsRequest

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_LISTS = {"in", "range"}


def selection_sql(
    model: type[Model], alias: str, columns: Sequence[str], request: RowsRequest
) -> tuple[str, tuple[Any, ...]] | None:
    """Return the query of the key ``columns`` of the rows asked for, with its parameters; None when all are.

    Raises UsageError for fields, lookups and values that do not exist or do not fit.
    """
    if not request.keys and not request.where:
        return None
    rows: QuerySet[Any] = all_rows(model, alias).order_by()
    for subject, filters in [*_keys(model, request.keys), *map(_where, request.where)]:
        rows = _filtered(rows, filters, subject)
    names = {field.column: field.attname for field in model._meta.concrete_fields if hasattr(field, "column")}
    query = rows.values_list(*(names[column] for column in columns)).query
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            statement, params = query.get_compiler(using=alias).as_sql()
    except EmptyResultSet:
        raise UsageError("No row can be what is asked for.", remedy="Look at --pk and --where.") from None
    return statement, tuple(params)


def require_answerable(model: type[Model], alias: str, request: RowsRequest) -> None:
    """Raise UsageError for what no database could answer, before anything is restored."""
    selection_sql(model, alias, [field.column for field in _key_fields(model)], request)


def _key_fields(model: type[Model]) -> list[Any]:
    """Return the fields of the primary key: a composite one has several."""
    return list(getattr(model._meta, "pk_fields", [model._meta.pk]))


def _keys(model: type[Model], keys: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    if not keys:
        return []
    if len(_key_fields(model)) > 1:
        raise UsageError(
            f"The primary key of {model._meta.label} has several columns.", remedy="Choose rows with --where."
        )
    return [("--pk", {"pk__in": list(keys)})]


def _where(text: str) -> tuple[str, dict[str, Any]]:
    lookup, separator, value = text.partition("=")
    if not separator or not lookup.strip():
        raise UsageError(
            f"{text!r} is no condition.", remedy="Write FIELD=VALUE, as in --where created_at__gte=2026-01-01."
        )
    lookup = lookup.strip()
    return text, {lookup: _value(lookup.rpartition("__")[2], value)}


def _value(lookup: str, value: str) -> Any:
    """Return what Django's lookup expects: a list, a truth, or the text that the field reads."""
    if lookup in _LISTS:
        return value.split(",")
    if lookup == "isnull":
        if value.lower() not in _TRUE | _FALSE:
            raise UsageError(f"isnull is true or false, and not {value!r}.")
        return value.lower() in _TRUE
    return value


def _filtered(rows: QuerySet[Any], filters: dict[str, Any], subject: str) -> QuerySet[Any]:
    try:
        # A time without a zone is meant in the ERP's own; that is what Django takes it for, and warns of.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return rows.filter(**filters)
    except (FieldError, FieldDoesNotExist, ObjectDoesNotExist, ValidationError, ValueError, TypeError) as error:
        said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{subject!r} does not fit {rows.model._meta.label}: {said}", remedy="Use its fields and Django's lookups."
        ) from error
