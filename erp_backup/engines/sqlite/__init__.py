"""SQLite: everything through SQLite's own library and its backup API, never by copying a live file's bytes."""

from __future__ import annotations

from erp_backup.engines.sqlite.engine import SQLite

__all__ = ["ENGINE", "SQLite"]

ENGINE = SQLite
