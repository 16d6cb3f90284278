"""What the fingerprint of an SQLite table tells apart, and what it must not."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest
import xxhash

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import BackupError
from erp_backup.core.figures import Figures, TableFigure
from erp_backup.core.process import ProcessRunner
from erp_backup.engines.sqlite import measuring, rowhash
from erp_backup.engines.sqlite.measuring import Measurer
from tests.support.sqlite import create, run

Row = tuple[object, ...]
SCHEMA = "CREATE TABLE t (a, b);"
ROWS: list[Row] = [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (3, None)]


@pytest.fixture
def measurer() -> Measurer:
    """A measurer that uses this process alone."""
    return Measurer(runner=ProcessRunner(SystemClock()), jobs=1, stop=Event())


def table_of(path: Path, rows: list[Row], measurer: Measurer, *, schema: str = SCHEMA) -> TableFigure:
    """Create a database with ``rows`` in table ``t`` and return its figure."""
    path.unlink(missing_ok=True)
    create(path, schema)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"INSERT INTO t VALUES ({','.join('?' * len(rows[0]))})", rows)
    return measurer.figures(path).tables[0]


def with_text(path: Path, text: bytes, measurer: Measurer) -> TableFigure:
    """Return the figure of a table that holds ``text`` as text, byte by byte."""
    path.unlink(missing_ok=True)
    create(path, f"{SCHEMA} INSERT INTO t VALUES (1, CAST(X'{text.hex()}' AS TEXT));")
    return measurer.figures(path).tables[0]


CHANGES: dict[str, list[Row]] = {
    "a cell": [(1, "x"), (1, "x"), (2, "y"), (2, "z"), (3, None)],
    "cells swapped between rows": [(1, "y"), (1, "x"), (2, "x"), (2, "y"), (3, None)],
    "cells swapped within a row": [("x", 1), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "a pair of duplicates replaced by another": [(1, "x"), (1, "x"), (4, "w"), (4, "w"), (3, None)],
    "a duplicate moved": [(1, "x"), (1, "x"), (1, "x"), (2, "y"), (3, None)],
    "NULL became empty text": [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (3, "")],
    "NULL became zero": [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (3, 0)],
    "NULL became its name": [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (3, "NULL")],
    "integer became real": [(1.0, "x"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "integer became text": [("1", "x"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "integer became blob": [(b"1", "x"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "text became blob": [(1, b"x"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "a NUL at the end": [(1, "x\0"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "a space at the end": [(1, "x "), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "another case": [(1, "X"), (1, "x"), (2, "y"), (2, "y"), (3, None)],
    "NULL moved to the other column": [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (None, 3)],
}

PAIRS: dict[str, tuple[Row, Row]] = {
    "text behind a NUL": (("a\0b",), ("a\0c",)),
    "zeros": ((0.0,), (-0.0,)),
    "the last digit": ((0.1,), (0.1 + 2**-56,)),
    "large integers": ((2**63 - 1,), (2**63 - 2,)),
    "integers that are equal as reals": ((2**53,), (2**53 + 1,)),
    "the sign": ((-(2**63),), (-(2**63) + 1,)),
    "infinities": ((float("inf"),), (float("-inf"),)),
    "composed and combined letters": (("\u00e9",), ("e\u0301",)),
    "empty blob and empty text": ((b"",), ("",)),
    "empty blob and NULL": ((b"",), (None,)),
    "digits": (("1.0",), ("1",)),
    "text and its quoted form": (("x",), ("'x'",)),
}


class TestChanges:
    """Every change of content is a change of the fingerprint; nothing else is."""

    @pytest.mark.parametrize("change", CHANGES)
    def test_change__gives_another_fingerprint(self, tmp_path: Path, measurer: Measurer, change: str) -> None:
        """One difference between two tables of as many rows is seen."""
        before = table_of(tmp_path / "a.db", ROWS, measurer)
        after = table_of(tmp_path / "b.db", CHANGES[change], measurer)

        assert before.rows == after.rows
        assert before.fingerprint != after.fingerprint

    @pytest.mark.parametrize("pair", PAIRS)
    def test_values_that_look_alike__are_told_apart(self, tmp_path: Path, measurer: Measurer, pair: str) -> None:
        """Values that are equal to a careless eye have different fingerprints."""
        first, second = (
            table_of(tmp_path / "a.db", [row], measurer, schema="CREATE TABLE t (a);") for row in PAIRS[pair]
        )

        assert first.fingerprint != second.fingerprint

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (("ab", "c"), ("a", "bc")),
            (("a,b", "c"), ("a", "b,c")),
            (("", "x"), ("x", "")),
            (("a'", "b"), ("a", "'b")),
        ],
    )
    def test_text_across_columns__does_not_flow(
        self, tmp_path: Path, measurer: Measurer, first: Row, second: Row
    ) -> None:
        """What ends one column and begins the next is part of the fingerprint."""
        assert (
            table_of(tmp_path / "a.db", [first], measurer).fingerprint
            != table_of(tmp_path / "b.db", [second], measurer).fingerprint
        )

    def test_other_order__gives_the_same_fingerprint(self, tmp_path: Path, measurer: Measurer) -> None:
        """A restore may store rows in another order."""
        before = table_of(tmp_path / "a.db", ROWS, measurer)
        after = table_of(tmp_path / "b.db", ROWS[::-1], measurer)

        assert before == after

    def test_empty_table__has_zero(self, tmp_path: Path, measurer: Measurer) -> None:
        """No rows add up to nothing."""
        create(tmp_path / "a.db", SCHEMA)

        expected = TableFigure(schema="", name="t", columns=("a", "b"), rows=0, fingerprint="0")

        assert (expected,) == measurer.figures(tmp_path / "a.db").tables

    @pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\x00\xff", b"ok\x80ok"])
    def test_text_that_is_no_utf8__is_measured_byte_by_byte(
        self, tmp_path: Path, measurer: Measurer, text: bytes
    ) -> None:
        """Bytes that no decoder accepts are told from their neighbours, from each other and from a blob of them."""
        path = tmp_path / "a.db"
        prints = [
            with_text(path, other, measurer).fingerprint
            for other in (text, text + b"\x80", text[:-1], b"?", b"\xfe", b"\xfd")
        ]
        path.unlink()
        create(path, f"{SCHEMA} INSERT INTO t VALUES (1, X'{text.hex()}');")
        prints.append(measurer.figures(path).tables[0].fingerprint)

        assert len(prints) == len(set(prints))

    def test_row_beside_broken_text__has_the_hash_it_had(self, tmp_path: Path, measurer: Measurer) -> None:
        """Sound rows count the same whether or not some other row makes the slow way necessary."""
        path = create(tmp_path / "a.db", SCHEMA + "INSERT INTO t VALUES (1, 'Größe'), (2.5, X'00');")
        alone = int(measurer.figures(path).tables[0].fingerprint)
        run(path, "INSERT INTO t VALUES (3, CAST(X'ff' AS TEXT))")
        together = int(measurer.figures(path).tables[0].fingerprint)
        run(path, "DELETE FROM t WHERE a <> 3")
        broken = int(measurer.figures(path).tables[0].fingerprint)

        assert together == (alone + broken) % 2**128

    def test_format__is_what_the_documentation_says(self, tmp_path: Path, measurer: Measurer) -> None:
        """The hash of a row is XXH3-128 of type codes, lengths and bytes; written anew here, it gives the same sum.

        Manifests keep fingerprints for years: no version of Python or of this code may change them.
        """
        row: Row = (1, -5, 2**40, 2.5, "Größe\0", b"\x00\xff", None, "")

        def written(value: object) -> bytes:
            if value is None:
                return b"N"
            if isinstance(value, float):
                return b"g" + struct.pack("<d", value)
            if isinstance(value, str):
                return b"u" + struct.pack("<i", len(value.encode())) + value.encode()
            if isinstance(value, bytes):
                return b"s" + struct.pack("<i", len(value)) + value
            assert isinstance(value, int)
            if -(2**31) <= value < 2**31:
                return b"i" + struct.pack("<i", value)
            digits = []
            rest = abs(value)
            while rest:
                digits.append(rest & 0x7FFF)
                rest >>= 15
            sign = 1 if value > 0 else -1
            return struct.pack(f"<ci{len(digits)}H", b"l", sign * len(digits), *digits)

        content = b"(" + struct.pack("<i", len(row)) + b"".join(map(written, row))
        expected = 2 * xxhash.xxh3_128_intdigest(content) % 2**128
        schema = f"CREATE TABLE t ({', '.join('abcdefgh')});"

        figure = table_of(tmp_path / "a.db", [row, row], measurer, schema=schema)

        assert str(expected) == figure.fingerprint
        assert figure.fingerprint == "191269844811847548937827863938680589818"


class TestTables:
    """Which tables are measured, and over which columns."""

    def test_odd_tables__are_measured(self, tmp_path: Path, measurer: Measurer) -> None:
        """Odd names, STRICT, WITHOUT ROWID, generated columns, hidden row numbers: each has its rows and columns."""
        path = create(
            tmp_path / "a.db",
            """
            CREATE TABLE "say ""hi""; --" ("a ""b"" c" text, "Größe" int, "t" int);
            CREATE TABLE t (t text, rowid text);
            CREATE TABLE hidden (rowid text, _rowid_ text, oid text);
            CREATE TABLE pair (a text, b text, PRIMARY KEY (a, b)) WITHOUT ROWID;
            CREATE TABLE exact (id INTEGER PRIMARY KEY, any_value ANY) STRICT;
            CREATE TABLE computed (a int, twice int AS (a * 2) VIRTUAL, thrice int AS (a * 3) STORED);
            INSERT INTO "say ""hi""; --" VALUES ('x', 1, 2);
            INSERT INTO t VALUES ('x', 'y');
            INSERT INTO hidden VALUES ('x', 'y', 'z');
            INSERT INTO pair VALUES ('x', 'y'), ('x', 'z');
            INSERT INTO exact (any_value) VALUES (1), ('1'), (1.0);
            INSERT INTO computed (a) VALUES (1), (2);
            CREATE TABLE sqliteish (a); CREATE VIEW seen AS SELECT * FROM t;
            """,
        )

        tables = {table.name: (table.columns, table.rows) for table in measurer.figures(path).tables}

        assert {
            'say "hi"; --': (('a "b" c', "Größe", "t"), 1),
            "t": (("t", "rowid"), 1),
            "hidden": (("rowid", "_rowid_", "oid"), 1),
            "pair": (("a", "b"), 2),
            "exact": (("id", "any_value"), 3),
            "computed": (("a", "thrice"), 2),
            "sqliteish": (("a",), 0),
        } == tables

    def test_search_index__is_measured_by_its_shadow_tables(self, tmp_path: Path, measurer: Measurer) -> None:
        """A virtual table holds nothing itself; the tables beneath it are measured like any other."""
        path = create(tmp_path / "a.db", "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello');")

        figures = measurer.figures(path)

        assert "f" not in {table.name for table in figures.tables}
        assert {"f_data", "f_content", "f_docsize"} <= {table.name for table in figures.tables}
        assert ("table", "f") in {(item.kind, item.name) for item in figures.objects}

    def test_expected_columns__are_measured_in_the_order_given(self, tmp_path: Path, measurer: Measurer) -> None:
        """A copy whose columns stand in another order has the same content."""
        first = create(tmp_path / "a.db", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x');")
        second = create(tmp_path / "b.db", "CREATE TABLE t (b, a); INSERT INTO t (a, b) VALUES (1, 'x');")
        expected = measurer.figures(first)

        assert expected.tables == measurer.figures(second, expected).tables

    def test_missing_column__is_not_taken_for_text(self, tmp_path: Path, measurer: Measurer) -> None:
        """SQLite takes a quoted name that is no column for text: the copy's own columns are measured then."""
        first = create(tmp_path / "a.db", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'b');")
        second = create(tmp_path / "b.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1);")
        expected = measurer.figures(first)

        found = measurer.figures(second, expected).tables[0]

        assert ("a",) == found.columns
        assert expected.tables[0].fingerprint != found.fingerprint

    def test_numbers_given_out__are_sequences(self, tmp_path: Path, measurer: Measurer) -> None:
        """AUTOINCREMENT remembers the greatest number ever used, also of rows that are gone."""
        path = create(
            tmp_path / "a.db",
            "CREATE TABLE t (id integer PRIMARY KEY AUTOINCREMENT, a); INSERT INTO t (id) VALUES (5), (9);"
            "DELETE FROM t WHERE id = 9; CREATE TABLE u (id integer PRIMARY KEY AUTOINCREMENT);",
        )

        (sequence,) = measurer.figures(path).sequences

        assert ("t", "t", "id", 9, 5) == (
            sequence.name,
            sequence.table,
            sequence.column,
            sequence.last_value,
            sequence.column_max,
        )
        assert not sequence.is_behind

    def test_migrations__are_read_in_their_order(self, tmp_path: Path, measurer: Measurer) -> None:
        """Applied migrations are listed as Django recorded them."""
        path = create(
            tmp_path / "a.db",
            "CREATE TABLE django_migrations (id integer PRIMARY KEY, app text, name text, applied text);"
            "INSERT INTO django_migrations (app, name) VALUES ('erp', '0001_initial'), ('auth', '0001_initial');",
        )

        assert ("erp.0001_initial", "auth.0001_initial") == measurer.figures(path).migrations


