"""The isolated process, ``python -m erp_backup.modelchecks.child``: the ERP with a copy in its database's place.

The job comes on standard input, never in argv, which every user of the machine can read. The answer is one line
on standard output; whatever the ERP prints goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import IO, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.core.management import call_command
from django.core.servers.basehttp import get_internal_wsgi_application
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import RefusedError
from erp_backup.core.figures import Measurement
from erp_backup.modelchecks import refused, sandbox
from erp_backup.modelchecks.base import Context
from erp_backup.modelchecks.functions import FunctionCheck
from erp_backup.modelchecks.jobs import Answer, CheckJob, Job, JobKind, line_of, read_job
from erp_backup.modelchecks.registry import register_temporarily
from erp_backup.modelchecks.runner import error_text, measure_one

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Do the job on standard input."""
    job = read_job(sys.stdin.buffer.readline())
    with _own_output() as output:
        try:
            _start(job)
            answer = _done(job, output)
        except Exception as error:  # noqa: BLE001 - whatever the ERP raises is the answer
            answer = Answer(error=error_text(error))
        output.write(line_of(answer))


def _done(job: Job, output: IO[bytes]) -> Answer:
    match job.kind:
        case JobKind.CHECKS:
            return Answer(measurements=tuple(map(_measurer(job), job.checks)))
        case JobKind.SERVE:
            return _serve(output)
        case JobKind.MIGRATE:
            return _migrate(job)


def _own_output() -> IO[bytes]:
    """Return standard output as it was; from now on what anybody prints goes to standard error, and input is empty."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return output


def _start(job: Job) -> None:
    """Start the ERP; from the first line of it there is no network, and no database but the copy."""
    sandbox.refuse_network(sandbox.hosts_of(job.database))
    sys.path[:] = [*job.sys_path, *(folder for folder in sys.path if folder not in job.sys_path)]
    os.environ["DJANGO_SETTINGS_MODULE"] = job.settings_module
    settings = importlib.import_module(job.settings_module)
    sandbox.redirect(settings, alias=job.alias, database=job.database, serves=job.kind is JobKind.SERVE)
    connection_created.connect(_beginner(job), weak=False)
    django.setup()


def _beginner(job: Job) -> Callable[..., None]:
    """Return what begins the snapshot's transaction on each connection to the copy, before anybody else uses it."""

    def begin(connection: BaseDatabaseWrapper, **_arguments: Any) -> None:
        if connection.settings_dict["ENGINE"] == job.database["ENGINE"] and job.initial_sql:
            _begin(connection, job.initial_sql)

    return begin


def _begin(connection: BaseDatabaseWrapper, statements: tuple[str, ...]) -> None:
    """Run ``statements``, which begin a transaction, and never let Django end it.

    The driver stays in autocommit, so that it sends no BEGIN of its own before ours. Django is told that it is
    inside an atomic block: it then uses savepoints, and refuses commit, rollback and reconnecting, after which
    it would read another state, or write.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET default_transaction_read_only = on")
        for statement in statements:
            cursor.execute(statement)
    connection.autocommit = False
    connection.in_atomic_block = True
    # Code that began a block before the connection was there, or has lost count of its blocks, meets these.
    connection.commit = _refuse_to_end  # type: ignore[method-assign]  # of this connection only
    connection.rollback = _refuse_to_end  # type: ignore[method-assign]  # the same


def _refuse_to_end() -> None:
    raise RefusedError("It would end the transaction that sees the snapshot.", remedy="Use transaction.atomic().")


def _measurer(job: Job) -> Callable[[CheckJob], Measurement]:
    mirrors = {alias for alias in connections if connections.settings[alias]["ENGINE"] != refused.__name__}
    context = Context(using=job.alias, database=job.alias, now=job.now, mirrors=frozenset(mirrors))
    clock = SystemClock()
    # Opened before the first block begins: Django would count that one before the transaction it is in.
    connections[job.alias].ensure_connection()

    def measure(given: CheckJob) -> Measurement:
        try:
            check = _check_of(given)
        except Exception as error:  # noqa: BLE001 - a module that cannot be imported is its check's error
            return Measurement(check=given.name, error=error_text(error))
        return measure_one(check, context, clock=clock)

    return measure


def _check_of(given: CheckJob) -> FunctionCheck:
    module, _, qualified = given.function.partition(":")
    function = reduce(getattr, qualified.split("."), importlib.import_module(module))
    options: dict[str, Any] = {"time_limit": given.time_limit, "unit": given.unit, "places": given.places}
    with register_temporarily(empty=True):
        return FunctionCheck(given.name, function, **options)  # type: ignore[arg-type]  # reduce's type is the module's


def _migrate(job: Job) -> Answer:
    """Apply every migration; a prompt would have nobody to answer it."""
    call_command("migrate", database=job.alias, interactive=False, verbosity=1, no_color=True)
    connections.close_all()
    return Answer()


class _Quiet(WSGIRequestHandler):
    """Answers without a line for each request."""

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def _serve(output: IO[bytes]) -> Answer:
    """Serve the ERP on a free port of this machine only, tell which, and go on until somebody ends us."""
    with make_server(LOOPBACK, 0, get_internal_wsgi_application(), handler_class=_Quiet) as server:
        output.write(line_of(Answer(port=server.server_port)))
        output.flush()
        server.serve_forever()
    return Answer()


if __name__ == "__main__":
    main()
