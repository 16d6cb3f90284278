"""Some tables get the backup's rows again; rows that refer to them stay, and none is left referring to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.erp import Erp
from tests.support.host import REPOSITORY, Host
from tests.support.postgres import Cluster, temporary_database

STATE = ("users", "items", "categories", "item_tags", "stock_levels")


@pytest.fixture(params=["sqlite", "postgresql"])
def erp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[Erp]:
    """The demo with a backup, on either kind of database."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        kind = request.param
        databases = {"default": entry} if kind == "postgresql" else None
        host = Host(tmp_path_factory.mktemp("tables"), databases=databases)
        host.migrate()
        host.seed(transactions=60)
        erp = Erp(host, kind, entry if databases else None)
        erp.sql("CREATE TABLE plain (a integer, b text)")
        erp.sql("INSERT INTO plain VALUES (1, 'x'), (1, 'x'), (NULL, NULL)")
        erp.back_up()
        yield erp
        host.close()


def steps(erp: Erp, *wanted: tuple[list[str], list[str]]) -> list[dict[str, Any]]:
    """Run statements and restore tables, several times, with one copy."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.restore_tables", erp.backup],
        cwd=REPOSITORY,
        env={**erp.host.environment, "PYTHONPATH": f"{erp.host.folder}:{REPOSITORY}"},
        input=json.dumps([{"sql": sql, "tables": tables} for sql, tables in wanted]),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


NEW_USER = "INSERT INTO users (email, is_superuser) VALUES ('new@example.com', false)"
NEW_ITEM = (
    "INSERT INTO items (sku, name, category_id, price, cost, updated_at, created_at) "
    "SELECT 'NEW', 'new', category_id, 1, 1, updated_at, created_at FROM items WHERE id = 1"
)
NEW_SKU = "UPDATE items SET sku = 'x' WHERE id = 1"
NEW_LEVEL = "INSERT INTO stock_levels (item_id, warehouse_id, quantity) SELECT max(id), 1, 0 FROM items"

LOSE_A_CATEGORY = [
    *(
        f"DELETE FROM {table}"
        for table in (
            "item_tags",
            "item_suppliers",
            "purchase_order_lines",
            "sales_order_lines",
            "stock_ledger",
            "stock_levels",
        )
    ),
    "CREATE TABLE gone AS SELECT category_id AS id FROM items WHERE id = 1",
    "DELETE FROM items",
    "DELETE FROM categories WHERE id IN (SELECT id FROM gone)",
]


def test_tables_of_the_live_database__as_they_were_or_refused_with_reasons(erp: Erp) -> None:
    """Changed, deleted and new rows; swapped unique values; orphans; lost parents; other columns; no primary key."""
    before = erp.state(*STATE)
    done, orphaned, fetched, plain, unknown, ours, altered = steps(
        erp,
        ([NEW_USER, NEW_ITEM, "UPDATE users SET full_name = 'Ü' WHERE id = 2", NEW_SKU], ["users", "items"]),
        ([NEW_ITEM, NEW_LEVEL], ["users", "items"]),
        ([], ["users", "items", "stock_levels"]),
        (["DELETE FROM plain WHERE a = 1", "INSERT INTO plain VALUES (7, 'y')"], ["plain"]),
        ([], ["nothing"]),
        ([], ["erp_backup_backup"]),
        (["ALTER TABLE users ADD COLUMN nick text"], ["users"]),
    )

    assert {"deleted": 1, "changed": 1, "inserted": 0, "rows": len(before["users"])} == done["tables"]["users"]
    assert {"deleted": 1, "changed": 1, "inserted": 0, "rows": len(before["items"])} == done["tables"]["items"]
    assert ("RefusedError", 9) == (orphaned["error"], orphaned["code"])
    assert "1 of stock_levels (item_id -> items)" in orphaned["message"]
    assert {"users", "items", "stock_levels"} == set(fetched["tables"])
    assert {"deleted": 2, "changed": 0, "inserted": 3, "rows": 3} == plain["tables"]["plain"]
    assert "UsageError" == unknown["error"]
    assert "RefusedError" == ours["error"]
    assert "nick" in altered["message"]
    erp.sql("ALTER TABLE users DROP COLUMN nick")
    assert before == erp.state(*STATE)
    assert ["(1, 'x')", "(1, 'x')", "(None, None)"] == erp.rows("plain")

    # The sequences are behind the rows: the next one gets a key of its own.
    erp.sql(NEW_USER, NEW_ITEM)
    assert len(before["items"]) + 1 == len(erp.rows("items"))

    # Items cannot come back into categories that no longer exist.
    (lost,) = steps(erp, (LOSE_A_CATEGORY, ["items"]))
    assert "RefusedError" == lost["error"]
    assert "of items (category_id -> categories)" in lost["message"]
    assert [] == erp.rows("items")
