"""PostgreSQL's own programs: found by version, called with argument lists, understood by what they say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from erp_backup.core.errors import (
    LockedError,
    NoSpaceError,
    ProgramError,
    ProgramMissingError,
    ServerUnreachableError,
    VersionError,
)
from erp_backup.core.floors import floor_problem
from erp_backup.core.process import Command, ProcessRunner, base_environment, find_program, says_no_space
from erp_backup.engines.base import LoadReport

# Where distributions keep the programs of each major version side by side.
_VERSIONED = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
_MAJORS = range(13, 31)
_VERSION = re.compile(r"\(PostgreSQL\)\s+(\d+)(?:\.(\d+))?")
_GONE = re.compile(
    r"server closed the connection|could not connect|connection to server .* failed|terminating connection"
    r"|the database system is (?:shutting down|starting up|in recovery)|SSL SYSCALL error|no connection to the server",
    re.IGNORECASE,
)
# pg_dump waits for its locks, and only for them, under a statement timeout.
_LOCKED = re.compile(r"canceling statement due to (?:lock|statement) timeout|could not obtain lock", re.IGNORECASE)
# A newer pg_restore sets what an older server does not know; every row is restored all the same. A dump of the schema
# `public` alone makes it, and every database is born with it.
_HARMLESS = re.compile(
    r'unrecognized configuration parameter "(?:transaction_timeout|idle_session_timeout)"'
    r'|schema "public" already exists'
)


def candidates(name: str, directories: Sequence[Path], major: int) -> list[Path]:
    """Return where ``name`` is installed: the given folders, the server's version's, PATH, then all other versions'."""
    versions = [major, *(other for other in _MAJORS if other != major)]
    versioned = [Path(pattern.format(major=version)) for version in versions for pattern in _VERSIONED]
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    ordered = [*directories, *versioned[: len(_VERSIONED)], *on_path, *versioned[len(_VERSIONED) :]]
    found = [find_program(name, [directory]) for directory in ordered]
    return list(dict.fromkeys(path for path in found if path is not None))


def version_of(runner: ProcessRunner, path: Path) -> tuple[int, str]:
    """Return the major version and the whole version of a program of PostgreSQL. Raises ProgramError."""
    command = Command(argv=(str(path), "--version"), env=base_environment())
    said = runner.run(command, total_limit=30).stdout.decode(errors="replace")
    match = _VERSION.search(said)
    if match is None:
        raise ProgramError(f"{path} does not tell its version.", program=path.name, stderr=said)
    return int(match[1]), match[0].rsplit(maxsplit=1)[-1]


def choose(runner: ProcessRunner, name: str, directories: Sequence[Path], major: int) -> tuple[Path, str]:
    """Return the program ``name`` for a server (or archive) of ``major``, and its version.

    That is one of the same major version, or of the next newer one. Raises ProgramMissingError where there is none,
    VersionError where all are older, ProgramError where none of them runs.
    """
    usable: list[tuple[int, Path, str]] = []
    for found, path, version in _installed(runner, name, directories, major):
        if found == major:
            return path, version
        usable.append((found, path, version))
    newer = sorted(entry for entry in usable if entry[0] > major)
    if not newer:
        known = ", ".join(dict.fromkeys(version for _major, _path, version in usable))
        raise VersionError(
            f"{name} {known} is older than the server ({major}) and would not dump or restore it.",
            remedy=f"Install the server's own: apt-get install postgresql-client-{major}",
        )
    return newer[0][1], newer[0][2]


def choose_for_foreign(
    runner: ProcessRunner, name: str, directories: Sequence[Path], major: int, *, allow_old: bool
) -> Path:
    """Return the program ``name`` for an archive that was not made here: one without known faults, of whatever major.

    With ``allow_old`` it is what :func:`choose` returns. Raises VersionError where all have some, and as
    :func:`choose` does.
    """
    path, version = choose(runner, name, directories, major)
    problem = floor_problem(name, version)
    if problem is None or allow_old:
        return path
    later = sorted(entry for entry in _installed(runner, name, directories, major) if entry[0] > major)
    for _major, other, other_version in later:
        if floor_problem(name, other_version) is None:
            return other
    raise VersionError(
        f"{problem.message} This archive was not made here, so it is not given to it.",
        remedy=f"{problem.remedy} If you know who made the archive, and trust them: --allow-old-client.",
    )


def newest(runner: ProcessRunner, name: str, directories: Sequence[Path]) -> tuple[Path, str]:
    """Return the newest program ``name`` and its version: it reads every archive. Raises as :func:`choose` does."""
    _major, path, version = max(_installed(runner, name, directories, 0), key=lambda entry: entry[0])
    return path, version


