"""Law 7: every archive restores with stock tools from Debian and no line of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.host import Host
from tests.support.postgres import Cluster, temporary_database


def shell(script: str, **variables: str) -> str:
    """Run a script as an administrator would, in a shell without any Python of ours."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_key(folder: Path) -> tuple[Path, str]:
    """Return an age identity file and its recipient, made by the stock tool."""
    identity = folder / "identity.txt"
    shell(f"age-keygen -o {identity} 2>/dev/null && chmod 600 {identity}")
    return identity, shell(f"age-keygen -y {identity}")


def test_postgresql__age_zstd_pg_restore(tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
    """An encrypted, compressed archive goes through a pipe of three programs into a new database."""
    identity, recipient = make_key(tmp_path)
    host = Host(tmp_path / "host", databases={"default": pg_database})
    host.migrate()
    host.seed(transactions=500)
    made = host.manage("dbbackup", "--json", env={"ERP_BACKUP_RECIPIENTS": recipient}).json()["backups"][0]
    assert made["archive"]["name"].endswith(".dump.zst.age")

    with temporary_database(postgres, owner="erp_owner") as target:
        libpq = {
            "PGHOST": target["HOST"],
            "PGPORT": str(target["PORT"]),
            "PGUSER": target["USER"],
            "PGPASSWORD": target["PASSWORD"],
            "PGDATABASE": target["NAME"],
            "PATH": f"{postgres.bin_dir}{os.pathsep}/usr/bin:/bin",
        }
        shell(
            f"age --decrypt -i {identity} {made['paths'][0]} | zstd -dc"
            " | pg_restore --exit-on-error --no-owner --dbname=$PGDATABASE",
            **libpq,
        )
        restored = shell("psql -XAtc 'SELECT count(*) FROM stock_ledger'", **libpq)
    with postgres.connect(pg_database["NAME"]) as connection:
        (live,) = connection.execute("SELECT count(*) FROM stock_ledger").fetchone()

    assert str(live) == restored


def test_sqlite__age_zstd_sqlite3(tmp_path: Path) -> None:
    """An archive of SQLite is the database itself once it is decoded."""
    identity, recipient = make_key(tmp_path)
    host = Host(tmp_path / "host")
    host.migrate()
    host.seed()
    made = host.manage("dbbackup", "--json", env={"ERP_BACKUP_RECIPIENTS": recipient}).json()["backups"][0]

    restored = tmp_path / "restored.sqlite3"
    shell(f"age --decrypt -i {identity} {made['paths'][0]} | zstd -dc > {restored}")
    count = "SELECT count(*) FROM stock_ledger"

    assert "ok" == shell(f"sqlite3 {restored} 'PRAGMA integrity_check'")
    assert shell(f"sqlite3 {host.database_file} '{count}'") == shell(f"sqlite3 {restored} '{count}'")


def test_sqlite_text__zstd_sqlite3(tmp_path: Path) -> None:
    """The text format is read by the stock program from standard input."""
    host = Host(tmp_path / "host")
    host.migrate()
    host.seed()
    made = host.manage("dbbackup", "--format", "sql", "--json").json()["backups"][0]

    restored = tmp_path / "restored.sqlite3"
    shell(f"zstd -dc {made['paths'][0]} | sqlite3 {restored}")
    count = "SELECT count(*) FROM items"

    assert shell(f"sqlite3 {host.database_file} '{count}'") == shell(f"sqlite3 {restored} '{count}'")


def test_postgresql_text__zstd_psql(tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
    """The plain format is read by psql."""
    host = Host(tmp_path / "host", databases={"default": pg_database})
    host.migrate()
    host.seed()
    made = host.manage("dbbackup", "--format", "plain", "--json").json()["backups"][0]
    host.manage("verifybackup", made["id"], "-q")

    with temporary_database(postgres, owner="erp_owner") as target:
        libpq = {
            "PGHOST": target["HOST"],
            "PGPORT": str(target["PORT"]),
            "PGUSER": target["USER"],
            "PGPASSWORD": target["PASSWORD"],
            "PGDATABASE": target["NAME"],
            "PATH": f"{postgres.bin_dir}{os.pathsep}/usr/bin:/bin",
        }
        shell(f"zstd -dc {made['paths'][0]} | psql -XqAt -v ON_ERROR_STOP=1 -o /dev/null", **libpq)

        assert "20" == shell("psql -XAtc 'SELECT count(*) FROM items'", **libpq)
