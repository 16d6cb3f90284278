"""Databases on other servers, named by a URL: on the command line without a password, or in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from erp_backup.core.errors import RefusedError, UsageError
from erp_backup.engines.base import Database
from erp_backup.engines.postgresql.connecting import SECRET_PARAMETERS
from erp_backup.engines.postgresql.keeping import refuse_impossible

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_VARIABLE = "env:"
_SECRETS = {"password", *SECRET_PARAMETERS}
_NAMED = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}


def is_elsewhere(place: str) -> bool:
    """Whether that is a URL, or the variable that holds one; else it is a name at the live database's server."""
    return place.startswith(_VARIABLE) or _URL.match(place) is not None


def database_at(database: Database, place: str) -> Database:
    """Return the database that ``place`` names, which nobody has made yet; nothing of the live one's login is in it.

    Raises RefusedError for a password that stands in a URL on the command line, UsageError; neither repeats it.
    """
    found = _parsed(_url(place))
    if not place.startswith(_VARIABLE) and _SECRETS & found.keys():
        raise RefusedError(
            "A password in a URL on the command line can be read by every user of this machine. Change it.",
            remedy="Put the URL into an environment variable and give --into env:NAME; or use PGPASSFILE.",
        )
    if not found.get("dbname"):
        raise UsageError("The URL names no database.", remedy="End it with the new database's name: …:5432/name.")
    entry = {key: str(found.get(word, "")) for word, key in _NAMED.items()}
    options = {key: value for key, value in found.items() if key not in _NAMED}
    settings = {**database.settings, **entry, "OPTIONS": options, "CONN_MAX_AGE": 0, "TEST": {}}
    other = Database(alias=database.alias, settings=settings, is_elsewhere=True)
    refuse_impossible(other, other.name)
    return other


def _url(place: str) -> str:
    if not place.startswith(_VARIABLE):
        return place
    name = place.removeprefix(_VARIABLE)
    url = os.environ.get(name, "")
    if not url:
        raise UsageError(
            f"The environment has no variable {name!r}.", remedy=f"Set it: export {name}=postgresql://user@host/name"
        )
    return url


def _parsed(url: str) -> Mapping[str, Any]:
    """Read it as libpq does: every character may be percent-encoded."""
    try:
        if url.lower().startswith(("postgresql://", "postgres://")):
            return conninfo_to_dict(url)
    except psycopg.Error:
        pass
    # What libpq says about it would repeat it.
    raise UsageError(
        "That is no URL of a PostgreSQL database.",
        remedy="Write postgresql://user@host:5432/name, odd characters as %XX.",
    )


def shown(database: Database) -> str:
    """Return the URL of a database elsewhere as it may be read by everybody."""
    entry = database.settings
    user = f"{quote(entry['USER'], safe='')}@" if entry["USER"] else ""
    port = f":{entry['PORT']}" if entry["PORT"] else ""
    host = f"[{entry['HOST']}]" if entry["HOST"].count(":") > 1 else quote(entry["HOST"], safe=",")
    return f"postgresql://{user}{host}{port}/{quote(database.name, safe='')}"
