"""Connections to PostgreSQL, for us (psycopg) and for its programs (environment and passfile): data first."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import django.db
import psycopg
import psycopg.types.json
from psycopg.pq import Conninfo

from erp_backup.core.errors import (
    BackupError,
    DatabaseError,
    LockedError,
    NoSpaceError,
    RefusedError,
    ServerUnreachableError,
)

APPLICATION_NAME = "erp_backup"

# A dead network is noticed within a minute instead of never (a black-holed pg_dump does not even die of SIGTERM).
NETWORK = {
    "keepalives": "1",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "60000",
}

# What would stop a session half-way, whoever set it: the role, the database or the server.
LIMITS = {
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "0",
    "statement_timeout": "0",
    "transaction_timeout": "0",
}
# And what would change the text that fingerprints and definitions are made of. Unknown to some servers, so looked up.
SESSION = {
    **LIMITS,
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "default_transaction_read_only": "off",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "xmlbinary": "base64",
    "xmloption": "content",
}
_SET_SESSION = (
    "SELECT pg_catalog.set_config(name, %(values)s::jsonb ->> name, false) "
    "FROM pg_catalog.pg_settings WHERE %(values)s::jsonb ? name"
)

# libpq has neither a variable nor a file of ours for these, and a command line is read by everybody.
SECRET_PARAMETERS = {"sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}
_UNREACHABLE = re.compile(r"08|28|3D|53300|57P")  # SQLSTATEs that begin so

Connection = psycopg.Connection[tuple[Any, ...]]


def parameters(settings: Mapping[str, Any], *, database: str | None = None) -> dict[str, str]:
    """Return libpq's parameters for a Django ``DATABASES`` entry; ``database`` names another database of that server.

    Django's option ``assume_role`` becomes a setting that the server applies, to our sessions and its programs alike.
    """
    given = settings.get("OPTIONS", {})
    keywords = {option.keyword.decode() for option in Conninfo.get_defaults()}
    found = {key: str(value) for key, value in given.items() if key in keywords}
    named = {
        "dbname": database or settings.get("NAME"),
        "user": settings.get("USER"),
        "password": settings.get("PASSWORD") or os.environ.get("PGPASSWORD"),
        "host": settings.get("HOST"),
        "port": settings.get("PORT"),
    }
    found |= {key: str(value) for key, value in named.items() if value}
    if given.get("assume_role"):
        options = found.get("options", os.environ.get("PGOPTIONS", ""))
        found["options"] = f"{options} {option_text('role', given['assume_role'])}".strip()
    return {"connect_timeout": "15", **NETWORK, **found}


def option_text(name: str, value: str) -> str:
    """Return a setting as libpq's parameter ``options`` wants it: blanks and backslashes escaped."""
    return f"-c {name}=" + re.sub(r"([\s\\])", r"\\\1", value)


