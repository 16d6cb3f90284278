"""Starting the ERP in a process of its own that has a copy as its database: for its functions and its health page."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from erp_backup.core.errors import BackupError, CorruptError, MigrationError, ProgramError, TimeLimitError
from erp_backup.core.figures import Measurement
from erp_backup.core.process import Command, ProcessRunner
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.child import LOOPBACK
from erp_backup.modelchecks.functions import FunctionCheck
from erp_backup.modelchecks.jobs import Answer, CheckJob, Job, JobKind, line_of, plain, read_answer
from erp_backup.modelchecks.runner import TIME_LIMIT, error_text

START_LIMIT = 120.0  # seconds that an ERP may take to start: imports alone were seen to cost 40 seconds of CPU
PROBE_LIMIT = 30.0  # seconds that its health page may take to answer
LAST_LINES = 20  # lines of a failed migration's output that go into the error
BODY_LENGTH = 500  # bytes of the answer that are kept
_MODULE = "erp_backup.modelchecks.child"
_PACKAGES = Path(__file__).resolve().parents[2]


class ProcessDatabase(Protocol):
    """How another process uses a snapshot or a copy: a ``DATABASES`` entry, and SQL that begins each connection."""

    @property
    def settings(self) -> dict[str, Any]:
        """The entry of ``DATABASES``."""
        ...

    @property
    def initial_sql(self) -> tuple[str, ...]:
        """What begins the transaction that everything then runs in; empty: nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """What the ERP's health page said; ``status`` is 0 when it said nothing, ``problem`` why that is not healthy."""

    status: int = 0
    body: str = ""
    location: str = ""
    problem: str = ""

    @property
    def is_healthy(self) -> bool:
        """Whether it answered with success."""
        return not self.problem


def measure_isolated(
    runner: ProcessRunner,
    database: ProcessDatabase,
    checks: Sequence[ModelCheck],
    *,
    alias: str,
    now: datetime,
    settings_module: str,
    time_limit: float = TIME_LIMIT,
    start_limit: float = START_LIMIT,
) -> tuple[Measurement, ...]:
    """Measure functions that take no ``using``, all in one process where the copy takes the place of ``alias``.

    A process that does not start, dies or outlasts its limits (each check's own, and ``start_limit``) is the
    error of each check.
    """
    errors: dict[str, Measurement] = {}
    jobs = []
    for check in checks:
        try:
            jobs.append(_job_of(check, time_limit))
        except BackupError as error:
            errors[check.name] = _failed(check.name, error)
    job = _job(database, alias=alias, now=now, settings_module=settings_module)
    measured = _run(runner, dataclasses.replace(job, checks=tuple(jobs)), start_limit) if jobs else {}
    return tuple({**measured, **errors}[check.name] for check in checks)


def _job_of(check: ModelCheck, time_limit: float) -> CheckJob:
    if not isinstance(check, FunctionCheck):
        raise TypeError(f"{check.name!r} is no function.")
    return CheckJob(
        name=check.name,
        function=check.path,
        time_limit=float(check.time_limit or time_limit),
        unit=check.unit,
        places=check.places,
    )


def _job(database: ProcessDatabase, *, alias: str, now: datetime, settings_module: str) -> Job:
    return Job(
        settings_module=settings_module,
        sys_path=tuple(folder or str(Path.cwd()) for folder in sys.path),
        alias=alias,
        database=plain(database.settings),
        initial_sql=database.initial_sql,
        now=now,
    )


def _run(runner: ProcessRunner, job: Job, start_limit: float) -> dict[str, Measurement]:
    total = start_limit + sum(check.time_limit for check in job.checks)
    try:
        completed = runner.run(_command(), stdin=[line_of(job)], total_limit=total)
        answer = read_answer(completed.stdout)
    except (ProgramError, CorruptError) as error:
        return {check.name: _failed(check.name, error) for check in job.checks}
    results = {measurement.check: measurement for measurement in answer.measurements}
    silent = Measurement(check="", error=f"The ERP did not start in a process of its own: {answer.error}")
    return {check.name: results.get(check.name, dataclasses.replace(silent, check=check.name)) for check in job.checks}


