"""Model checks that stand in the settings: ``ERP_BACKUP["MODEL_CHECKS"]``, no code in the ERP.

Each is a dictionary (``{"kind": "count", "name": "users.active", "model": "auth.User", "filters": {"is_active":
True}}``) or the dotted path of a declaration or a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db import models
from django.db.models import Aggregate
from django.utils.module_loading import import_string

from erp_backup.exceptions import ConfigurationError
from erp_backup.modelchecks.balances import Balance
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.builtin import builtins
from erp_backup.modelchecks.counts import Count, Recent, Total
from erp_backup.modelchecks.functions import FunctionCheck
from erp_backup.modelchecks.registry import Registry, current, register_temporarily
from erp_backup.modelchecks.rules import AtMost, Equal
from erp_backup.modelchecks.sameness import Same
from erp_backup.modelchecks.suggest import did_you_mean

KINDS: Mapping[str, type[ModelCheck]] = {
    "count": Count,
    "recent": Recent,
    "total": Total,
    "balance": Balance,
    "equal": Equal,
    "at_most": AtMost,
    "same": Same,
}
AGGREGATES: Mapping[str, type[Aggregate]] = {
    "sum": models.Sum,
    "count": models.Count,
    "min": models.Min,
    "max": models.Max,
    "avg": models.Avg,
}
_AMOUNTS = {"amount", "field", "aggregate", "smaller", "greater"}
_WHERE = "ERP_BACKUP['MODEL_CHECKS']"


def checks_for(database: str, declarations: Iterable[object] = ()) -> tuple[ModelCheck, ...]:
    """Return the model checks of one alias's backups: built in, of the ERP's modules, of the settings.

    Raises ConfigurationError for two of one name, and for a declaration that means nothing.
    """
    return tuple(check for check in all_checks(database, declarations) if check.database == database)


def all_checks(database: str, declarations: Iterable[object] = ()) -> Registry:
    """Return the model checks of every alias, with the built-in ones of ``database``."""
    declared = parse(declarations)
    known = list(current())
    fresh = [check for check in declared if not any(check is other for other in known)]
    return Registry([*builtins(database), *known, *fresh])


def parse(declarations: Iterable[object]) -> tuple[ModelCheck, ...]:
    """Return the model checks that the settings declare. Raises ConfigurationError naming the declaration."""
    parsed = []
    for index, declaration in enumerate(declarations):
        where = f"{_WHERE}[{index}]"
        if isinstance(declaration, str):
            parsed.append(_imported(declaration, where))
        elif isinstance(declaration, Mapping):
            parsed.append(_made(declaration, where))
        else:
            raise ConfigurationError(
                f"{where} is {type(declaration).__name__}.", remedy="Give a dictionary or a dotted path."
            )
    return tuple(parsed)


def _imported(path: str, where: str) -> ModelCheck:
    """Return the model check at a dotted path; a plain function becomes one, named by its path."""
    try:
        found = import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"{where} cannot be imported: {error}.") from error
    if isinstance(found, ModelCheck):
        return found
    if not inspect.isfunction(found):
        raise ConfigurationError(f"{where} is {path}, which is neither a model check nor a function.")
    registered = next((c for c in current() if isinstance(c, FunctionCheck) and c.function is found), None)
    return registered or _apart(lambda: FunctionCheck(path, found), where)


def _made(declaration: Mapping[Any, Any], where: str) -> ModelCheck:
    given = {str(key): value for key, value in declaration.items()}
    kind = given.pop("kind", None)
    if kind not in KINDS:
        raise ConfigurationError(f"{where} has the kind {kind!r}.", remedy=did_you_mean(str(kind), KINDS))
    known, needed = _parameters(KINDS[kind])
    for key in given:
        if key not in known:
            raise ConfigurationError(f"{where} has an unknown key {key!r}.", remedy=did_you_mean(key, known))
    missing = [key for key in needed if key not in given]
    if missing:
        raise ConfigurationError(f"{where} lacks {', '.join(map(repr, missing))}, which a {kind!r} needs.")
    return _apart(lambda: _instance(KINDS[kind], given, where), where)


def _parameters(kind: type[ModelCheck]) -> tuple[set[str], list[str]]:
    """Return which keys a kind takes, and which it needs: the names of its own arguments."""
    parameters = inspect.signature(kind).parameters.values()
    variable = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    named = [parameter for parameter in parameters if parameter.kind not in variable]
    needed = [parameter.name for parameter in named if parameter.default is inspect.Parameter.empty]
    known = {parameter.name for parameter in named} | {"filters"}
    return (known | {"fields"}, [*needed, "fields"]) if kind is Same else (known, needed)


def _instance(kind: Callable[..., ModelCheck], given: dict[str, Any], where: str) -> ModelCheck:
    filters = given.pop("filters", {})
    if not isinstance(filters, Mapping):
        raise ConfigurationError(f"{where}: 'filters' is no dictionary.")
    fields = _texts(given.pop("fields", ()), where)
    values = {key: _amount(value, where) if key in _AMOUNTS else value for key, value in given.items()}
    # Filters become one Q, so that a field may be named like one of our own keys.
    positional = [values.pop(name) for name in _positional(kind) if name in values]
    return kind(*positional, *fields, models.Q(**filters), **values)


def _positional(kind: Callable[..., ModelCheck]) -> list[str]:
    parameters = inspect.signature(kind).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def _texts(value: object, where: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"{where}: 'fields' is no list of field names.")
    return list(texts)


def _amount(value: object, where: str) -> Any:
    """Return an amount: a field's name, a number, or an aggregate such as ``{"sum": "entries__quantity"}``."""
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or next(iter(value)) not in AGGREGATES:
        name = str(next(iter(value), ""))
        raise ConfigurationError(f"{where}: {dict(value)!r} is no aggregate.", remedy=did_you_mean(name, AGGREGATES))
    [(name, path)] = value.items()
    return AGGREGATES[name](path)


def _apart(make: Callable[[], ModelCheck], where: str) -> ModelCheck:
    """Make a model check that is nobody's registered declaration: the settings may change and be read again."""
    with register_temporarily(empty=True):
        check = make()
    check.place = where
    return check