def connect(settings: Mapping[str, Any], *, database: str | None = None, purpose: str = "") -> Connection:
    """Return a new autocommit session with everything pinned. Raises ServerUnreachableError."""
    values = parameters(settings, database=database)
    values["application_name"] = f"{APPLICATION_NAME} {purpose}".strip()[:63]
    with errors_in_words(values.get("dbname", "")):
        connection: Connection = psycopg.connect(**values, autocommit=True)  # type: ignore[arg-type]
        try:
            pin_session(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def pin_session(connection: Connection) -> None:
    """Set what changes text output or limits time to known values, for this session."""
    # By itself: a role's limit of a few milliseconds would stop the look at all the others.
    connection.execute("SET statement_timeout = 0")
    connection.execute(_SET_SESSION, {"values": psycopg.types.json.Jsonb(SESSION)})


@contextlib.contextmanager
def session(settings: Mapping[str, Any], *, database: str | None = None, purpose: str = "") -> Iterator[Connection]:
    """Hold a session and close it, whatever happens in between."""
    connection = connect(settings, database=database, purpose=purpose)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def errors_in_words(database: str) -> Iterator[None]:
    """Turn psycopg's errors into ours: what happened, to which database, what to do next."""
    try:
        with _unwrapped():
            yield
    except psycopg.Error as error:
        raise in_words(error, database) from error


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Give psycopg's own error where Django has wrapped it."""
    try:
        yield
    except django.db.Error as error:
        if isinstance(error.__cause__, psycopg.Error):
            raise error.__cause__ from None
        raise


def in_words(error: psycopg.Error, database: str) -> BackupError:
    """Return our error for one of psycopg's."""
    said = first_line(error)
    if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
        return LockedError(
            f"A table of {database!r} is locked: {said}.",
            remedy="Run it again when the migration or maintenance that holds it has ended.",
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return NoSpaceError(f"The server's disk is full: {said}.", remedy="Free space at the server.")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RefusedError(
            f"The database user may not do this in {database!r}: {said}.",
            remedy="Grant it the right, or use another database user for backups.",
        )
    if _is_unreachable(error):
        return ServerUnreachableError(
            f"The database {database!r} cannot be reached: {said}.",
            remedy="Look at HOST, PORT, NAME, USER and PASSWORD in DATABASES, and whether the server runs.",
        )
    # Every session locks every table once, and the server's table of locks is as large as this setting says.
    full = isinstance(error, psycopg.errors.OutOfMemory) and "shared memory" in said
    remedy = "Raise the server's max_locks_per_transaction: there are more tables than it has room for." if full else ""
    return DatabaseError(f"The database {database!r} failed: {said}.", remedy=remedy)


def _is_unreachable(error: psycopg.Error) -> bool:
    """Whether the server is away, refuses us, or has ended the session; it gives no code where it was not reached."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return _UNREACHABLE.match(error.sqlstate) is not None


def first_line(error: Exception) -> str:
    """Return the first line of what a server said, without its full stop."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def program_environment(
    values: Mapping[str, str], base: Mapping[str, str], passfile: Path
) -> tuple[dict[str, str], str]:
    """Return a child's environment and the connection string for its ``--dbname``, for libpq parameters ``values``.

    Everything that has a libpq variable goes there, where nothing needs quoting; the rest (keepalives) holds no secret.
    The password goes to ``passfile`` (see :func:`write_passfile`), never to the environment or the command line.
    Raises RefusedError for a secret that could go nowhere else.
    """
    secrets = sorted(SECRET_PARAMETERS & values.keys())
    if secrets:
        raise RefusedError(
            f"OPTIONS[{secrets[0]!r}] would stand on the command line of the database's programs.",
            remedy="Put it into a service file and name that in OPTIONS['service'].",
        )
    variables = {o.keyword.decode(): o.envvar.decode() for o in Conninfo.get_defaults() if o.envvar}
    inherited = {key: value for key, value in os.environ.items() if key.startswith("PG") and key != "PGPASSWORD"}
    environment = {**base, **inherited}
    environment |= {variables[key]: value for key, value in values.items() if key in variables and key != "password"}
    if "password" in values:
        environment["PGPASSFILE"] = str(passfile)
    environment["PGAPPNAME"] = APPLICATION_NAME
    rest = {key: value for key, value in values.items() if key not in variables}
    return environment, " ".join(f"{key}={_quoted(value)}" for key, value in rest.items())


def _quoted(value: str) -> str:
    escaped = re.sub(r"(['\\])", r"\\\1", value)
    return f"'{escaped}'"


def write_passfile(values: Mapping[str, str], path: Path) -> None:
    """Write the password of ``values`` where libpq finds it (mode 0600), for any host, port, database and user."""
    password = values.get("password", "")
    if "\n" in password or "\r" in password:
        raise RefusedError("A password with a line break cannot be given to the database's programs.")
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"*:*:*:*:{escaped}\n")
