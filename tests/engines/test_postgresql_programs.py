"""PostgreSQL's programs: the server's own version is chosen, and one that fails never makes a dump."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import (
    BackupError,
    LockedError,
    NoSpaceError,
    ProgramError,
    ProgramMissingError,
    ServerUnreachableError,
    TimeLimitError,
    VersionError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.process import ProcessRunner
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import programs
from tests.support.pg_engine import engine_of
from tests.support.postgres import Cluster
from tests.support.programs import BAD_DUMPS, fake_program

RUNNER = ProcessRunner(SystemClock(), grace=0.2)


def pretender(folder: Path, version: str, name: str = "pg_dump") -> Path:
    """Write a program that says it is of `version`, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    script.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version} (Debian {version}-1.pgdg)"\n')
    script.chmod(0o755)
    return folder


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any of PostgreSQL's programs; the folder is the only one that is searched by PATH."""
    empty = tmp_path / "path"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(programs, "_VERSIONED", ())
    return empty


class TestChoice:
    """Which of several installed programs is used."""

    @pytest.mark.parametrize(
        ("installed", "server", "chosen"),
        [
            (["15.3", "14.9", "16.1"], 15, "15.3"),
            (["17.2", "16.1", "18beta1", "13.22"], 15, "16.1"),
            (["18.1"], 13, "18.1"),
            (["14.9", "15.1", "15.9"], 15, "15.1"),
        ],
    )
    def test_own_version_or_the_next_newer__is_chosen(
        self, tmp_path: Path, nothing_installed: Path, installed: list[str], server: int, chosen: str
    ) -> None:
        """The server's own major version comes first, in the order of the folders; then the next newer one."""
        folders = [pretender(tmp_path / version, version) for version in installed]

        path, version = programs.choose(RUNNER, "pg_dump", folders, server)

        assert (tmp_path / chosen / "pg_dump", chosen) == (path, version)

    def test_only_older_ones__are_refused(self, tmp_path: Path, nothing_installed: Path) -> None:
        """An older pg_dump refuses the server, so that is said before the dump, with the package to install."""
        folders = [pretender(tmp_path / version, version) for version in ("13.1", "14.2")]

        with pytest.raises(VersionError) as caught:
            programs.choose(RUNNER, "pg_dump", folders, 15)

        assert "13.1, 14.2 is older than the server (15)" in str(caught.value)
        assert "postgresql-client-15" in caught.value.remedy

    def test_none__is_missing(self, nothing_installed: Path) -> None:
        """Nothing is installed: the package's name is the remedy."""
        with pytest.raises(ProgramMissingError, match="postgresql-client-16"):
            programs.choose(RUNNER, "pg_dump", [], 16)

    def test_path__is_searched_after_the_given_folders(self, tmp_path: Path, nothing_installed: Path) -> None:
        """A folder of the settings outranks PATH where both have the server's version."""
        pretender(nothing_installed, "15.5")
        first = programs.choose(RUNNER, "pg_dump", [], 15)
        second = programs.choose(RUNNER, "pg_dump", [pretender(tmp_path / "given", "15.2")], 15)

        assert (nothing_installed / "pg_dump", "15.5") == first
        assert (tmp_path / "given" / "pg_dump", "15.2") == second

    def test_versioned_folders__are_searched(
        self, tmp_path: Path, nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Distributions keep versions side by side: the server's own outranks another one on PATH."""
        monkeypatch.setattr(programs, "_VERSIONED", (f"{tmp_path}/{{major}}/bin",))
        pretender(nothing_installed, "16.5")
        for version in ("15.1", "17.1"):
            pretender(tmp_path / version.split(".", maxsplit=1)[0] / "bin", version)

        assert "15.1" == programs.choose(RUNNER, "pg_dump", [], 15)[1]
        assert "16.5" == programs.choose(RUNNER, "pg_dump", [], 16)[1]
        assert "17.1" == programs.choose(RUNNER, "pg_dump", [], 17)[1]
        assert "17.1" == programs.newest(RUNNER, "pg_dump", [])[1]

    def test_broken_program__is_passed_over(self, tmp_path: Path, nothing_installed: Path) -> None:
        """One that does not even tell its version is no reason to do without the others; alone, it is the error."""
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "pg_dump").write_text("#!/bin/sh\necho 'cannot open shared object file' >&2; exit 127\n")
        (broken / "pg_dump").chmod(0o755)

        chosen = programs.choose(RUNNER, "pg_dump", [broken, pretender(tmp_path / "good", "15.1")], 15)
        with pytest.raises(ProgramError, match="shared object"):
            programs.choose(RUNNER, "pg_dump", [broken], 15)

        assert "15.1" == chosen[1]

    def test_preflight__says_what_is_missing_or_old(
        self, filled: dict[str, Any], tmp_path: Path, nothing_installed: Path
    ) -> None:
        """Before a backup begins, with the class of the error that it would end with."""
        folder = pretender(tmp_path / "old", "12.1")
        engine = engine_of(filled, program_dirs=(folder,))

        problems = engine.preflight(DumpRequest())
        plain = engine.preflight(DumpRequest(format="plain"))

        assert [VersionError, ProgramMissingError] == [problem.error for problem in problems]
        assert {Severity.FAILED} == {problem.severity for problem in problems}
        assert "psql" in plain[1].message


