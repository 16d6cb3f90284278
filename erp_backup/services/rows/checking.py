"""Model checks on the live database inside the transaction: the rules that held must hold with the rows back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

from erp_backup.core.comparison import describe_value
from erp_backup.core.figures import Measurement, MeasurementKind
from erp_backup.modelchecks import runner
from erp_backup.modelchecks.declared import checks_for
from erp_backup.services.environment import Environment
from erp_backup.services.rows.request import CheckChange


def measure_inside(environment: Environment, alias: str, database: str) -> tuple[Measurement, ...]:
    """Measure, in the transaction that ``alias`` is in, all model checks that need no process of their own."""
    config = environment.config
    checks = [check for check in checks_for(database, config.model_checks) if not check.is_isolated]
    limit = config.model_check_time_limit.total_seconds()
    now = environment.clock.now()
    return runner.measure(checks, alias=alias, database=database, now=now, clock=environment.clock, time_limit=limit)


def changes_between(before: Sequence[Measurement], after: Sequence[Measurement]) -> Iterator[CheckChange]:
    """Yield every figure that is another now."""
    known = {measurement.check: measurement for measurement in before}
    for now in after:
        then = known.get(now.check)
        if then is not None and _essence(then) != _essence(now):
            yield CheckChange(
                check=now.check, before=describe_value(then), after=describe_value(now), is_worse=_is_worse(then, now)
            )


def _essence(measurement: Measurement) -> tuple[object, ...]:
    return measurement.value, measurement.digest, measurement.error


def _is_worse(before: Measurement, after: Measurement) -> bool:
    """Whether a rule is broken by more rows than before, or can no longer be measured."""
    if after.error and not before.error:
        return True
    if after.kind is not MeasurementKind.INVARIANT or before.error:
        return False
    return _number(after.value) > _number(before.value)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)
