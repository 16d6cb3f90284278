"""Rows that somebody deleted come back, with all that belongs to them; what was written since stays."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator

import pytest

from tests.support.erp import Erp
from tests.support.host import Host
from tests.support.pg_engine import eventually
from tests.support.postgres import Cluster, temporary_database
from tests.support.tiers import IS_FULL, some
from tests.support.zoo import FILL, SETTINGS, write_zoo

REFUSED, USAGE = 9, 2
APPLY = ("--apply", "--noinput", "--no-safety-backup")

TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER noted AFTER INSERT ON zoo_animal BEGIN INSERT INTO zoo_log (text) VALUES (new.name); END",
    ],
    "postgresql": [
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO zoo_log (text) VALUES (new.name); RETURN new; END $$",
        "CREATE TRIGGER noted AFTER INSERT ON zoo_animal FOR EACH ROW EXECUTE FUNCTION note()",
    ],
}
ZOO = (
    "zoo_species",
    "zoo_keeper",
    "zoo_tag",
    "zoo_animal",
    "zoo_elephant",
    "zoo_visit",
    "zoo_animal_tags",
    "zoo_log",
)


# Pairs of movements that leave every balance as it is: some of item 3, which is deleted, most of another.
TRANSACTIONS, SHARE = (500_000, 100) if IS_FULL else (10_000, 20)
BULK = [
    "INSERT INTO stock_transactions (number, kind, note, details) "
    f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {TRANSACTIONS}) "
    "SELECT 'BULK-' || i, 'ADJUSTMENT', '', '{}' FROM n",
    *(
        "INSERT INTO stock_ledger (transaction_id, item_id, warehouse_id, quantity_change, unit_cost) "
        f"SELECT id, CASE WHEN id % {SHARE} = 0 THEN 3 ELSE 1 END, 1, {change}, 1.5 "
        "FROM stock_transactions WHERE number LIKE 'BULK-%'"
        for change in (2.125, -2.125)
    ),
]

DELETE_ZOO = [
    f"DELETE FROM {table}"
    for table in (
        "zoo_visit",
        "zoo_animal_tags",
        "zoo_elephant",
        "zoo_animal",
        "zoo_keeper",
        "zoo_tag",
        "zoo_species",
    )
]
# Its key comes from the sequence, which must be behind none of the rows.
NEXT_ANIMAL = "from zoo.models import *; Animal.objects.create(name='next', species=Species.objects.first(), weight=1)"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def erp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[Erp]:
    """The demo and a zoo, filled and backed up, on either kind of database."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        kind = request.param
        databases = {"default": entry} if kind == "postgresql" else None
        host = Host(tmp_path_factory.mktemp("rows"), databases=databases, extra_settings=SETTINGS)
        write_zoo(host.folder)
        host.manage("migrate", "--run-syncdb", "--verbosity=0")
        host.seed(transactions=100)
        host.manage("shell", "-c", FILL)
        erp = Erp(host, kind, entry if databases else None)
        erp.sql(*BULK)
        erp.sql(*TRIGGERS[kind])
        erp.sql("DELETE FROM zoo_log")
        erp.back_up()
        yield erp
        host.close()