def _failed(name: str, error: BackupError) -> Measurement:
    return Measurement(check=name, error=error_text(error), timed_out=isinstance(error, TimeLimitError))


def _command() -> Command:
    """Return the command that starts the child.

    It gets the whole environment, unlike every other program: it is the ERP itself, whose settings read theirs
    from there.
    """
    folders = [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    # -P: what lies in the current folder is not imported unless the parent would import it too.
    return Command(argv=(sys.executable, "-P", "-m", _MODULE), env=environment)


def probe(
    runner: ProcessRunner,
    database: ProcessDatabase,
    url: str,
    *,
    alias: str,
    now: datetime,
    settings_module: str,
    start_limit: float = START_LIMIT,
    probe_limit: float = PROBE_LIMIT,
) -> ProbeAnswer:
    """Start the ERP's web application on the copy and ask its health page: ``url`` is a path or a whole address.

    A redirect is not healthy: it is what a login page in front of everything answers, or a wrong address.
    """
    job = dataclasses.replace(_job(database, alias=alias, now=now, settings_module=settings_module), kind=JobKind.SERVE)
    output = runner.stream(_command(), stdin=[line_of(job)], total_limit=start_limit)
    with contextlib.closing(cast("Generator[bytes]", output)):
        try:
            answer = _first_answer(output)
        except (ProgramError, CorruptError) as error:
            return ProbeAnswer(problem=f"The ERP did not start: {error_text(error)}")
        if answer.error:
            return ProbeAnswer(problem=f"The ERP did not start: {answer.error}")
        return _ask(answer.port, url, probe_limit)


def migrate(
    runner: ProcessRunner,
    database: ProcessDatabase,
    *,
    alias: str,
    now: datetime,
    settings_module: str,
    limit: float,
) -> str:
    """Migrate the copy, in a process of the ERP where it takes the place of ``alias``.

    Returns the end of what that process said. ``limit`` is in seconds. Raises MigrationError.
    """
    job = _job(database, alias=alias, now=now, settings_module=settings_module)
    line = line_of(dataclasses.replace(job, kind=JobKind.MIGRATE))
    try:
        completed = runner.run(_command(), stdin=[line], total_limit=limit)
        answer, said = read_answer(completed.stdout), completed.stderr
    except ProgramError as error:
        raise _migration_error(error_text(error), error.stderr) from error
    except CorruptError as error:
        raise _migration_error("its process ended without a result", "") from error
    if answer.error:
        raise _migration_error(answer.error, said)
    return said


def _migration_error(reason: str, said: str) -> MigrationError:
    end = "\n".join(said.strip().splitlines()[-LAST_LINES:])
    return MigrationError(
        f"The restored copy could not be migrated: {reason}" + (f"\n{end}\n" if end else ""),
        stderr=said,
        remedy="The live database is untouched. Correct the migration, or restore with the code of the backup's time.",
    )


def _first_answer(output: Any) -> Answer:
    received = b""
    for chunk in output:
        received += chunk
        if b"\n" in received:
            break
    return read_answer(received)


def _ask(port: int, url: str, limit: float) -> ProbeAnswer:
    parts = urlsplit(url if "//" in url else f"//localhost/{url.removeprefix('/')}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=limit)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": parts.netloc, "X-Forwarded-Proto": "https"})
            response = connection.getresponse()
            body = response.read(BODY_LENGTH).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return ProbeAnswer(problem=f"Its health page {path} did not answer: {error_text(error)}")
    location = response.getheader("Location") or ""
    problem = _problem_of(response.status, path, location)
    return ProbeAnswer(status=response.status, body=body, location=location, problem=problem)


def _problem_of(status: int, path: str, location: str) -> str:
    if http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
        return ""
    if status < http.HTTPStatus.BAD_REQUEST:
        return (
            f"Its health page {path} answered {status}, a redirect to {location or 'nowhere'}: that says nothing of "
            "its health. Exempt the page from the login, or give the address that it redirects to."
        )
    return f"Its health page {path} answered {status}."
