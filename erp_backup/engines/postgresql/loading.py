"""Restoring a dump into a scratch database with PostgreSQL's own programs, and understanding what they say."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from erp_backup.core.errors import ProgramError
from erp_backup.core.manifest import Manifest
from erp_backup.core.process import Command, Completed, base_environment
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import LoadReport, Tools
from erp_backup.engines.postgresql import programs
from erp_backup.engines.postgresql.connecting import (
    LIMITS,
    option_text,
    parameters,
    program_environment,
    write_passfile,
)
from erp_backup.engines.postgresql.plainsql import safe_sql

# The copy is thrown away: it need not survive a crash of the server, but its indexes are to be built quickly. What a
# role is limited by does not count here.
_OPTIONS = {
    "synchronous_commit": "off",
    "maintenance_work_mem": "256MB",
    "default_transaction_read_only": "off",
    "statement_timeout": LIMITS["statement_timeout"],
    "lock_timeout": LIMITS["lock_timeout"],
}
_ENDED = {0, 1, 3}  # well, with errors, and (psql) with an error in a script; anything else is a failure of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Loads dumps into one database (``settings``, a Django entry) of a server of version ``major``."""

    settings: Mapping[str, Any] = field(repr=False)
    tools: Tools
    folder: Folder
    major: int

    def load(self, path: Path, manifest: Manifest) -> LoadReport:
        """Restore with pg_restore, or psql for a plain archive that we signed.

        Raises ProgramError and its kin when it could not be tried: a lost server or a full disk says nothing about the
        archive. What is wrong with the archive is in the report.
        """
        # Money is written as the database's own setting says, and read back as the session's.
        monetary = [value for value in manifest.database.settings if value.startswith("lc_monetary=")]
        options = {**_OPTIONS, **dict(value.split("=", 1) for value in monetary)}
        environment, connection = self.environment(options)
        program = self._program(manifest)
        if manifest.is_foreign and manifest.format == "plain":
            return self._load_sql(path, Command(argv=(str(program),), env=environment), connection)
        if manifest.format == "custom":
            runs = [self._restore_arguments(section, path, connection) for section in self._sections(manifest)]
        else:
            runs = [programs.psql_arguments(connection=connection, path=path)]
        package = f"postgresql-client-{self.major}"
        reports = [self._run(Command(argv=(str(program), *run), env=environment, package=package)) for run in runs]
        return LoadReport(
            errors=tuple(text for report in reports for text in report.errors),
            notes=tuple(dict.fromkeys(text for report in reports for text in report.notes)),
        )

    def _load_sql(self, path: Path, psql: Command, connection: str) -> LoadReport:
        """Give SQL that people bring to psql in its restricted mode, when all of it was looked at.

        From the first line on psql takes no command of its own but the end of that mode, which needs a word that nobody
        knows. A version that does not know the mode stops at that line. Raises RefusedError, CorruptError.
        """
        for _ in safe_sql(path):
            pass
        guard = f"\\restrict {secrets.token_hex(24)}\n".encode()
        command = replace(psql, argv=(*psql.argv, *programs.restricted_psql_arguments(connection=connection)))
        completed = self.tools.runner.run(command, stdin=chain([guard], safe_sql(path)), check=False)
        report = _judge("psql", completed)
        note = "Owners, grants and settings that belong to another server were left out."
        return replace(report, notes=(*report.notes, note))

    def _run(self, command: Command) -> LoadReport:
        return _judge(command.program, self.tools.runner.run(command, check=False))

    def _sections(self, manifest: Manifest) -> tuple[str, ...]:
        """The parts to restore one after the other; an empty name is all of it.

        Side by side pg_restore makes triggers and foreign keys of a partitioned table as soon as that is there, before
        it has loaded the partitions: the triggers then fire for the rows of the archive. And it makes a foreign key to
        such a table before the indexes of all partitions are attached to the key's own, which the server refuses.
        """
        kinds = {item.kind for item in manifest.figures.objects}
        is_safe = kinds and "partitioned table" not in kinds
        return ("",) if self.tools.jobs == 1 or is_safe else ("pre-data", "data", "post-data")

    def _restore_arguments(self, section: str, path: Path, connection: str) -> tuple[str, ...]:
        jobs = 1 if section == "post-data" else self.tools.jobs
        return programs.restore_arguments(jobs=jobs, section=section, connection=connection, path=path)

    def environment(self, options: Mapping[str, str]) -> tuple[dict[str, str], str]:
        """Return a program's environment, ``options`` set for its sessions, and the connection for its ``--dbname``."""
        values = parameters(self.settings)
        passfile = self.folder.path / "passfile"
        write_passfile(values, passfile)
        environment, connection = program_environment(values, base_environment(), passfile)
        ours = [option_text(name, value) for name, value in options.items()]
        environment["PGOPTIONS"] = " ".join([environment.get("PGOPTIONS", ""), *ours]).strip()
        return environment, connection

    def _program(self, manifest: Manifest) -> Path:
        made_by = int(manifest.tools.get("pg_dump", "0").split(".")[0] or 0)
        name = "pg_restore" if manifest.format == "custom" else "psql"
        wanted = max(self.major, made_by)
        if manifest.is_foreign:
            return programs.choose_for_foreign(
                self.tools.runner,
                name,
                self.tools.program_dirs,
                wanted,
                allow_old=self.tools.foreign.allow_old_client,
            )
        return programs.choose(self.tools.runner, name, self.tools.program_dirs, wanted)[0]


def _judge(name: str, completed: Completed) -> LoadReport:
    """Tell what is wrong with the archive (the report) from what kept it from being loaded (raised)."""
    report = programs.report_of(completed.stderr)
    said = "\n".join(report.errors) if completed.status in _ENDED else completed.stderr
    error = ProgramError(
        f"{name} failed with status {completed.status}: {programs.last_line(completed.stderr)}.",
        program=name,
        status=completed.status,
        stderr=said,
    )
    reason = programs.explain(error)
    if reason is not error:
        raise reason from error
    if completed.status not in _ENDED or (completed.status != 0 and report == LoadReport()):
        raise error
    return report