class TestScenario2:
    """The runbook's scenario: ledger rows, their transactions and an item are deleted past Django."""

    def delete(self, erp: Erp) -> None:
        """Delete an item with all that it is in, and a good part of the ledger."""
        erp.sql(
            "CREATE TABLE doomed AS SELECT DISTINCT transaction_id FROM stock_ledger WHERE item_id = 3",
            "DELETE FROM stock_ledger WHERE transaction_id IN (SELECT transaction_id FROM doomed)",
            "DELETE FROM stock_transactions WHERE id IN (SELECT transaction_id FROM doomed)",
            *(
                f"DELETE FROM {table} WHERE item_id = 3"
                for table in (
                    "stock_levels",
                    "item_tags",
                    "item_suppliers",
                    "purchase_order_lines",
                    "sales_order_lines",
                )
            ),
            "DELETE FROM items WHERE id = 3",
            "DROP TABLE doomed",
            "INSERT INTO stock_transactions (number, kind, note, details) VALUES ('NEW-1', 'RECEIPT', '', '{}')",
            "INSERT INTO stock_ledger (transaction_id, item_id, warehouse_id, quantity_change, unit_cost) "
            "SELECT max(id), 1, 1, 5, 1 FROM stock_transactions",
            "UPDATE stock_levels SET quantity = quantity + 5 WHERE item_id = 1 AND warehouse_id = 1",
            "UPDATE items SET on_hand = on_hand + 5 WHERE id = 1",
        )

    tables = (
        "items",
        "item_tags",
        "item_suppliers",
        "stock_ledger",
        "stock_transactions",
        "stock_levels",
        "purchase_order_lines",
        "sales_order_lines",
    )

    @pytest.mark.parametrize(
        ("erp", "model"),
        [
            ("sqlite", "erp.StockLedgerEntry"),
            ("postgresql", "erp.Item"),
            *([("sqlite", "erp.Item"), ("postgresql", "erp.StockLedgerEntry")] if IS_FULL else []),
        ],
        indirect=["erp"],
    )
    def test_applied__balances_as_before_and_newer_rows_untouched(self, erp: Erp, model: str) -> None:
        """From the item or from the ledger: everything that was deleted is back, bit for bit."""
        before = erp.state(*self.tables)
        self.delete(erp)
        deleted = erp.state(*self.tables)

        shown = erp.recover(model, "--with-dependents")

        assert not shown["applied"]
        assert (
            shown["missing"]["erp.StockLedgerEntry"] == len(before["stock_ledger"]) - len(deleted["stock_ledger"]) + 1
        )
        assert deleted == erp.state(*self.tables)

        done = erp.recover(model, "--with-dependents", "--apply", "--noinput")

        assert shown["missing"] == done["missing"]
        assert (
            "0" == next(change["after"] for change in done["checks"] if change["check"] == "stock.on_hand").split()[0]
        )
        now = erp.state(*self.tables)
        assert all(set(deleted[table]) <= set(now[table]) for table in self.tables)
        self.take_back_what_is_newer(erp)
        assert before == erp.state(*self.tables)

    def take_back_what_is_newer(self, erp: Erp) -> None:
        """Undo, by SQL, what was written after the deletion."""
        erp.sql(
            "DELETE FROM stock_ledger WHERE transaction_id IN "
            "(SELECT id FROM stock_transactions WHERE number = 'NEW-1')",
            "DELETE FROM stock_transactions WHERE number = 'NEW-1'",
            "UPDATE stock_levels SET quantity = quantity - 5 WHERE item_id = 1 AND warehouse_id = 1",
            "UPDATE items SET on_hand = on_hand - 5 WHERE id = 1",
        )


class TestRelations:
    """Parents, children, many-to-many relations, circles: all that makes a row what it was."""

    def test_everything_deleted__everything_back_bit_for_bit(self, erp: Erp) -> None:
        """Unicode, nulls, decimals, JSON, bytes, times; a parent's parent, a child's table, a circle of keys."""
        before = erp.state(*ZOO)
        erp.sql(*DELETE_ZOO)

        done = erp.recover("zoo.Animal", "--with-dependents", *APPLY)
        assert {
            "zoo.Animal": 2,
            "zoo.Elephant": 1,
            "zoo.Species": 2,
            "zoo.Keeper": 1,
            "zoo.Visit": 2,
        } == done["missing"]

        # Relations come back with whichever end comes back last.
        done = erp.recover("zoo.Tag", *APPLY)
        assert {"zoo.Tag": 3, "zoo.Animal_tags": 4} == done["missing"]
        assert before == erp.state(*ZOO)

    def test_triggers__do_not_fire_and_are_there_afterwards(self, erp: Erp) -> None:
        """The rows' own trigger wrote nothing while they came back, and works for the next row."""
        before = erp.state(*ZOO)
        erp.sql(*DELETE_ZOO[:5])
        erp.recover("zoo.Animal", "--with-dependents", *APPLY)

        assert before == erp.state(*ZOO)
        erp.host.manage("shell", "-c", NEXT_ANIMAL)
        assert 1 == len(erp.rows("zoo_log"))
        erp.sql("DELETE FROM zoo_log", "DELETE FROM zoo_animal WHERE name = 'next'")


