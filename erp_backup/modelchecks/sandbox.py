"""Keeping an ERP that sees a copy of its database from the world: no network, mail, queue, or other database.

What stands against it is a mistake of the ERP (a job that it starts on start-up), not an attacker: programs
that it starts are not held back, nor are C libraries that open connections by themselves, as libpq does to
reach the copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from erp_backup.modelchecks import refused

_OUTGOING = {
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.getnameinfo",
}
_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname"}
_SYSTEM_LOG = ("/dev/log", "/var/run/syslog")  # a line in the machine's own log leaves no machine


class NetworkRefusedError(ConnectionRefusedError):
    """Something here tried to reach another machine; an OSError, as its callers expect of a network that is down."""


def refuse_network(hosts: Iterable[str]) -> None:
    """Let nothing in this process connect, send or look names up, for good; the names of ``hosts`` may be looked up.

    An audit hook: it cannot be taken back, and sees also those who use ``_socket`` directly. Listening stays possible.
    """
    sys.addaudithook(_hook(frozenset(hosts)))


def _hook(hosts: frozenset[str]) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _OUTGOING and not _is_allowed(event, arguments, hosts):
            raise NetworkRefusedError("The network is refused: this process sees a copy of the ERP's database.")

    return hook


def _is_allowed(event: str, arguments: tuple[Any, ...], hosts: frozenset[str]) -> bool:
    if event in _LOOK_UPS:
        return arguments[0] in hosts
    # The address; None for a message on a socket that is connected already, which would have been refused.
    return arguments[-1] is None or arguments[-1] in _SYSTEM_LOG


def hosts_of(database: Mapping[str, Any]) -> set[str]:
    """Return the host names in a ``DATABASES`` entry: the driver must be able to find the copy's server."""
    options = database.get("OPTIONS") or {}
    given = f"{database.get('HOST') or ''},{options.get('host') or ''}"
    return {host.strip() for host in given.split(",") if host.strip()}


def redirect(settings: Any, *, alias: str, database: dict[str, Any], serves: bool = False) -> None:
    """Change a settings module, before Django reads it, so that the ERP has the copy as its database and nothing else.

    ``serves`` also lets it answer plain HTTP at 127.0.0.1.
    """
    settings.DATABASES = _databases(getattr(settings, "DATABASES", {}), alias, database)
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    caches: Iterable[str] = getattr(settings, "CACHES", {"default": {}})
    settings.CACHES = {
        name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name} for name in caches
    }
    for setting, backend_of in {"TASKS": _dummy_tasks, "MAILERS": _dummy_mailer}.items():
        if hasattr(settings, setting):
            configured: Mapping[str, Mapping[str, Any]] = getattr(settings, setting)
            setattr(settings, setting, {name: backend_of(entry) for name, entry in configured.items()})
    if serves:
        settings.ALLOWED_HOSTS = ["*"]
        settings.SECURE_SSL_REDIRECT = False


def _databases(
    configured: Mapping[str, Mapping[str, Any]], alias: str, database: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return ``DATABASES`` with the copy at ``alias`` and at its replicas, and a refusal everywhere else."""
    copy = {**database, "AUTOCOMMIT": True, "CONN_MAX_AGE": None, "OPTIONS": dict(database.get("OPTIONS") or {})}
    copy["OPTIONS"].pop("pool", None)  # what is asked of the connection at its start would be lost at its return
    refusal = {"ENGINE": refused.__name__}
    entries = {
        name: copy if (entry.get("TEST") or {}).get("MIRROR") == alias else refusal
        for name, entry in configured.items()
    }
    return {"default": refusal, **entries, alias: copy}


def _dummy_tasks(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task backend that stores and does nothing: Django's, or that of the package it came from."""
    package = str(entry.get("BACKEND", "")).partition(".")[0]
    root = "django_tasks" if package == "django_tasks" else "django.tasks"
    return {**entry, "BACKEND": f"{root}.backends.dummy.DummyBackend"}


def _dummy_mailer(_entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"BACKEND": "django.core.mail.backends.dummy.EmailBackend"}
