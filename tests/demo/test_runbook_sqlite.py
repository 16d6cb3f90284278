"""The runbook's SQLite commands and statements, run as they stand in a folder with the demo ERP's `app.db`."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.demo import runbook
from tests.support.host import Host

STAMP = "20260105_120000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The folder to type commands in."""

    host: Host

    @property
    def database(self) -> Path:
        """The live database."""
        return self.host.database_file

    def succeed(self, text: str) -> str:
        """Run what the runbook says, assert that no part of it complained, return what it printed."""
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.host.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "") == (result.returncode, result.stderr), f"{text}\n{result.stdout}{result.stderr}"
        return result.stdout

    def ask(self, statement: str) -> list[str]:
        """Return the rows that a statement gives; it is typed into the shell, where it may begin with a comment."""
        return self.succeed(f"sqlite3 app.db <<'TYPED'\n{statement}\nTYPED").splitlines()

    def content(self, file: Path | None = None) -> str:
        """Return all of a database as SQL text."""
        return self.succeed(f"sqlite3 {file or self.database} .dump")


@pytest.fixture
def site(host: Host) -> Site:
    """A migrated database without any rows of the ERP."""
    host.migrate()
    return Site(host=host)


@pytest.fixture
def seeded(site: Site) -> Site:
    """A database with data."""
    site.host.seed()
    return site


def test_backup_commands__each_write_the_whole_database(seeded: Site) -> None:
    """Copy, online backup and SQL text all hold what the database holds."""
    copy, online, text = runbook.block("SQLite", "Backup Commands").lines
    expected = seeded.content()
    contents = []
    # One at a time: in the same second, the first two write under the same name.
    for command in (copy, online):
        seeded.succeed(command)
        [file] = seeded.host.folder.glob("app_backup_*.db")
        contents.append(seeded.content(file))
        file.unlink()
    seeded.succeed(text)
    [file] = seeded.host.folder.glob("app_backup_*.sql")

    assert [expected, expected, expected] == [*contents, file.read_text()]


@pytest.mark.parametrize("way", ["copy", "sql"])
def test_full_restore__gives_every_row_back(way: str, seeded: Site) -> None:
    """Both ways of restoring undo a loss, and the ERP runs on the result."""
    restore_copy, remove, restore_sql = runbook.block("SQLite", "Restore Commands").lines
    expected = seeded.content()
    seeded.succeed(runbook.block("SQLite", "Backup Commands").text)
    for file in seeded.host.folder.glob("app_backup_*"):
        shutil.copy(file, seeded.host.folder / f"app_backup_{STAMP}{file.suffix}")
    seeded.succeed('sqlite3 app.db "DELETE FROM stock_ledger; DROP TABLE items;"')
    seeded.succeed(restore_copy if way == "copy" else f"{remove}\n{restore_sql}")

    assert expected == seeded.content()
    assert seeded.host.manage("migrate", "--check").returncode == 0


def test_database_file_check__recognises_the_file(seeded: Site) -> None:
    """`file` knows what it is and the integrity check has nothing to say."""
    kind, integrity = (seeded.succeed(line) for line in runbook.block("SQLite", "Check Database File").lines)

    assert "SQLite 3.x database" in kind
    assert integrity == "ok\n"


def test_table_counts__are_those_of_the_data(seeded: Site) -> None:
    """Each statement of "Verify Table Counts" has the answer that the seed's arguments say."""
    listing, *counts = runbook.block("SQLite", "Verify Table Counts", language="sql").statements
    tables = seeded.ask(listing)
    figures = [seeded.ask(statement) for statement in counts]
    names = {line.split("|")[0] for line in tables}

    assert {"users", "items", "stock_transactions", "stock_ledger"} < names
    assert {str(len(tables))} == {line.split("|")[1] for line in tables}
    assert [["5"], ["20"], ["100"]] == figures


def test_testing_log__gives_the_results_it_notes(site: Site) -> None:
    """The whole log of January 5, 2026 runs on an empty database with the results written in it."""
    output = site.succeed(runbook.block("Backup Testing Log").text)

    assert output == "1\ntest@backup.com\n"


def test_user_of_the_testing_log__is_a_whole_user(site: Site) -> None:
    """What the runbook inserts with two columns is a user that Django can load, and that nobody can log in as."""
    site.succeed(runbook.block("Backup Testing Log").text)
    script = (
        "from project.erp.models import User; user = User.objects.get_by_natural_key('TEST@backup.com');"
        "print(user.role, user.is_active, user.is_staff, user.is_superuser, user.has_usable_password(),"
        " user.preferences, user.date_joined.tzinfo)"
    )

    assert site.host.manage("shell", "--no-imports", "-c", script).stdout == "admin True False False False {} UTC\n"
