"""The open snapshot: a private file that nobody writes any more, dumped, measured and read through the ORM at will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from erp_backup.core.codecs.base import CHUNK_SIZE
from erp_backup.core.figures import Figures
from erp_backup.core.manifest import DatabaseFacts
from erp_backup.engines.base import DumpRequest, ProcessDatabase, Snapshot
from erp_backup.engines.orm import temporary_alias
from erp_backup.engines.sqlite.connecting import read_only_settings
from erp_backup.engines.sqlite.measuring import Measurer
from erp_backup.engines.sqlite.sqltext import sql_dump


@dataclass(kw_only=True)
class SqliteSnapshot(Snapshot):
    """A copy at ``path``. ``settings`` is the live database's ``DATABASES`` entry."""

    path: Path
    request: DumpRequest
    measurer: Measurer
    settings: Mapping[str, Any] = field(repr=False)
    facts: DatabaseFacts
    taken_at: datetime
    not_included: tuple[str, ...]

    def dump(self) -> Iterator[bytes]:
        """Yield the copy itself, or the SQL that builds it again."""
        return sql_dump(self.path, self.request.kind) if self.request.format == "sql" else _chunks(self.path)

    def figures(self) -> Figures:
        """Measure the copy. Ends with DatabaseError when the snapshot is closed meanwhile."""
        return self.measurer.figures(self.path)

    def cancel(self) -> None:
        """Let figures that are being measured end with DatabaseError soon; the snapshot stays open."""
        self.measurer.stop.set()

    def orm(self) -> AbstractContextManager[str]:
        """Yield an alias on the copy, read-only and hardened."""
        return temporary_alias(read_only_settings(self.settings, self.path), purpose="snapshot")

    def process_settings(self) -> ProcessDatabase:
        """Return how another process reads the copy, as long as the snapshot is open."""
        return ProcessDatabase(settings=read_only_settings(self.settings, self.path))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk
