"""What an isolated process is told, on its standard input, and what it answers: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from erp_backup.core import jsondata
from erp_backup.core.figures import Measurement
from erp_backup.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckJob:
    """A function to run: ``function`` is ``module:name``, ``time_limit`` in seconds."""

    name: str
    function: str
    time_limit: float
    unit: str = ""
    places: int | None = None


class JobKind(StrEnum):
    """What the ERP is started for."""

    CHECKS = "checks"  # to run functions of its
    SERVE = "serve"  # to answer requests, until somebody ends it
    MIGRATE = "migrate"  # to bring the copy's schema to that of the code


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The ERP to start, with a copy in the place of its database ``alias``, and what for."""

    settings_module: str
    sys_path: tuple[str, ...]
    alias: str
    database: dict[str, Any] = field(repr=False)
    initial_sql: tuple[str, ...] = ()
    now: datetime
    checks: tuple[CheckJob, ...] = ()
    kind: JobKind = JobKind.CHECKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it: measurements, or the port that the ERP listens on, or why it could not be done."""

    measurements: tuple[Measurement, ...] = ()
    port: int = 0
    error: str = ""


def line_of(data: Job | Answer) -> bytes:
    """Return ``data`` as one line."""
    return json.dumps(jsondata.to_data(data), ensure_ascii=True).encode() + b"\n"


def read_job(line: bytes) -> Job:
    """Return the job in ``line``. Raises CorruptError."""
    return jsondata.from_data(Job, jsondata.parse(line))


def read_answer(line: bytes) -> Answer:
    """Return the answer in ``line``. Raises CorruptError."""
    return jsondata.from_data(Answer, jsondata.parse(line))


def plain(settings: object, where: str = "The database's settings") -> Any:
    """Return a ``DATABASES`` entry as JSON has it. Raises ConfigurationError for what JSON does not have."""
    if isinstance(settings, Mapping):
        return {str(key): plain(value, f"{where}[{key!r}]") for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(value, where) for value in settings]
    if isinstance(settings, Enum):
        return plain(settings.value, where)
    if isinstance(settings, Path):
        return str(settings)
    if settings is None or isinstance(settings, str | int | float):
        return settings
    raise ConfigurationError(f"{where} is {type(settings).__name__}, which cannot be handed to another process.")
