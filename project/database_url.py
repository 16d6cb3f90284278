"""DATABASE_URL as a Django DATABASES entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_FORMS = "postgresql://user:password@host:port/name, postgresql://user@/name?host=/socket/folder or sqlite:///path"


def parse_database_url(url: str, *, base_dir: Path) -> dict[str, Any]:
    """Return the DATABASES entry that `url` describes.

    User, password, host and name are percent-decoded. For PostgreSQL `host`, `port`, `user`, `password` and
    `dbname` may stand in the query instead, where `host` may be a socket folder; every other query parameter is
    handed to libpq. `sqlite:///path` is relative to `base_dir`, `sqlite:////path` absolute.

    Raises ImproperlyConfigured, which never repeats the URL because it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read; write {_FORMS}.") from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme in {"postgres", "postgresql"}:
        address = {
            "NAME": unquote(parts.path.removeprefix("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(_host(parts.netloc)),
            "PORT": str(port or ""),
        }
        return _postgresql(address, query)
    if parts.scheme == "sqlite" and not parts.netloc:
        return _sqlite(unquote(parts.path), base_dir)
    raise ImproperlyConfigured(f"DATABASE_URL has an unknown form; write {_FORMS}.")


def _host(netloc: str) -> str:
    """Return the host as written: `urlsplit` would lower the case of a socket folder."""
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _postgresql(address: dict[str, str], query: dict[str, str]) -> dict[str, Any]:
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    for parameter, key in names.items():
        address[key] = query.pop(parameter, address[key])
    if not address["NAME"]:
        raise ImproperlyConfigured(f"DATABASE_URL names no database; write {_FORMS}.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        **address,
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 60,
        "OPTIONS": query,
    }


def _sqlite(path: str, base_dir: Path) -> dict[str, Any]:
    name = path.removeprefix("/")
    if not name:
        raise ImproperlyConfigured(f"DATABASE_URL names no file; write {_FORMS}.")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name if name == ":memory:" else base_dir / name,
        "CONN_HEALTH_CHECKS": True,
        # A writer that waits for its turn at BEGIN never fails half way with "database is locked".
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
