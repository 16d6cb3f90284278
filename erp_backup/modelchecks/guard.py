"""No model check reads another database than the one it is given: a figure of the live one would prove nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.db import connections

from erp_backup.core.errors import RefusedError


class Guard:
    """Remembers the first other database that was read, also when the reader swallowed our refusal."""

    def __init__(self) -> None:
        self.refusal: RefusedError | None = None

    def refusing(self, alias: str) -> Callable[..., Any]:
        """Return a wrapper that runs no statement on ``alias``."""

        def execute(*_arguments: Any) -> Any:
            self.refusal = self.refusal or RefusedError(
                f"It read the database {alias!r} instead of the one in `using`.",
                remedy="Give it to every query: Model.objects.using(using).",
            )
            raise self.refusal

        return execute


@contextlib.contextmanager
def only(aliases: Collection[str]) -> Iterator[Guard]:
    """Refuse, in this thread, statements on any alias but these. Raises RefusedError if there was one."""
    guard = Guard()
    with contextlib.ExitStack() as stack:
        for alias in connections:
            if alias not in aliases:
                stack.enter_context(connections[alias].execute_wrapper(guard.refusing(alias)))
        yield guard
    if guard.refusal is not None:
        raise guard.refusal
