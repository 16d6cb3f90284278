"""Which model checks there are: those that the ERP's modules declare, each under a name of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from django.utils.module_loading import autodiscover_modules

from erp_backup.exceptions import ConfigurationError

if TYPE_CHECKING:
    from erp_backup.modelchecks.base import ModelCheck

MODULE = "backup_checks"  # <app>/backup_checks.py, found like admin.py


class Registry:
    """Model checks by name, in the order of their declaration."""

    def __init__(self, checks: Iterable[ModelCheck] = ()) -> None:
        self._checks: dict[str, ModelCheck] = {}
        for check in checks:
            self.add(check)

    def __iter__(self) -> Iterator[ModelCheck]:
        return iter(self._checks.values())

    def __len__(self) -> int:
        return len(self._checks)

    def add(self, check: ModelCheck) -> None:
        """Register ``check``. Raises ConfigurationError, naming both places, when another one has its name."""
        other = self._checks.setdefault(check.name, check)
        if other is not check:
            raise ConfigurationError(
                f"Two model checks are named {check.name!r}: one declared in {other.place}, one in {check.place}.",
                remedy="Rename one of them.",
            )


# The last one is in force; the first is the ERP's own.
_registries: list[Registry] = [Registry()]


def current() -> Registry:
    """Return the registry that declarations go into now."""
    return _registries[-1]


@contextlib.contextmanager
def register_temporarily(*, empty: bool = False) -> Iterator[Registry]:
    """Forget, at the end of the block, whatever was declared in it; ``empty`` also hides what was there before.

    For tests, and for whoever makes model checks that are nobody's declaration. One thread at a time.
    """
    registry = Registry(() if empty else current())
    _registries.append(registry)
    try:
        yield registry
    finally:
        _registries.remove(registry)


def autodiscover() -> None:
    """Import ``backup_checks`` of every installed app, whose declarations register themselves."""
    autodiscover_modules(MODULE)


def validate(checks: Iterable[ModelCheck]) -> list[str]:
    """Return what is wrong with these declarations, one sentence each: unknown models, unknown fields.

    Reads no database.
    """
    return [
        f"Model check {check.name!r} ({check.place}): {problem}" for check in checks for problem in check.problems()
    ]