class TestSchema:
    """Which changes of the schema are seen."""

    BEFORE = """
        CREATE TABLE t (id integer PRIMARY KEY, a text DEFAULT 'x  y' COLLATE NOCASE, b int NOT NULL);
        CREATE INDEX i ON t (a);
        CREATE VIEW v AS SELECT a FROM t;
        CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET a = 'x'; END;
        PRAGMA user_version=3;
        PRAGMA application_id=4;
    """

    @pytest.mark.parametrize(
        ("old", "new", "kinds"),
        [
            ("'x  y'", "'x y'", {"table", "column"}),
            ("COLLATE NOCASE", "", {"table"}),
            ("int NOT NULL", "int", {"table", "column"}),
            ("INDEX i ON t (a)", "UNIQUE INDEX i ON t (a)", {"index"}),
            ("SELECT a FROM", "SELECT b FROM", {"view"}),
            ("SET a = 'x'", "SET a = 'y'", {"trigger"}),
            ("user_version=3", "user_version=2", {"pragma"}),
            ("application_id=4", "application_id=0", {"pragma"}),
            ("SELECT a FROM t", "SELECT\n   a\tFROM t", set()),
        ],
    )
    def test_change__is_seen_where_it_is_one(
        self, tmp_path: Path, measurer: Measurer, old: str, new: str, kinds: set[str]
    ) -> None:
        """Each definition has its digest; white space outside quotes has no meaning."""
        before = measurer.figures(create(tmp_path / "a.db", self.BEFORE)).objects
        after = measurer.figures(create(tmp_path / "b.db", self.BEFORE.replace(old, new))).objects

        assert kinds == {item.kind for item in set(before) - set(after)}