@pytest.mark.parametrize("erp", some(["postgresql", "sqlite"], 2), indirect=True)
class TestConflicts:
    """Live rows that are in the way are found before anything is written."""

    def test_natural_key_taken_by_another_row__refused_listed_and_skipped(self, erp: Erp) -> None:
        """The same tag was made again under another key: its old row cannot come back, the others can."""
        erp.sql(
            "DELETE FROM zoo_animal_tags", "DELETE FROM zoo_tag", "INSERT INTO zoo_tag (id, name) VALUES (77, 'grey')"
        )

        shown = erp.run("zoo.Tag")
        refused = erp.recover("zoo.Tag", *APPLY, code=REFUSED)

        assert "CONFLICT: 1 rows of zoo.Tag (1) have in" in shown.stdout
        assert "what other rows (77) have now" in shown.stdout
        assert "1 conflicts" in refused["error"]["message"]
        assert 1 == len(erp.rows("zoo_tag"))

        skipped = erp.recover("zoo.Tag", "--skip-conflicts", *APPLY)

        # The old tag stays out, and so do the relations that were its own.
        assert {"zoo.Tag": 2, "zoo.Animal_tags": 2} == skipped["missing"]
        assert ["(2, 'large')", "(3, 'loud')", "(77, 'grey')"] == erp.rows("zoo_tag")
        erp.sql("DELETE FROM zoo_tag WHERE id = 77")
        erp.recover("zoo.Tag", *APPLY)
        assert 4 == len(erp.rows("zoo_animal_tags"))


class TestChanges:
    """Rows that are on both sides and not the same."""

    def test_changed_rows__shown_column_by_column_and_kept_unless_told(self, erp: Erp) -> None:
        """A row that somebody corrected since is never overwritten by the way."""
        before = erp.rows("zoo_species")
        erp.sql("UPDATE zoo_species SET code = 'Mammals' WHERE id = 1", "UPDATE zoo_species SET parent_id = NULL")
        changed = erp.rows("zoo_species")

        shown = erp.recover("zoo.Species", "--changed", *APPLY)

        assert {"code": 1, "parent_id": 1} == shown["plan"]["changed"][0]["columns"]
        assert {"key": "1", "column": "code", "backup": "mammals", "live": "Mammals"} in shown["plan"]["changed"][0][
            "sample"
        ]
        assert changed == erp.rows("zoo_species")

        erp.recover("zoo.Species", "--overwrite-changed", "--pk", "1", *APPLY)
        assert changed != erp.rows("zoo_species") != before
        erp.recover("zoo.Species", "--overwrite-changed", *APPLY)
        assert before == erp.rows("zoo_species")

    @pytest.mark.parametrize("erp", ["sqlite"], indirect=True)
    def test_a_childs_changes__are_looked_for_in_its_parents_table_too(self, erp: Erp) -> None:
        """An elephant's weight stands in the table of animals; a text's digits count, not only its value."""
        before = erp.state(*ZOO)
        erp.sql("UPDATE zoo_animal SET weight = 1, photo = NULL WHERE id = 1", "UPDATE zoo_elephant SET tusks = 1")

        done = erp.recover("zoo.Elephant", "--overwrite-changed", *APPLY)

        assert {"zoo.Elephant", "zoo.Animal"} == {changed["model"] for changed in done["plan"]["changed"]}
        assert before == erp.state(*ZOO)


@pytest.mark.parametrize("erp", ["sqlite"], indirect=True)
class TestChoosing:
    """Which rows are asked for."""

    def test_keys_and_lookups__choose_rows_by_value_only(self, erp: Erp) -> None:
        """Lookups go through the ORM on the copy; what is SQL to others is a value here."""
        before = erp.rows("zoo_visit")
        erp.sql("DELETE FROM zoo_visit")

        assert {"zoo.Visit": 1} == erp.recover("zoo.Visit", "--where", "animal__name=", *APPLY)["missing"]
        assert 0 == erp.recover("zoo.Visit", "--where", "note=' OR 1=1 --")["selected"]
        assert {} == erp.recover("zoo.Visit", "--pk", "2")["missing"]
        assert {"zoo.Visit": 1} == erp.recover("zoo.Visit", "--where", "pk__in=1,2", *APPLY)["missing"]
        assert before == erp.rows("zoo_visit")

    @pytest.mark.parametrize(
        ("model", "option", "code", "said"),
        [
            ("zoo.Nothing", (), USAGE, "no model"),
            ("zoo.Report", (), REFUSED, "not managed"),
            ("zoo.Visit", ("--where", "nothing=1"), USAGE, "nothing"),
            ("zoo.Visit", ("--where", "id"), USAGE, "no condition"),
            ("zoo.Visit", ("--pk", "x"), USAGE, "'--pk' does not fit"),
        ],
    )
    def test_what_does_not_exist__is_said_with_its_code(
        self, erp: Erp, model: str, option: tuple[str, ...], code: int, said: str
    ) -> None:
        """Nothing is guessed."""
        assert said in erp.recover(model, *option, code=code)["error"]["message"]

    def test_a_proxy__stands_for_its_concrete_model(self, erp: Erp) -> None:
        """Its rows are in the concrete model's table."""
        assert "zoo.Elephant" == erp.recover("zoo.Veteran")["model"]


