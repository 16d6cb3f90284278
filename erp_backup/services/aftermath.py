"""What comes back to life with a restored state: sessions, tokens, users, rights, queued jobs.

Sessions are ended; the rest is found and told, for people to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from django.apps import apps
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import connections
from django.db.models import Model, QuerySet

from erp_backup.conf import get_config
from erp_backup.services.reviving import Names, Revived, revived

__all__ = ["Ended", "Names", "Revived", "Table", "end_sessions", "queued", "revived"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of another package that matter after a restore."""

    table: str
    rows: int
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The sessions that were ended, and what else logs people in: ``tokens`` still do, ``notes`` say what to do."""

    engine: str
    ended: int = 0
    tokens: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def end_sessions(alias: str) -> Ended:
    """Delete the sessions in the database ``alias``; say what else keeps people logged in, and what to do about it."""
    engine = get_config().session_engine
    models = _session_models()
    there = _tables(alias)
    ended = sum(QuerySet(model, using=alias).delete()[0] for model in models if model._meta.db_table in there)
    notes = [_ADVICE[kind] for kind in _ADVICE if engine.endswith(kind)]
    if not notes and not engine.endswith(".db"):
        notes = [f"Sessions are kept by {engine}: end them by its own means."] if apps.is_installed(_SESSIONS) else []
    return Ended(engine=engine, ended=ended, tokens=_found(alias, _TOKENS), notes=tuple(notes))


def session_tables() -> set[str]:
    """Return the names of the tables that sessions are kept in, by whatever kind that is installed."""
    return {model._meta.db_table for model in _session_models()}


def _session_models() -> set[type[Model]]:
    engine = get_config().session_engine
    return {model for model in (_session_model(engine), *_django_sessions()) if model is not None}


_SESSIONS = "django.contrib.sessions"
_ADVICE: Mapping[str, str] = {
    ".cached_db": "Sessions are also in the cache, where they still work: clear the cache of SESSION_CACHE_ALIAS.",
    ".cache": "Sessions are in the cache, which no restore touches: clear the cache of SESSION_CACHE_ALIAS.",
    ".file": "Sessions are files, which no restore touches: delete those in SESSION_FILE_PATH.",
    ".signed_cookies": (
        "Sessions are signed cookies: they work until they expire, or until SECRET_KEY is another one "
        "(and not among SECRET_KEY_FALLBACKS)."
    ),
}


def _session_model(engine: str) -> type[Model] | None:
    """Return the model that the ERP's own kind of session is kept in, None where it is kept elsewhere."""
    try:
        model: type[Model] = import_module(engine).SessionStore.get_model_class()
    except (ImportError, AttributeError, ValueError, RuntimeError):  # RuntimeError: its app is not installed
        return None
    return model


def _django_sessions() -> Iterator[type[Model]]:
    """Every model of sessions that is installed: rows of a kind that is no longer used log in again when it is."""
    return (model for model in apps.get_models() if issubclass(model, AbstractBaseSession))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A table of another package. Rows count whose ``column`` is one of ``values``; without a column all do."""

    table: str
    meaning: str
    column: str = ""
    values: tuple[str, ...] = ()


_TOKENS = (
    _Known(table="authtoken_token", meaning="API tokens (Django REST framework) log in again as at the backup's time."),
    _Known(table="knox_authtoken", meaning="API tokens (knox) log in again as at the backup's time."),
    _Known(table="oauth2_provider_accesstoken", meaning="OAuth access tokens are valid again until they expire."),
    _Known(table="oauth2_provider_refreshtoken", meaning="OAuth refresh tokens are valid again."),
    _Known(
        table="token_blacklist_outstandingtoken",
        meaning="JWT refresh tokens that were revoked after the backup are no longer on the blacklist.",
    ),
)
_TRUE = ("true", "1")
_QUEUES = (
    _Known(
        table="django_tasks_database_dbtaskresult",
        meaning="tasks of django-tasks that would run again",
        column="status",
        values=("NEW", "READY", "RUNNING"),
    ),
    _Known(
        table="procrastinate_jobs",
        meaning="jobs of procrastinate that would run again",
        column="status",
        values=("todo", "doing"),
    ),
    _Known(table="django_q_ormq", meaning="jobs of Django Q that would run again"),
    _Known(table="django_q_schedule", meaning="schedules of Django Q: those that are due by now start at once"),
    _Known(
        table="django_celery_beat_periodictask",
        meaning="periodic tasks of Celery beat: their last runs since the backup are forgotten",
        column="enabled",
        values=_TRUE,
    ),
    _Known(
        table="django_celery_results_taskresult",
        meaning="tasks of Celery that were not finished at the backup's time",
        column="status",
        values=("PENDING", "RECEIVED", "STARTED", "RETRY"),
    ),
    _Known(
        table="django_dramatiq_task",
        meaning="messages of Dramatiq that were not done at the backup's time",
        column="status",
        values=("enqueued", "delayed", "running"),
    ),
    _Known(table="background_task", meaning="background tasks that would run again"),
    _Known(
        table="django_apscheduler_djangojob", meaning="jobs of APScheduler: those that are due by now start at once"
    ),
    _Known(
        table="post_office_email",
        meaning="mails of django-post-office that would be sent again",
        column="status",
        values=("2", "3"),
    ),
    _Known(table="mailer_message", meaning="mails of django-mailer that would be sent again"),
)


def queued(alias: str) -> tuple[Table, ...]:
    """Return the tables of job queues in the database ``alias`` that have jobs waiting: these would run twice."""
    return _found(alias, _QUEUES)


def _tables(alias: str) -> set[str]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def _found(alias: str, known: Iterable[_Known]) -> tuple[Table, ...]:
    """Return those tables that are there and have such rows."""
    there = _tables(alias)
    found = [
        Table(table=one.table, rows=_rows_of(alias, one), meaning=one.meaning) for one in known if one.table in there
    ]
    return tuple(table for table in found if table.rows)


def _rows_of(alias: str, known: _Known) -> int:
    """Count; without the column that this is about every row counts: better told too much than too little."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        query, values = f"SELECT count(*) FROM {quote(known.table)}", known.values  # noqa: S608 - names of our own
        columns = {column.name for column in connection.introspection.get_table_description(cursor, known.table)}
        if known.column in columns:
            # As text: it may be an enumeration of the database's own, a number, or a truth.
            query += f" WHERE CAST({quote(known.column)} AS text) IN ({', '.join(['%s'] * len(values))})"
        cursor.execute(query, values if known.column in columns else ())
        (count,) = cursor.fetchone()
    return int(count)