def _installed(
    runner: ProcessRunner, name: str, directories: Sequence[Path], major: int
) -> Iterator[tuple[int, Path, str]]:
    """Yield major version, path and version of each that runs; one that does not is passed over for those that do."""
    paths = candidates(name, directories, major)
    if not paths:
        package = f"postgresql-client-{major}" if major else "postgresql-client"
        raise ProgramMissingError(f"{name} is not installed.", remedy=f"Install it: apt-get install {package}")
    broken: list[ProgramError] = []
    for path in paths:
        try:
            found, version = version_of(runner, path)
        except ProgramError as error:
            broken.append(error)
        else:
            yield found, path, version
    if len(broken) == len(paths):
        raise broken[0]


def dump_arguments(
    *,
    kind: str,
    format_name: str,
    encoding: str,
    snapshot: str,
    lock_timeout: float,
    excluded: Iterable[str],
    schemas: Iterable[str],
    connection: str,
) -> tuple[str, ...]:
    """Return pg_dump's arguments. ``excluded`` and ``schemas`` are exact patterns (see :func:`exact`).

    ``encoding`` is the database's own: bytes that a database without an encoding holds are then taken as they are.
    """
    arguments = [
        "--format=custom" if format_name == "custom" else "--format=plain",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={int(lock_timeout * 1000)}",
        "--no-password",
        f"--encoding={encoding}",
        # A copy that subscribed would take over the original's changes, and could not even be dropped.
        "--no-subscriptions",
    ]
    if format_name == "custom":
        arguments.append("--compress=0")
    if kind in {"schema", "data"}:
        arguments.append(f"--{kind}-only")
    arguments += [f"--exclude-table-data={pattern}" for pattern in excluded]
    arguments += [f"--schema={pattern}" for pattern in schemas]
    return (*arguments, f"--dbname={connection}")


def exact(*names: str) -> str:
    """Return a pattern for pg_dump that means exactly this name, whatever is in it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def restore_arguments(*, jobs: int, section: str, connection: str, path: Path) -> tuple[str, ...]:
    """Return pg_restore's arguments for a scratch database: every error reported, nothing of this server in it.

    Owners, grants and tablespaces are the server's, and a copy has its own; subscriptions would draw changes into it.
    """
    part = (f"--section={section}",) if section else ()
    parallel = (f"--jobs={jobs}",) if jobs > 1 else ()
    without = ("--no-owner", "--no-privileges", "--no-tablespaces", "--no-subscriptions", "--no-password")
    return (*without, *part, *parallel, f"--dbname={connection}", str(path))


def psql_arguments(*, connection: str, path: Path) -> tuple[str, ...]:
    """Return psql's arguments for a plain archive that we signed: no start-up files, errors do not stop it."""
    return (
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--output=/dev/null",
        f"--dbname={connection}",
        f"--file={path}",
    )


def restricted_psql_arguments(*, connection: str) -> tuple[str, ...]:
    """Return psql's arguments for SQL on standard input: the first error ends it."""
    return (
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--output=/dev/null",
        "--set=ON_ERROR_STOP=1",
        f"--dbname={connection}",
        "--file=-",
    )


def script_arguments(*, listing: Path, path: Path) -> tuple[str, ...]:
    """Return pg_restore's arguments for writing the entries of ``listing`` as SQL, without what is the server's."""
    without = ("--no-owner", "--no-privileges", "--no-tablespaces", "--no-subscriptions")
    return (*without, "--single-transaction", f"--use-list={listing}", "--file=-", str(path))


def explain(error: ProgramError) -> Exception:
    """Return the error that a program's failure really is: no space, a lock, a server that went away; or itself."""
    said = error.stderr
    if says_no_space(said):
        return NoSpaceError(
            f"No space left at the server or here: {last_line(said)}.", remedy="Free space, then run this again."
        )
    if _LOCKED.search(said):
        return LockedError(f"A table is locked: {last_line(said)}.", remedy="Run it again when it is free.")
    if _GONE.search(said):
        return ServerUnreachableError(
            f"The connection to the database server was lost: {last_line(said)}.",
            remedy="See whether the server runs, then run this again.",
        )
    return error


def last_line(said: str) -> str:
    """Return the last line of what a program said, without its full stop."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"


def report_of(said: str) -> LoadReport:
    """Return what pg_restore or psql complained about, errors apart from what is known to be harmless."""
    complaints = [line.strip() for line in said.splitlines() if re.search(r"\b(?:error|ERROR|FATAL)\b:", line)]
    errors = [line for line in complaints if not _HARMLESS.search(line)]
    notes = [line for line in complaints if _HARMLESS.search(line)]
    return LoadReport(errors=tuple(errors), notes=tuple(notes))
