"""The backend, under the name by which Django finds it."""

from __future__ import annotations

from typing import NoReturn

from django.db.backends.dummy import base as dummy

from erp_backup.core.errors import RefusedError


class DatabaseOperations(dummy.DatabaseOperations):
    """What Django asks first when it builds a statement."""

    def quote_name(self, _name: str) -> NoReturn:
        """Raise RefusedError."""
        refuse(self.connection.alias)


class DatabaseWrapper(dummy.DatabaseWrapper):
    """A database that says why it is none as soon as somebody uses it."""

    ops_class = DatabaseOperations

    def ensure_connection(self) -> NoReturn:
        """Raise RefusedError."""
        refuse(self.alias)

    def _cursor(self, _name: str | None = None) -> NoReturn:
        refuse(self.alias)

    def connect(self) -> NoReturn:
        """Raise RefusedError."""
        refuse(self.alias)


def refuse(alias: str) -> NoReturn:
    """Raise RefusedError."""
    raise RefusedError(f"It used the database {alias!r}, which the process that sees a copy cannot reach.")
