"""Running model checks on one database alias: each by itself, within its time, and a failure is a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from django.db import connections, transaction

from erp_backup.core.clock import Clock
from erp_backup.core.errors import BackupError, InterruptedBySignal
from erp_backup.core.figures import Measurement
from erp_backup.modelchecks import guard
from erp_backup.modelchecks.base import Context, ModelCheck
from erp_backup.modelchecks.limits import Limit, OutOfTime, enforced

TIME_LIMIT = 300.0  # seconds, where neither the model check nor the settings say
LONGEST_ERROR = 300  # characters

Isolated: TypeAlias = Callable[[Sequence[ModelCheck]], tuple[Measurement, ...]]


def measure(
    checks: Sequence[ModelCheck],
    *,
    alias: str,
    database: str,
    now: datetime,
    clock: Clock,
    isolated: Isolated | None = None,
    time_limit: float = TIME_LIMIT,
) -> tuple[Measurement, ...]:
    """Measure ``checks`` on the Django alias ``alias``; one that raises or is out of time says so in its result.

    ``database`` is the alias of the settings that ``alias`` stands for, ``now`` the snapshot's time. Those that
    need a process of their own are handed to ``isolated``, all at once. Whatever a check does to the database
    is rolled back.
    """
    apart = [check for check in checks if check.is_isolated]
    results = {result.check: result for result in _in_processes(apart, isolated)}
    context = Context(using=alias, database=database, now=now)
    for check in checks:
        if not check.is_isolated:
            results[check.name] = measure_one(check, context, clock=clock, time_limit=time_limit)
    return tuple(results[check.name] for check in checks)


def _in_processes(checks: Sequence[ModelCheck], isolated: Isolated | None) -> tuple[Measurement, ...]:
    if isolated is not None and checks:
        return isolated(checks)
    error = "It takes no `using`, and no process of its own could be started for it here."
    return tuple(Measurement(check=check.name, kind=check.kind, error=error) for check in checks)


def measure_one(check: ModelCheck, context: Context, *, clock: Clock, time_limit: float = TIME_LIMIT) -> Measurement:
    """Measure one model check within its own limit, else ``time_limit`` seconds. Only what stops the run is raised."""
    limit = Limit(clock=clock, seconds=check.time_limit or time_limit)
    try:
        measured = _measured(check, context, limit)
    except InterruptedBySignal:
        raise
    except OutOfTime:
        measured = _late(check, limit)
    except Exception as error:  # noqa: BLE001 - the ERP's own code; it becomes a finding, never a crash
        measured = _late(check, limit) if limit.is_over else failed(check, error)
    return dataclasses.replace(measured, milliseconds=round(limit.elapsed * 1000))


def _measured(check: ModelCheck, context: Context, limit: Limit) -> Measurement:
    """Measure in a savepoint of its own, so that an error does not abort the transaction that others measure in."""
    with transaction.atomic(using=context.using):
        with guard.only({context.using, *context.mirrors}), enforced(limit, connections[context.using]):
            measurement = check.measure(context)
        if limit.has_rung:
            raise OutOfTime  # it was swallowed; the value is of a check that was cut short
        # Nothing it set or wrote stays, and PostgreSQL forgets its time limit.
        transaction.set_rollback(True, using=context.using)
    return measurement


def _late(check: ModelCheck, limit: Limit) -> Measurement:
    message = f"It ran for longer than its time limit of {limit.seconds:g} s."
    return Measurement(check=check.name, kind=check.kind, unit=check.unit, error=message, timed_out=True)


def failed(check: ModelCheck, error: Exception) -> Measurement:
    """Return the measurement of a check that raised."""
    return Measurement(check=check.name, kind=check.kind, unit=check.unit, error=error_text(error))


def error_text(error: BaseException) -> str:
    """Return an error in one line of at most 300 characters."""
    text = str(error) if isinstance(error, BackupError) else f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
