"""The backend, under the name by which Django finds it."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db.backends.dummy import base as dummy

from erp_backup.core.errors import RefusedError


class DatabaseWrapper(dummy.DatabaseWrapper):
    """A database that says why it is none when somebody connects to it."""

    def ensure_connection(self) -> NoReturn:
        """Raise RefusedError."""
        raise RefusedError(f"It used the database {self.alias!r}, which the process that sees a copy cannot reach.")

    def connect(self) -> NoReturn:
        """Raise RefusedError."""
        self.ensure_connection()

    def cursor(self) -> NoReturn:
        """Raise RefusedError."""
        self.ensure_connection()

    def is_usable(self) -> bool:
        """Return that it is not."""
        return False

    def _savepoint(self, *_arguments: Any) -> NoReturn:
        self.ensure_connection()
