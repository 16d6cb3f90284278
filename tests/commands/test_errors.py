"""What can be wrong with a database or a program: the right exit code, a clear sentence, no traceback, no password."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support import leftovers
from tests.support.host import Host, Result
from tests.support.postgres import Cluster, free_port
from tests.support.programs import fake_program


def assert_said(result: Result, code: int, *texts: str) -> None:
    """Assert the exit code, and that the message says `texts` and nothing alarming."""
    assert code == result.returncode, str(result)
    assert "Traceback" not in result.stderr
    for text in texts:
        assert text in result.stderr


class TestPostgreSQL:
    """Servers, passwords, programs."""

    def with_entry(self, tmp_path: Path, database: dict[str, Any], **changes: object) -> Host:
        """A host whose database entry is changed."""
        return Host(tmp_path / "host", databases={"default": {**database, **changes}})

    @pytest.mark.parametrize("command", ["dbbackup"])
    def test_server_down__exit_23(self, tmp_path: Path, pg_database: dict[str, Any], command: str) -> None:
        """Nobody listens at that port."""
        host = self.with_entry(tmp_path, pg_database, PORT=str(free_port()))

        result = host.manage(command, check=False)

        assert_said(result, 23, "cannot be reached", "Connection refused")

    def test_wrong_password__exit_23(self, tmp_path: Path, pg_database: dict[str, Any]) -> None:
        """The server refuses the user; neither password is told."""
        host = self.with_entry(tmp_path, pg_database, PASSWORD="wrong-canary-1")

        result = host.manage("dbbackup", check=False)

        assert_said(result, 23, "password authentication failed")
        assert "wrong-canary-1" not in str(result)

    def test_unknown_database__exit_23(self, tmp_path: Path, pg_database: dict[str, Any]) -> None:
        """The server is there, the database is not."""
        host = self.with_entry(tmp_path, pg_database, NAME="no such database")

        assert_said(host.manage("dbbackup", check=False), 23, "no such database", "does not exist")

    def test_no_pg_dump__exit_21(self, tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
        """The programs are looked for where Debian keeps them too; here no place has one."""
        host = Host(
            tmp_path / "host",
            databases={"default": pg_database},
            extra_settings="import erp_backup.engines.postgresql.programs as p; p._VERSIONED = ()",
        )
        result = host.manage("dbbackup", check=False, env={"PATH": str(tmp_path)})

        assert_said(result, 21, "pg_dump is not installed", "apt-get install postgresql-client-")

    def test_old_pg_dump__exit_22(self, tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
        """A client older than the server would not dump it: said before anything is done."""
        body = ""
        programs = fake_program(tmp_path / "bin", "pg_dump", Path("/bin/false"), body)
        (programs / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.3'\n")
        host = Host(
            tmp_path / "host",
            databases={"default": pg_database},
            extra_settings=(
                "import erp_backup.engines.postgresql.programs as p; p._VERSIONED = ()\n"
                f'ERP_BACKUP = {{**ERP_BACKUP, "PROGRAM_DIRS": [{str(programs)!r}]}}'
            ),
        )
        result = host.manage("dbbackup", check=False, env={"PATH": str(tmp_path)})

        assert_said(result, 22, "pg_dump 12.3 is older than the server", "apt-get install")

    def test_no_right_to_create_databases__could_not_verify(
        self, tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]
    ) -> None:
        """A drill that may not make its scratch database is no pass and no failure of the backup."""
        host = Host(tmp_path / "host", databases={"default": pg_database})
        host.migrate()
        host.manage("dbbackup", "-q")
        with postgres.connect() as connection:
            connection.execute("ALTER ROLE erp_owner NOCREATEDB")
        try:
            result = host.manage("verifybackup", check=False)
        finally:
            with postgres.connect() as connection:
                connection.execute("ALTER ROLE erp_owner CREATEDB")

        assert_said(result, 9, "permission denied to create database")
        assert "COULD NOT VERIFY" in result.stdout

    def test_second_run_at_the_same_time__exit_7(
        self, tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]
    ) -> None:
        """Only one backup of a database runs at a time; the message names the other."""
        here = '"$(dirname "$0")'
        body = f'touch {here}/begun"; while [ ! -e {here}/go" ]; do sleep 0.1; done; exec "$REAL" "$@"'
        programs = fake_program(tmp_path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", body)
        host = Host(
            tmp_path / "host",
            databases={"default": pg_database},
            extra_settings=f'ERP_BACKUP = {{**ERP_BACKUP, "PROGRAM_DIRS": [{str(programs)!r}]}}',
        )
        host.migrate()
        first = host.popen("dbbackup", "-q")
        while not (programs / "begun").exists():
            assert first.poll() is None
        result = host.manage("dbbackup", check=False)
        (programs / "go").touch()
        first.communicate(timeout=60)

        assert_said(result, 7, "erp_backup backup (process")
        assert 0 == first.returncode
        leftovers.assert_nothing_left(host, postgres)


class TestSQLite:
    """Files."""

    def test_file_missing__exit_23(self, host: Host) -> None:
        """The file is not made by looking for it."""
        result = host.manage("dbbackup", check=False)

        assert_said(result, 23, str(host.database_file))
        assert not host.database_file.exists()

    def test_not_a_database__exit_20(self, host: Host) -> None:
        """A text file in the place of the database."""
        host.database_file.write_text("This is not a database, whatever its name says.\n" * 100)

        assert_said(host.manage("dbbackup", check=False), 20, str(host.database_file))

    def test_locked__exit_7(self, host: Host) -> None:
        """Somebody holds it exclusively and does not let go."""
        host.migrate()
        connection = sqlite3.connect(host.database_file, isolation_level=None)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        try:
            result = host.manage("dbbackup", check=False)
        finally:
            connection.close()

        assert_said(result, 7, str(host.database_file))
        leftovers.assert_nothing_left(host)


class TestRequests:
    """What cannot be asked for."""

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (("dbbackup", "-d", "defualt"), 2, "Did you mean 'default'?"),
            (("dbbackup", "--location", "lokal"), 2, "Did you mean 'local'?"),
            (("dbbackup", "--format", "custom"), 2, "sqlite3, sql"),
            (("dbbackup", "--kind", "everything"), 2, "full, schema, data"),
            (("dbbackup", "-e"), 2, "nobody to encrypt to"),
            (("dbbackup", "-o", "../../etc/passwd"), 2, "cannot be the name"),
            (("verifybackup",), 4, "no backup to verify"),
            (("verifybackup", "nothing_of_that_name"), 4, "There is no backup called"),
        ],
    )
    def test_request_that_means_nothing__refused(
        self, host: Host, arguments: tuple[str, ...], code: int, text: str
    ) -> None:
        """The code is usage (2) or no backup (4), the sentence helps."""
        host.migrate()

        assert_said(host.manage(*arguments, check=False), code, text)

    def test_taken_name__never_overwritten(self, host: Host) -> None:
        """The same name twice is refused, and the first backup stays as good as it was."""
        host.migrate()
        host.manage("dbbackup", "-o", "nightly.sqlite3.zst")

        result = host.manage("dbbackup", "-o", "nightly.sqlite3.zst", check=False)

        assert_said(result, 30, "nightly.sqlite3.zst", "Use another name")
        host.manage("verifybackup", "nightly.sqlite3.zst", "-q")
        leftovers.assert_nothing_left(host)

    def test_json_error__is_json(self, host: Host) -> None:
        """A machine that asked for JSON gets JSON for an error too."""
        result = host.manage("dbbackup", "-d", "nope", "--json", check=False)

        assert 2 == result.returncode
        assert 2 == result.json()["errors"][0]["exit_code"]
