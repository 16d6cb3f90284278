"""The page about deleted rows, carried out line by line after the runbook's scenario 2."""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3

from tests.support.host import REPOSITORY, Host

PAGE = (REPOSITORY / "docs" / "how-to" / "recover-deleted-rows.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ python manage\.py (.+)$", PAGE, re.MULTILINE)


def test_every_command_of_the_page__does_what_the_page_says(host: Host) -> None:
    """In order: what is missing is shown, brought back, and then no longer missing."""
    host.migrate()
    host.seed(transactions=60)
    made = host.manage("dbbackup", "--json").json()["backups"][0]["id"]
    with contextlib.closing(sqlite3.connect(host.database_file)) as connection, connection:
        before = connection.execute("SELECT * FROM stock_ledger ORDER BY id").fetchall()
        connection.execute("DELETE FROM stock_ledger WHERE id % 3 = 0")
    answers = {}
    for command in dict.fromkeys(COMMANDS):
        words = [
            made if word == "BACKUP" else str(host.folder / word) if "." in word and word.startswith("ledger") else word
            for word in shlex.split(command)
        ]
        answers[command] = host.manage(*words, *(["--noinput"] if "--apply" in words else []))
    again = host.manage("recoverrows", made, "erp.StockLedgerEntry").stdout
    with contextlib.closing(sqlite3.connect(host.database_file)) as connection:
        after = connection.execute("SELECT * FROM stock_ledger ORDER BY id").fetchall()

    missing = len([row for row in before if row[0] % 3 == 0])
    shown = answers["recoverrows BACKUP erp.StockLedgerEntry"].stdout
    applied = answers["recoverrows BACKUP erp.StockLedgerEntry --with-dependents --apply"].stdout
    assert f"{missing} rows are missing" in shown
    assert "Nothing was changed. Add --apply." in shown
    assert f"Inserted {missing} rows" in applied
    assert "No row is missing." in again
    assert before == after
