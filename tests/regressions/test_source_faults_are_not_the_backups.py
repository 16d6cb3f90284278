"""A drill of a source with orphans failed, though the copy was exact: the restore was blamed for the rows."""

from __future__ import annotations

import contextlib
import sqlite3

from tests.support.host import Host


def test_orphans_in_the_source__told_apart(host: Host) -> None:
    """The copy is exact, so the drill passes; the orphans are named as the source's own."""
    host.migrate()
    host.seed()
    with contextlib.closing(sqlite3.connect(host.database_file)) as connection, connection:
        connection.execute("UPDATE stock_ledger SET item_id = 999999 WHERE id = 1")
    host.manage("dbbackup", "-q")

    result = host.manage("verifybackup")

    assert "PASSED" in result.stdout
    assert "also in the source: integrity references" in result.stdout
    assert "also in the source: invariant erp_backup.orphans" in result.stdout


def test_table_filled_by_two_installations__head_is_kept(host: Host) -> None:
    """The state folder's head counts on, also when the history rows are gone."""
    host.migrate()
    host.manage("dbbackup", "-q")
    with contextlib.closing(sqlite3.connect(host.database_file)) as connection, connection:
        for table in ("copy", "finding", "verification", "backup"):
            connection.execute(f"DELETE FROM erp_backup_{table}")

    made = host.manage("dbbackup", "--json").json()["backups"][0]

    assert 2 == made["number"]
