"""The runbook's PostgreSQL commands and statements, run as they stand against the demo ERP."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import OWNER
from tests.demo import runbook
from tests.support.host import Host
from tests.support.machine import free_port
from tests.support.postgres import Cluster

PRODUCTION = "sme_erp_prod"
RESTORED = "sme_erp_restored"
STAMP = "20260105_120000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A folder to type commands in, on a machine that reaches the production database."""

    folder: Path
    postgres: Cluster

    @property
    def environment(self) -> dict[str, str]:
        """What an administrator would have in ~/.pgpass, and PostgreSQL's programs on the PATH."""
        return {
            "PATH": f"{self.postgres.bin_dir}{os.pathsep}{os.environ['PATH']}",
            "PGPORT": str(self.postgres.port),
            "PGPASSWORD": self.postgres.entry(PRODUCTION, OWNER)["PASSWORD"],
            "LC_ALL": "C.UTF-8",
        }

    def run(self, text: str, *, shell: str = "bash") -> subprocess.CompletedProcess[str]:
        """Run what the runbook says with the placeholders filled in; any failing command fails."""
        filled = text.replace("<hostname>", self.postgres.host).replace("<username>", OWNER)
        strict = ["-euo", "pipefail"] if shell == "bash" else ["-eu"]
        return subprocess.run(
            [shell, *strict, "-c", filled],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, text: str) -> str:
        """Run it, assert that no part of it complained, return what it printed."""
        result = self.run(text)
        assert (0, "") == (result.returncode, result.stderr), f"{text}\n{result.stdout}{result.stderr}"
        return result.stdout

    def ask(self, database: str, statement: str) -> list[str]:
        """Return the rows that a statement gives, as text."""
        command = ["psql", "-h", self.postgres.host, "-U", OWNER, "-d", database, "-AtX", "-v", "ON_ERROR_STOP=1"]
        result = subprocess.run(
            [*command, "-c", statement], env=self.environment, capture_output=True, text=True, check=False
        )
        assert (0, "") == (result.returncode, result.stderr), statement
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def site(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Production as the runbook knows it, seeded, and one of each of its backups under the name its restores use."""
    folder = tmp_path_factory.mktemp("runbook")
    postgres.create_database(PRODUCTION, owner=OWNER)
    host = Host(folder / "host", postgres.url(PRODUCTION, OWNER))
    host.migrate()
    host.seed()
    site = Site(folder=folder, postgres=postgres)
    yield site
    host.close()
    postgres.drop_database(PRODUCTION)


@pytest.fixture(scope="module")
def backups(site: Site) -> list[Path]:
    """The files that the backup commands write; the newest is known under the restores' own date as well."""
    commands = [block.text for block in runbook.blocks() if block.headings[1:3] == _BACKUPS]
    result = site.run("".join(commands))
    # `categories` refers to itself, which pg_dump remarks upon when it dumps data without a schema.
    remarks = [line for line in result.stderr.splitlines() if line.startswith("pg_dump: ")]
    assert (0, remarks) == (result.returncode, result.stderr.splitlines())
    assert [_REMARK, "pg_dump: detail: categories"] == remarks[:2]
    written = sorted(site.folder.glob("sme_erp_*"))
    for file in written:
        if file.name.startswith("sme_erp_backup_"):
            shutil.copy(file, site.folder / f"sme_erp_backup_{STAMP}{''.join(file.suffixes)}")
    return written


_REMARK = "pg_dump: warning: there are circular foreign-key constraints on this table:"
_BACKUPS = ("PostgreSQL (Production Environment)", "Backup Commands")


@pytest.fixture
def no_restored(postgres: Cluster) -> Iterator[None]:
    """No database of the restored one's name, before and after."""
    postgres.drop_database(RESTORED)
    yield
    postgres.drop_database(RESTORED)


@pytest.fixture
def restored(site: Site, backups: list[Path], no_restored: None) -> Site:
    """The restored database, made by the runbook's first two restore commands."""
    create, from_sql, *_others = runbook.block("PostgreSQL", "Full Database Restore").lines
    site.succeed(create)
    site.succeed(from_sql)
    return site


def dump(site: Site, database: str) -> str:
    """Return all rows and sequences of a database as SQL text, without what differs from run to run."""
    command = ["pg_dump", "-h", site.postgres.host, "-U", OWNER, "--data-only", database]
    result = subprocess.run(command, env=site.environment, capture_output=True, text=True, check=True)
    lines = [line for line in result.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
    assert any("COPY public.stock_ledger" in line for line in lines)
    return "\n".join(lines)


def test_backup_commands__each_write_a_file_with_content(backups: list[Path]) -> None:
    """All five backup commands run as they stand and none writes an empty file."""
    kinds = [(file.name.split("_")[2], "".join(file.suffixes)) for file in backups]

    assert [
        ("backup", ".dump"),
        ("backup", ".sql"),
        ("backup", ".sql.gz"),
        ("data", ".sql"),
        ("schema", ".sql"),
    ] == kinds
    assert all(file.stat().st_size > 1000 for file in backups)


@pytest.mark.parametrize("way", [1, 2, 3], ids=["sql", "compressed", "custom"])
def test_full_restore__gives_every_row_back(way: int, site: Site, backups: list[Path], no_restored: None) -> None:
    """Each of the runbook's three ways to restore runs without a complaint and gives all data back."""
    lines = runbook.block("PostgreSQL", "Full Database Restore").lines
    site.succeed(lines[0])
    site.succeed(lines[way])

    assert len(lines) == 4
    assert dump(site, PRODUCTION) == dump(site, RESTORED)


def test_schema_and_data_alone__make_the_whole(site: Site, backups: list[Path], no_restored: None) -> None:
    """The schema-only and the data-only backup, restored one after the other, give all data back."""
    data, schema = backups[3:]
    create, from_sql, *_others = runbook.block("PostgreSQL", "Full Database Restore").lines
    site.succeed(create)
    site.succeed(from_sql.replace(f"sme_erp_backup_{STAMP}.sql", schema.name))
    site.succeed(from_sql.replace(f"sme_erp_backup_{STAMP}.sql", data.name))

    assert dump(site, PRODUCTION) == dump(site, RESTORED)


def test_partial_restore__gives_the_two_tables_back(site: Site, backups: list[Path], no_restored: None) -> None:
    """`users` and `items` come back with all their rows and without any other table."""
    site.succeed(runbook.block("PostgreSQL", "Full Database Restore").lines[0])
    site.succeed(runbook.block("PostgreSQL", "Partial Restore").text)
    tables = site.ask(RESTORED, "SELECT relname FROM pg_stat_user_tables ORDER BY relname")

    assert ["items", "users"] == tables
    for table in tables:
        rows = f"SELECT * FROM {table} ORDER BY id"
        assert site.ask(PRODUCTION, rows) == site.ask(RESTORED, rows)


def test_connection_check__tells_the_version(restored: Site) -> None:
    """The restored database answers."""
    output = restored.succeed(runbook.block("PostgreSQL", "Check Database Connection").text)

    assert "PostgreSQL" in output


def test_key_figures__are_the_same_after_the_restore(restored: Site) -> None:
    """Each statement of "Verify Key Data Integrity" has an answer in production, and the same one after a restore."""
    statements = runbook.block("PostgreSQL", "Verify Key Data Integrity", language="sql").statements
    before = [restored.ask(PRODUCTION, statement) for statement in statements]
    after = [restored.ask(RESTORED, statement) for statement in statements]

    assert len(before) == 4
    assert all(int(figure) > 0 for [figure] in before[:3])
    assert len(before[3]) > 1
    assert before == after


def test_table_counts__name_a_column_that_no_server_has(restored: Site) -> None:
    """The runbook's statement fails on every server: the column of `pg_stat_user_tables` is called `relname`.

    It is the one statement that no table of ours could make run; with the right name it does what it is meant to.
    """
    [statement] = runbook.block("PostgreSQL", "Verify Table Counts", language="sql").statements
    result = restored.run(f'psql -h <hostname> -U <username> -d {RESTORED} -c "{statement}"')
    rows = restored.ask(RESTORED, statement.replace("tablename", "relname"))

    assert 'column "tablename" does not exist' in result.stderr
    assert result.returncode == 1
    assert "public|users|5" in rows
    assert "public|items|20" in rows


def test_application_on_the_restored_database__is_healthy(restored: Site) -> None:
    """With DATABASE_URL set as the runbook says, the ERP starts and its health page answers 200.

    The runbook starts another server program; its address and what is asked of it stay.
    """
    export, start, probe = runbook.block("PostgreSQL", "Test Application Connection").lines
    url = restored.postgres.url(RESTORED, OWNER)
    port = str(free_port())
    host = Host(restored.folder / "restored", _quoted(export).replace(_EXAMPLE, url))
    server = host.popen("runserver", "--noreload", f"localhost:{port}")
    patient = "curl --silent --show-error --fail --retry 60 --retry-delay 1 --retry-connrefused"
    output = restored.run(probe.replace("8001", port).replace("curl", patient)).stdout
    server.send_signal(signal.SIGTERM)
    host.close()

    assert start == "uvicorn app.main:app --port 8001"
    assert output == '{"status": "ok"}'


_EXAMPLE = f"postgresql://user:pass@host:5432/{RESTORED}"


def _quoted(line: str) -> str:
    """Return what stands between a line's quotation marks."""
    return line.split('"')[1]


def test_insert_of_the_testing_log__works_on_postgresql_too(restored: Site, postgres: Cluster) -> None:
    """A user given only an address and a role is complete, by the columns' defaults."""
    line = next(line for line in runbook.block("Backup Testing Log").lines if "INSERT" in line)
    restored.ask(RESTORED, _quoted(line))
    user = restored.ask(
        RESTORED,
        "SELECT role, password, is_active, is_staff, is_superuser, preferences, date_joined <= now()"
        " FROM users WHERE email = 'test@backup.com'",
    )

    assert ["admin|!|t|f|f|{}|t"] == user


def daily_script(site: Site, target: Path) -> Path:
    """Write the runbook's script with its three settings filled in."""
    text = runbook.block("Daily Backup Script").text
    for example, real in {
        '"your-db-host"': f'"{site.postgres.host}"',
        '"backup_user"': f'"{OWNER}"',
        '"/var/backups/sme_erp"': f'"{target}"',
    }.items():
        assert text.count(example) == 1
        text = text.replace(example, real)
    script = site.folder / "daily_backup.sh"
    script.write_text(text)
    script.chmod(0o755)
    return script


def test_daily_script__writes_a_backup_that_restores(site: Site, no_restored: None) -> None:
    """The script ends well, removes what is too old, keeps what is not its own, and its file restores."""
    target = site.folder / "daily"
    target.mkdir()
    old, foreign = target / "sme_erp_backup_20250101_020000.sql.gz", target / "notes.txt"
    for file in (old, foreign):
        file.touch()
        os.utime(file, (0, 0))
    output = site.succeed(str(daily_script(site, target)))
    [written] = target.glob("*.sql.gz")
    create, _sql, compressed, _custom = runbook.block("PostgreSQL", "Full Database Restore").lines
    site.succeed(create)
    site.succeed(compressed.replace(f"sme_erp_backup_{STAMP}.sql.gz", str(written)))

    assert "✅ Backup file integrity verified" in output
    assert foreign.exists()
    assert not old.exists()
    assert dump(site, PRODUCTION) == dump(site, RESTORED)


def test_cron_lines__do_what_they_say(site: Site) -> None:
    """Both lines run as cron runs them: by sh, with an escaped percent sign read as a plain one."""
    folder = site.folder / "cron"
    (folder / "log").mkdir(parents=True)
    script = daily_script(site, folder)
    daily, weekly = (line.split(maxsplit=5)[5].replace(r"\%", "%") for line in runbook.block("Backup Cron Setup").lines)
    weekly = weekly.replace("-h host -U user", "-h <hostname> -U <username>")
    results = [
        site.run(
            daily.replace("/path/to/daily_backup.sh", str(script)).replace("/var/log", f"{folder}/log"), shell="sh"
        ),
        site.run(weekly.replace("/var/backups/sme_erp", str(folder)), shell="sh"),
    ]
    [archive] = folder.glob("weekly_*.dump")

    assert [(0, ""), (0, "")] == [(result.returncode, result.stderr) for result in results]
    assert "Backup completed" in (folder / "log" / "sme_erp_backup.log").read_text()
    assert "TABLE DATA public stock_ledger" in site.succeed(f"pg_restore --list {archive}")