class TestProcesses:
    """Large tables are measured by several processes."""

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        """A database that is worth a second process, with gaps in its row numbers, and negative ones."""
        return create(
            tmp_path / "large.db",
            """
            CREATE TABLE t (id integer PRIMARY KEY, a text);
            INSERT INTO t WITH RECURSIVE n(i) AS (SELECT -100000 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                SELECT i * 3, hex(i) || hex(zeroblob(90)) FROM n;
            CREATE TABLE w (a text PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO w SELECT hex(id) FROM t;
            CREATE TABLE empty (id integer PRIMARY KEY);
            """,
        )

    def test_several_processes__give_the_figures_of_one(
        self, large: Path, measurer: Measurer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """However a table is cut and dealt out, rows and fingerprint are the same, and no process failed on the way."""
        alone = measurer.figures(large)
        together = Measurer(runner=measurer.runner, jobs=3, stop=Event()).figures(large)

        assert large.stat().st_size > measuring._WORTH_A_PROCESS
        assert [200001, 200001, 0] == [table.rows for table in alone.tables]
        assert alone == together
        assert "" == caplog.text

    def test_process_that_fails__costs_only_time(
        self, large: Path, measurer: Measurer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where no second process can be started, the first one does all of it and says so."""
        alone = measurer.figures(large)
        monkeypatch.setattr("sys.executable", "/nonexistent/python")
        together = Measurer(runner=measurer.runner, jobs=2, stop=Event()).figures(large)

        assert alone == together
        assert "going on with this one" in caplog.text

    def test_stop__ends_all_processes(self, large: Path, measurer: Measurer) -> None:
        """Nobody waits for figures that are not needed any more."""
        stopped = Measurer(runner=measurer.runner, jobs=2, stop=Event())
        stopped.stop.set()

        with pytest.raises(BackupError, match="closed"):
            stopped.figures(large)

    def test_connection_of_the_measurement__cannot_write(self, tmp_path: Path, measurer: Measurer) -> None:
        """Measuring leaves the file and its folder as they were, also in WAL mode."""
        path = create(tmp_path / "a.db", SCHEMA, journal_mode="wal")
        before = path.read_bytes()

        measurer.figures(path, Figures())

        assert before == path.read_bytes()
        assert ["a.db"] == [entry.name for entry in tmp_path.iterdir()]


def test_modulus__keeps_128_bits() -> None:
    """The sum is kept whole: 64 bits would be found equal by chance too easily."""
    assert 2**128 == rowhash.MODULUS
