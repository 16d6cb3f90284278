"""What every model check is: a name, the database it belongs to, a time limit, and something it measures."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeAlias

from django.apps import apps
from django.core.exceptions import FieldError
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model, Q, QuerySet

from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.exceptions import ConfigurationError
from erp_backup.modelchecks import registry
from erp_backup.modelchecks.suggest import did_you_mean

ModelName: TypeAlias = "str | type[Model]"  # "app.Model", or the class
Seconds: TypeAlias = "float | timedelta"

_NAME = re.compile(r"[\w.:-]{1,100}")
_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where and when a model check measures.

    ``using`` is the Django alias of the snapshot or copy, ``database`` the alias of the settings that it stands for,
    ``now`` the snapshot's time (aware), ``mirrors`` other aliases that lead to the same copy.
    """

    using: str
    database: str
    now: datetime
    mirrors: frozenset[str] = frozenset()


class ModelCheck(ABC):
    """Something of the ERP that is measured in a snapshot and must be found again in its copy.

    Making one registers it. ``time_limit`` is in seconds or a timedelta (None: the setting), ``database`` the
    alias whose backups it belongs to, ``unit`` what is counted, ``places`` the decimal places of its figures
    where its fields do not say.
    """

    # What does it measure? A function may tell only by what it returns.
    kind: ClassVar[MeasurementKind] = MeasurementKind.NUMBER
    # Must it run in a process of its own, whose database is the copy?
    is_isolated: bool = False

    def __init__(
        self,
        name: str,
        *,
        time_limit: Seconds | None = None,
        database: str | None = None,
        unit: str = "",
        places: int | None = None,
    ) -> None:
        self.name = name
        self.place = _place_of_declaration()
        self.time_limit = time_limit.total_seconds() if isinstance(time_limit, timedelta) else time_limit
        self.unit = unit
        self.places = places
        self._database = database
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"A model check declared in {self.place} is named {name!r}.",
                remedy='Name it like "stock.balances": letters, digits, dots, at most 100.',
            )
        registry.current().add(self)

    @property
    def database(self) -> str:
        """The alias whose backups it belongs to."""
        return self._database or DEFAULT_DB_ALIAS

    @abstractmethod
    def measure(self, context: Context) -> Measurement:
        """Measure; raises whatever goes wrong, which the runner turns into a finding."""

    def problems(self) -> list[str]:
        """Return what is wrong with the declaration itself, without reading a database."""
        return []

    def result(self, **values: Any) -> Measurement:
        """Return a measurement of this model check."""
        return Measurement(check=self.name, unit=self.unit, **{"kind": self.kind, **values})


class RowsCheck(ModelCheck):
    """A model check of one model's rows, all of them or those that ``q`` and ``filters`` select.

    It sees every row of the table, also those that a manager of the ERP hides.
    """

    def __init__(
        self,
        name: str,
        model: ModelName,
        q: Iterable[Q] = (),
        filters: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._model = model
        self._q = tuple(q)
        self._filters = dict(filters or {})
        super().__init__(name, **options)

    @property
    def model(self) -> type[Model]:
        """The model. Raises ConfigurationError for a label that no installed app has."""
        return resolve_model(self._model)

    @property
    def database(self) -> str:
        """The alias whose backups it belongs to: where the routers send the model's writes, unless it was given.

        Not where they send its reads, which may be any of several replicas.
        """
        return self._database or router.db_for_write(self.model)

    def rows(self, using: str) -> QuerySet[Any]:
        """Return the rows it is about, unordered."""
        return all_rows(self.model, using).filter(*self._q, **self._filters)

    @abstractmethod
    def query(self, context: Context) -> QuerySet[Any]:
        """Return the query that it measures with; building it reads nothing."""

    def problems(self) -> list[str]:
        """Build the query once, so that a field that does not exist is found before the backup, not during it."""
        try:
            self.query(Context(using=self.database, database=self.database, now=datetime.fromtimestamp(0, tz=UTC)))
        except ConfigurationError as error:
            return [str(error)]
        except (FieldError, ValueError, TypeError, AttributeError) as error:
            return [explained(error)]
        return []


def all_rows(model: type[Model], using: str) -> QuerySet[Any]:
    """Return every row of a model on that alias, unordered, whatever its managers hide."""
    return QuerySet(model=model, using=using).order_by()


def resolve_model(model: ModelName) -> type[Model]:
    """Return the model of a label like ``erp.Item``. Raises ConfigurationError naming the nearest one."""
    if not isinstance(model, str):
        return model
    try:
        return apps.get_model(model)
    except (LookupError, ValueError) as error:
        known = [candidate._meta.label for candidate in apps.get_models()]
        raise ConfigurationError(f"There is no model {model!r}.", remedy=did_you_mean(model, known)) from error


def explained(error: Exception) -> str:
    """Return what is wrong with a field name, with the nearest one that exists."""
    found = re.search(r"'([^']+)' into field.*Choices are: (.+)", str(error), re.DOTALL)
    if found is None:
        return str(error)
    return f"There is no field {found[1]!r}. {did_you_mean(found[1], found[2].strip().split(', '))}"


def _place_of_declaration() -> str:
    """Return the first place outside this package that the call came through."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__')}, line {frame.f_lineno}" if frame is not None else "erp_backup itself"
