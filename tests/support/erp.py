"""A host whose data tests damage past Django, and whose rows are brought back."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from tests.support.host import Host, Result
from tests.support.pg_engine import connect


class Erp:
    """A host with data, a backup of it, and SQL past Django."""

    def __init__(self, host: Host, kind: str, entry: dict[str, Any] | None) -> None:
        self.host = host
        self.kind = kind
        self._entry = entry
        self.backup = ""

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one transaction without checks of foreign keys; return the last one's rows."""
        if self._entry is not None:
            with connect(self._entry) as connection, connection.transaction():
                for statement in statements:
                    cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.host.database_file)) as connection, connection:
            for statement in statements:
                found = connection.execute(statement).fetchall()
            return found

    def rows(self, table: str, where: str = "true") -> list[str]:
        """Return a table's rows as text, to the last digit, in order."""
        return sorted(map(str, self.sql(f"SELECT * FROM {table} WHERE {where}")))

    def state(self, *tables: str) -> dict[str, list[str]]:
        """Return the rows of several tables."""
        return {table: self.rows(table) for table in tables}

    def run_file(self, path: Path) -> None:
        """Run a file of statements as the stock program would."""
        if self._entry is not None:
            with connect(self._entry) as connection:
                connection.execute(path.read_bytes())
            return
        with contextlib.closing(sqlite3.connect(self.host.database_file)) as connection:
            connection.executescript(path.read_text(encoding="utf-8"))

    def back_up(self) -> str:
        """Back up and return the identifier."""
        self.backup = self.host.manage("dbbackup", "--json").json()["backups"][0]["id"]
        return self.backup

    def recover(self, model: str, *options: str, code: int = 0) -> Any:
        """Recover rows and return the result as data."""
        result = self.run(model, "--json", *options)

        assert code == result.returncode, str(result)
        return result.json()

    def run(self, model: str, *options: str, input: str | None = None) -> Result:  # noqa: A002 - subprocess.run's own word
        """Run the command."""
        return self.host.manage("recoverrows", self.backup, model, *options, check=False, input=input)