@pytest.mark.parametrize("erp", ["sqlite"], indirect=True)
class TestConfirmation:
    """Nothing happens unless the database's name was typed, or nobody is to be asked."""

    def test_without_a_terminal__refused(self, erp: Erp) -> None:
        """A script must say --noinput; what would be done is shown all the same."""
        before = erp.state(*ZOO)
        erp.sql("DELETE FROM zoo_visit WHERE id = 1")

        refused = erp.run("zoo.Visit", "--apply", input="\ny\n")

        assert REFUSED == refused.returncode
        assert "1 rows are missing" in refused.stdout
        assert 1 == len(erp.rows("zoo_visit"))
        erp.recover("zoo.Visit", *APPLY)
        assert before == erp.state(*ZOO)


@pytest.mark.parametrize("erp", some(["postgresql", "sqlite"], 2), indirect=True)
class TestExport:
    """The missing rows as a file, for the stock program or a spreadsheet."""

    def test_sql__loads_with_the_databases_own_reader_and_brings_everything_back(self, erp: Erp) -> None:
        """Quotes, bytes, nulls, line ends and reals are the same after the file was run as they were before."""
        before = erp.state(*ZOO)
        erp.sql(*DELETE_ZOO[:5])
        file, table = erp.host.folder / "rows.sql", erp.host.folder / "rows.csv"

        exported = erp.recover("zoo.Animal", "--with-dependents", "--export", str(file))
        erp.recover("zoo.Animal", "--export", str(table))
        refused = erp.recover("zoo.Animal", "--export", str(file), code=USAGE)

        assert 0o600 == file.stat().st_mode & 0o777
        assert sum(exported["missing"].values()) == exported["exported_rows"]
        assert "exists" in refused["error"]["message"]
        lines = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
        assert ["1", "2"] == [line["id"] for line in lines]
        assert "\\x000102" == lines[0]["photo"][:8]
        erp.run_file(file)
        erp.sql("DELETE FROM zoo_log")
        assert before == erp.state(*ZOO)


@pytest.mark.parametrize("erp", ["sqlite"], indirect=True)
class TestSignals:
    """The ERP hears nothing, unless it is asked to."""

    def test_post_save__is_sent_afterwards_when_asked_for(self, erp: Erp) -> None:
        """Each row that came back is announced once, from the committed state."""
        before = erp.rows("zoo_visit")
        heard = erp.host.folder / "heard"
        heard.unlink(missing_ok=True)  # what the zoo was filled with was announced, too
        erp.sql("DELETE FROM zoo_visit")

        erp.recover("zoo.Visit", "--pk", "1", *APPLY)
        assert not heard.exists()

        erp.recover("zoo.Visit", "--with-signals", *APPLY)
        assert "zoo.Visit 2 True\n" == heard.read_text()
        assert before == erp.rows("zoo_visit")


class TestKills:
    """All or nothing, and the history says which."""

    def test_killed_while_rows_are_written__all_or_nothing_and_the_next_run_ends_it(self, erp: Erp) -> None:
        """SIGKILL some milliseconds after writing began; the state is one of the two, and the history agrees."""
        before = erp.rows("stock_ledger")
        outcomes = []
        for milliseconds in range(0, 400, 10) if IS_FULL else (0, 60):
            erp.sql("DELETE FROM stock_ledger WHERE id % 2 = 0")
            deleted = erp.rows("stock_ledger")
            kill_while_writing(erp, milliseconds)
            found = erp.rows("stock_ledger")
            (status,) = erp.sql("SELECT status FROM erp_backup_restore ORDER BY id DESC LIMIT 1")[0]

            assert found in (before, deleted)
            assert {True: "complete", False: "running"}[found == before] == status
            outcomes.append(status)
            done = erp.recover("erp.StockLedgerEntry", *APPLY)
            assert done["applied"] is (found == deleted)
            assert before == erp.rows("stock_ledger")

        assert "running" in outcomes
        assert 0 == erp.sql("SELECT count(*) FROM erp_backup_restore WHERE status = 'running'")[0][0]


def kill_while_writing(erp: Erp, milliseconds: int) -> None:
    """Start to bring ledger rows back, and kill the process when it has begun to write."""
    process = erp.host.popen("recoverrows", erp.backup, "erp.StockLedgerEntry", *APPLY)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("insert rows"):
            break
    time.sleep(milliseconds / 1000)
    process.kill()
    process.communicate()
    if erp.kind == "postgresql":
        # What the server is still doing for a client that is gone ends before anybody looks.
        assert eventually(lambda: 0 == erp.sql(_BUSY)[0][0])


_BUSY = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
