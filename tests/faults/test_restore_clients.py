"""`dbrestore` while people work: nobody reads what is gone, and no write that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import assert_nobody_reads_old_after_new, clients, counted
from tests.support.lite_switch import Writers, rows_of
from tests.support.pg_engine import connect
from tests.support.postgres import Cluster
from tests.support.restoring import Erp, made
from tests.support.sqlite import run
from tests.support.tiers import IS_FULL

CLIENTS = 50 if IS_FULL else 12
MODES = ("wal", "delete", "truncate", "persist") if IS_FULL else ("wal",)


@pytest.fixture
def erp(request: pytest.FixtureRequest, tmp_path: Path, postgres: Cluster) -> Iterator[Erp]:
    """An ERP on the kind of database that the test asks for."""
    with made(tmp_path, request.param, postgres) as erp:
        yield erp


def back_up(erp: Erp) -> None:
    """Take the backup that is restored."""
    erp.backup = erp.host.manage("dbbackup", "--json").json()["backups"][0]["id"]


@pytest.mark.parametrize("erp", ["postgresql"], indirect=True)
def test_postgresql_clients__only_reconnect(erp: Erp, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the whole command: safety backup, restore beside, switch, and what follows it."""
    entry = erp.database
    assert isinstance(entry, dict)
    for statement in (
        "CREATE TABLE log (client integer, value text)",
        "CREATE TABLE mark (value text)",
        "INSERT INTO mark VALUES ('new')",
        "ALTER TABLE log OWNER TO erp_owner",
        "ALTER TABLE mark OWNER TO erp_owner",
    ):
        erp.sql(statement)
    back_up(erp)
    erp.sql("UPDATE mark SET value = 'old'")
    with clients(lambda: connect(entry), CLIENTS) as found:
        result = erp.restore(erp.backup, "--switch", "--json").json()
    gap = assert_nobody_reads_old_after_new(found)
    acknowledged = [value for client in found for _begin, _end, value in client.seen]
    said = [text for client in found for text in client.said]
    with capsys.disabled():
        sys.stdout.write(f" [{CLIENTS} clients of dbrestore: no commit for {gap * 1000:.0f} ms] ")

    assert [] == result["problems"]
    # Only lines that were cut. Who came in between waited for the rename, was told of it, and came again.
    assert [] == [text for text in said if not text.startswith(("AdminShutdown", "OperationalError"))]
    assert [] == [text for text in said if "does not exist" in text and "just been dropped or renamed" not in text]
    lost = counted(entry, result["replaced"]["name"], "old") - acknowledged.count("old")
    assert 0 <= lost <= len(said)
    assert 0 <= counted(entry, entry["NAME"], "new") - acknowledged.count("new") <= len(found)


@pytest.mark.parametrize("erp", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_sqlite_writers__no_acknowledged_write_is_lost(erp: Erp, mode: str) -> None:
    """Four processes write through Django: each row is in the replaced file or in the live one, in order."""
    live = erp.database
    assert isinstance(live, Path)
    with contextlib.closing(sqlite3.connect(live)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode={mode};"
            "CREATE TABLE entry (id integer PRIMARY KEY, writer integer, number integer, note text);"
            "CREATE TABLE balance (total integer); INSERT INTO balance VALUES (0);"
        )
    back_up(erp)
    writers = Writers(live, mode)
    try:
        writers.wait_for_more(12)
        result = erp.restore(erp.backup, "--json").json()
        writers.wait_for_more(12)
    finally:
        complaints = writers.stop()
    kept = Path(result["replaced"]["name"])

    assert [] == complaints
    assert [] == result["problems"]
    for number, acknowledged in enumerate(writers.acknowledged):
        before, after = rows_of(kept, number), rows_of(live, number)
        assert len(before) >= 12
        assert len(after) >= 12
        assert list(range(1, len(acknowledged) + 1)) == acknowledged == before + after
    for path in (kept, live):
        assert [("ok",)] == run(path, "PRAGMA integrity_check")
        assert run(path, "SELECT count(*) FROM entry") == run(path, "SELECT total FROM balance")
