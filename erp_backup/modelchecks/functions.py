"""Functions of the ERP as model checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from erp_backup.core.figures import Measurement
from erp_backup.exceptions import ConfigurationError
from erp_backup.modelchecks.base import Context, ModelCheck, Seconds
from erp_backup.modelchecks.results import measurement_of

Function = TypeVar("Function", bound=Callable[..., Any])

USING, NOW = "using", "now"


def model_check(
    name: str,
    *,
    time_limit: Seconds | None = None,
    database: str = "default",
    unit: str = "",
    places: int | None = None,
) -> Callable[[Function], Function]:
    """Make a function a model check; the function itself stays as it is.

    It takes ``using``, the Django alias to read from, and, if it likes, ``now``, the snapshot's time (aware).
    One that takes no ``using`` is run in a process of its own whose database *is* the copy. It returns a
    number, a dictionary of numbers, or the offending rows as a queryset or :class:`~erp_backup.Invariant`::

        @model_check("stock.no_orphans")
        def no_orphans(using: str) -> Invariant:
            return Invariant(StockLedgerEntry.objects.using(using).filter(item=None))
    """

    def register(function: Function) -> Function:
        FunctionCheck(name, function, time_limit=time_limit, database=database, unit=unit, places=places)
        return function

    return register


class FunctionCheck(ModelCheck):
    """A model check that a function measures. See :func:`model_check`."""

    def __init__(self, name: str, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self._arguments = _arguments_of(name, function)
        self.is_isolated = USING not in self._arguments
        super().__init__(name, **options)

    @property
    def path(self) -> str:
        """Where another process finds the function, as ``module:name``. Raises ConfigurationError where it cannot."""
        qualified: str = getattr(self.function, "__qualname__", "")
        if not qualified or "<" in qualified:
            raise ConfigurationError(
                f"Model check {self.name!r} takes no {USING!r}, and another process cannot import its function.",
                remedy="Let the function stand in a module by itself.",
            )
        return f"{self.function.__module__}:{qualified}"

    def measure(self, context: Context) -> Measurement:
        """Call the function, and evaluate what it returns."""
        given = {USING: context.using, NOW: context.now}
        result = self.function(**{name: given[name] for name in self._arguments})
        return measurement_of(result, check=self.name, unit=self.unit, places=self.places)


def _arguments_of(name: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """Return which of our arguments the function takes. Raises ConfigurationError when it needs others."""
    parameters = inspect.signature(function).parameters.values()
    taken = tuple(parameter.name for parameter in parameters if parameter.name in {USING, NOW})
    variable = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    for parameter in parameters:
        needed = parameter.default is inspect.Parameter.empty and parameter.kind not in variable
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (needed and parameter.name not in taken):
            raise ConfigurationError(
                f"The function of model check {name!r} has an argument {parameter.name!r}.",
                remedy="It can have 'using', the alias to read from, and 'now', the snapshot's time.",
            )
    return taken
