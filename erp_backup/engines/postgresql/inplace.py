"""The live database restored in place: what would go wrong, the restore, and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from erp_backup.core.errors import BackupError, ServerUnreachableError
from erp_backup.core.figures import Figures, Severity
from erp_backup.core.floors import floor_problem
from erp_backup.core.manifest import Manifest
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Database, InPlace, Problem, Tools
from erp_backup.engines.postgresql import inplacescript, programs, restoring
from erp_backup.engines.postgresql.connecting import errors_in_words, session
from erp_backup.engines.postgresql.scratch import figures_of


class PostgreSQLInPlace(InPlace):
    """One transaction of psql's. Its locks keep everybody else waiting until it ends."""

    def __init__(self, database: Database, tools: Tools) -> None:
        self.database = database
        self.tools = tools

    def preflight(self, manifest: Manifest) -> list[Problem]:
        """Look at the server, the programs and the archive, and at what stands in the live database."""
        return _problems(self.database, self.tools, manifest)

    def restore(self, dump: Path, manifest: Manifest, folder: Folder, statements: Sequence[str]) -> tuple[str, ...]:
        """Drop and restore in one transaction, compared before it is committed."""
        return inplacescript.restore(self.database, self.tools, dump, manifest, folder=folder, statements=statements)

    def figures(self, expected: Figures) -> Figures:
        """Measure the live database on as many sessions as a copy."""
        return figures_of(self.database.settings, self.tools, self.database.name, expected)


def _problems(database: Database, tools: Tools, manifest: Manifest) -> list[Problem]:
    """Return all that would go wrong in a restore into the live database itself, and what would be lost by it."""
    problems = list(_unfit(manifest))
    problems += restoring.problems_with(database, tools, manifest, switch=False, in_place=True)
    try:
        with session(database.settings, purpose="preflight") as connection, errors_in_words(database.name):
            seen = inplacescript.outlook(connection)
            problems += _psql(tools, manifest, connection.info.server_version // 10000)
    except ServerUnreachableError as error:
        return [*problems, Problem(message=error.message, remedy=error.remedy, error=type(error))]
    for what, whose in seen.foreign:
        remedy = f"Restore as the owner, or let {whose!r} give it to the role that restores."
        problems.append(Problem(message=f"{what} belongs to {whose!r}, and we may not drop it.", remedy=remedy))
    if seen.subscriptions:
        problems.append(
            Problem(
                message=f"Subscriptions write into {database.name!r}: {', '.join(seen.subscriptions)}.",
                remedy="Drop them, and make them anew after the restore.",
            )
        )
    known = {(table.schema, table.name) for table in manifest.figures.tables}
    problems += [
        Problem(
            message=f"Drops table {schema}.{name}, which the backup does not have.",
            remedy="Its rows are then in the safety backup only.",
            severity=Severity.NOTE,
        )
        for schema, name in seen.tables
        if (schema, name) not in known
    ]
    return problems


def _unfit(manifest: Manifest) -> Iterator[Problem]:
    if manifest.is_foreign:
        yield Problem(
            message=f"{manifest.id} was not made here: nothing of it runs in the live database.",
            remedy="Restore it with --into, and look at it first.",
        )
    if manifest.format != "custom" or manifest.schemas:
        yield Problem(
            message=f"{manifest.id} is no whole archive in pg_dump's custom format, which a restore in place needs.",
            remedy="Choose another backup, or restore it with --into.",
        )
    if manifest.excluded_tables:
        yield Problem(
            message=f"It does not hold the rows of {', '.join(manifest.excluded_tables)}: they would be lost for good.",
            remedy="Restore it with --switch or --into, which keep what is there now.",
        )


def _psql(tools: Tools, manifest: Manifest, major: int) -> Iterator[Problem]:
    wanted = max(major, int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0))
    try:
        _path, version = programs.choose(tools.runner, "psql", tools.program_dirs, wanted)
    except BackupError as error:
        yield Problem(message=error.message, remedy=error.remedy, error=type(error))
        return
    fault = floor_problem("psql", version)
    if fault is not None:
        yield Problem(message=f"{fault.message} The archive is our own.", remedy=fault.remedy, severity=Severity.NOTE)