class TestDump:
    """A dump that does not end well never ends like one that does."""

    @pytest.mark.parametrize(("kind", "status"), [("before", 1), ("amid", -9), ("after", 3)])
    def test_pg_dump_that_dies__is_an_error_with_its_words(
        self, postgres: Cluster, filled: dict[str, Any], job_folder: Folder, kind: str, status: int
    ) -> None:
        """Before, amid and after its output: the stream ends with an error, never normally."""
        folder = fake_program(job_folder.path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", BAD_DUMPS[kind])
        engine = engine_of(filled, program_dirs=(folder,))
        received: list[bytes] = []
        with engine.snapshot(DumpRequest(), job_folder) as snapshot, pytest.raises(ProgramError) as caught:
            received.extend(snapshot.dump())

        assert f"it died {kind}" in caught.value.stderr
        assert ("pg_dump", status) == (caught.value.program, caught.value.status)
        assert (kind == "before") == (b"".join(received) == b"")

    def test_silent_pg_dump__is_stopped_at_its_limit(
        self, postgres: Cluster, filled: dict[str, Any], job_folder: Folder
    ) -> None:
        """One that neither writes nor ends is ended."""
        folder = fake_program(job_folder.path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", BAD_DUMPS["silent"])
        engine = engine_of(filled, program_dirs=(folder,), idle_limit=0.3)

        with engine.snapshot(DumpRequest(), job_folder) as snapshot, pytest.raises(TimeLimitError, match="silent"):
            snapshot.dump()

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout", LockedError),
            ("pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout", LockedError),
            ("pg_dump: error: query failed: server closed the connection unexpectedly", ServerUnreachableError),
            ('pg_dump: error: connection to server at "x", port 1 failed: refused', ServerUnreachableError),
            ("pg_dump: error: ERROR:  could not write to file: No space left on device", NoSpaceError),
            ("pg_dump: error: something else", ProgramError),
        ],
    )
    def test_cause_of_a_failure__is_its_own_error(
        self, postgres: Cluster, filled: dict[str, Any], job_folder: Folder, said: str, expected: type[BackupError]
    ) -> None:
        """A lock, a lost server and a full disk have remedies of their own, and exit codes."""
        body = f"echo '{said}' >&2; exit 1"
        folder = fake_program(job_folder.path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", body)
        engine = engine_of(filled, program_dirs=(folder,))

        with engine.snapshot(DumpRequest(), job_folder) as snapshot, pytest.raises(BackupError) as caught:
            snapshot.dump()

        assert expected is type(caught.value)

    def test_dump_that_nobody_reads__ends_with_its_snapshot(self, filled: dict[str, Any], job_folder: Folder) -> None:
        """A reader that fails before the first chunk leaves no pg_dump behind; what is read later is no whole dump."""
        engine = engine_of(filled)
        before = threading.active_count()
        with engine.snapshot(DumpRequest(), job_folder) as snapshot:
            unread = snapshot.dump()
            running = _pg_dumps()
        left = _pg_dumps()
        with pytest.raises(BackupError, match="stopped"):
            b"".join(unread)

        assert running
        assert [] == left
        assert before == threading.active_count()


def _pg_dumps() -> list[str]:
    """Return the pg_dumps that are children of ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == str(os.getpid()) and b"pg_dump" in command:
            found.append(process.name)
    return found
