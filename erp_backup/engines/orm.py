"""Django database aliases that live as long as a snapshot or a scratch database does."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import connections


@contextlib.contextmanager
def temporary_alias(settings: Mapping[str, Any], *, purpose: str) -> Iterator[str]:
    """Register ``settings`` as a Django database under a new alias, for this thread; close and forget it afterwards.

    The alias begins with ``erp_backup_`` and is none of the host's: no router of the host's sends anything to it.
    """
    alias = f"erp_backup_{purpose}_{secrets.token_hex(4)}"
    template: Mapping[str, Any] = next(iter(connections.settings.values()), {})
    completed = {**_defaults(template), **settings, "TEST": dict(template.get("TEST", {}))}
    connections.settings[alias] = completed
    try:
        yield alias
    finally:
        if hasattr(connections._connections, alias):  # type: ignore[attr-defined]  # noqa: SLF001 - no public test exists
            connections[alias].close()
            del connections[alias]
        del connections.settings[alias]


def _defaults(template: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that Django fills in for each database of the settings, with neutral values."""
    neutral = {
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "OPTIONS": {},
        "TIME_ZONE": None,
        "NAME": "",
        "USER": "",
        "PASSWORD": "",
        "HOST": "",
        "PORT": "",
    }
    return {**{key: neutral.get(key) for key in template}, **neutral}
