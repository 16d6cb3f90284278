"""The sql format: exact for every value, loadable by the stock program, and harmless when it comes from an enemy."""

from __future__ import annotations

import io
import math
import random
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from erp_backup.core.clock import SystemClock
from erp_backup.core.comparison import compare_figures
from erp_backup.core.errors import CorruptError
from erp_backup.core.figures import Figures
from erp_backup.core.process import ProcessRunner
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.base import DumpRequest, LoadReport
from erp_backup.engines.sqlite.measuring import Measurer
from erp_backup.engines.sqlite.sqltext import _literal_real
from erp_backup.engines.sqlite.statements import statements
from tests.contracts.engine import Dumped, compare_with, take_dump
from tests.support.sqlite import create, engine_of, run

SQL = DumpRequest(format="sql")

NASTY = r"""
    PRAGMA page_size=8192;
    PRAGMA auto_vacuum=2;
    CREATE TABLE item (id integer PRIMARY KEY AUTOINCREMENT, name text COLLATE NOCASE UNIQUE, price real,
        flag bool DEFAULT (1), twice AS (price * 2), thrice AS (price * 3) STORED -- a comment; with 'quotes
    );
    CREATE TABLE "odd ""name""; --" ("a b" text, "c""d" blob);
    CREATE TABLE untyped (a, b, c);
    CREATE TABLE pair (a text, b int, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE exact (id INTEGER PRIMARY KEY, v ANY) STRICT;
    CREATE TABLE child (id integer PRIMARY KEY, item_id integer NOT NULL REFERENCES item (id));
    CREATE TABLE log (what text);
    CREATE TABLE rowid_matters (word text);
    CREATE TABLE empty (a);
    INSERT INTO item (id, name, price)
        VALUES (1, 'it''s', 0.1), (2, 'semi;colon', 1e300), (9, NULL, -0.0), (-3, 'x', 12.34);
    DELETE FROM item WHERE id = 9;
    INSERT INTO "odd ""name""; --" VALUES ('line' || char(10) || 'feed' || char(13, 10) || 'both \n \r', X''),
        (char(0), X'00ff'), ('a' || char(0) || 'b', NULL), (CAST(X'ff80' AS TEXT), X'0a'),
        ('', 'text'), ('--; /* ''', '日本語 é');
    INSERT INTO untyped VALUES (9223372036854775807, -9223372036854775808, 1), (1.0, '1', X'31'), (9e999, -9e999, -0.0),
        (5e-324, 1.7976931348623157e308, 0.30000000000000004), (NULL, '', 'NULL');
    INSERT INTO pair VALUES ('a', 1), ('a', 2);
    INSERT INTO exact (v) VALUES (1), (1.0), ('1'), (X'31');
    INSERT INTO child VALUES (1, 4711);
    INSERT INTO rowid_matters (rowid, word) VALUES (5, 'five'), (-7, 'minus seven'), (900, 'nine hundred');
    CREATE INDEX by_price ON item (price DESC) WHERE price > 0;
    CREATE UNIQUE INDEX "odd index" ON "odd ""name""; --" ("a b", length("c""d"));
    CREATE VIEW second AS SELECT * FROM first;
    CREATE VIEW first AS SELECT name FROM item /* a ; in a comment */;
    CREATE TRIGGER noted AFTER INSERT ON item WHEN new.name <> 'END;' BEGIN
        INSERT INTO log VALUES ('inserted; ' || new.name); -- a comment; END;
        UPDATE item SET flag = CASE WHEN new.price > 1 THEN 0 ELSE 1 END WHERE id = new.id;
    END;
    CREATE VIRTUAL TABLE search USING fts5(word, tokenize = 'porter ascii');
    INSERT INTO search VALUES ('running'), ('it''s');
    ANALYZE;
    PRAGMA user_version=42;
    PRAGMA application_id=4711;
"""


@pytest.fixture(autouse=True)
def _databases_allowed(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Let Django open the aliases of snapshots and scratch databases."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django's own object
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A running job's folder."""
    with Workspace(tmp_path / "state").folder("test") as folder:
        yield folder


@pytest.fixture
def dumped(tmp_path: Path, folder: Folder) -> Dumped:
    """The SQL dump of a database with all that is difficult."""
    return take_dump(engine_of(create(tmp_path / "live.db", NASTY)), folder, SQL)


def measured(path: Path, expected: Figures) -> Figures:
    """Return the figures of a database file."""
    clock = SystemClock()
    return Measurer(runner=ProcessRunner(clock), jobs=1, stop=Event()).figures(path, expected)


def load_with_the_stock_program(dump: Path, target: Path, *options: str) -> str:
    """Load a dump with ``sqlite3`` and return what it complained about."""
    with dump.open("rb") as file:
        result = subprocess.run(["sqlite3", *options, target], stdin=file, capture_output=True, text=True, check=False)
    return result.stderr


class TestExactness:
    """What is restored from SQL is what was dumped, value for value."""

    def test_difficult_database__is_restored_exactly(self, tmp_path: Path, folder: Folder, dumped: Dumped) -> None:
        """Every value, table, index, view, trigger and number given out is back; no trigger fired on the way."""
        engine = engine_of(tmp_path / "live.db")

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            report = scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)
            copy = Path(scratch.name)
            pragmas = [run(copy, f"PRAGMA {name}")[0][0] for name in ("page_size", "auto_vacuum", "user_version")]
            row_numbers = run(copy, "SELECT rowid, word FROM rowid_matters ORDER BY rowid")
            found = run(copy, "SELECT rowid FROM search WHERE search MATCH 'run'")
            statistics = run(copy, "SELECT * FROM sqlite_stat1 ORDER BY 1, 2")

        assert LoadReport() == report
        assert [] == findings
        assert [8192, 2, 42] == pragmas
        assert [(-7, "minus seven"), (5, "five"), (900, "nine hundred")] == row_numbers
        assert [(1,)] == found
        assert run(tmp_path / "live.db", "SELECT * FROM sqlite_stat1 ORDER BY 1, 2") == statistics

    def test_stock_program__restores_it_exactly(self, tmp_path: Path, dumped: Dumped) -> None:
        """No line of ours is needed: ``sqlite3 new.db < dump.sql`` gives the same figures without a complaint."""
        target = tmp_path / "stock.db"

        complaints = load_with_the_stock_program(dumped.path, target)

        assert "" == complaints
        assert b"\r" not in dumped.path.read_bytes()  # the program drops one at the end of a line
        assert [] == compare_figures(dumped.manifest.figures, measured(target, dumped.manifest.figures))
        assert "ok" == run(target, "PRAGMA integrity_check")[0][0]

    def test_schema_and_data__make_the_whole_together(self, tmp_path: Path, folder: Folder) -> None:
        """The two halves, loaded one after the other where no trigger stands in between, are the database."""
        script = "CREATE TABLE t (id integer PRIMARY KEY AUTOINCREMENT, a); INSERT INTO t (a) VALUES ('x'), (2.5);"
        engine = engine_of(create(tmp_path / "live.db", script))
        schema = take_dump(engine, folder, DumpRequest(kind="schema", format="sql")).path.read_bytes()
        data = take_dump(engine, folder, DumpRequest(kind="data", format="sql"))
        both = folder.path / "both.sql"
        both.write_bytes(schema + data.path.read_bytes())

        complaints = load_with_the_stock_program(both, tmp_path / "stock.db")

        assert "" == complaints
        assert b"CREATE" not in data.path.read_bytes()
        assert b"INSERT" not in schema
        assert [] == compare_figures(data.manifest.figures, measured(tmp_path / "stock.db", data.manifest.figures))

    @pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
    def test_utf16_database__stays_one(self, tmp_path: Path, folder: Folder, encoding: str) -> None:
        """Text with a NUL is written in the database's own encoding; the restored one has the same encoding."""
        script = (
            f"PRAGMA encoding='{encoding}'; CREATE TABLE t (a); INSERT INTO t VALUES ('é' || char(0) || '日'), ('ü');"
        )
        engine = engine_of(create(tmp_path / "live.db", script))
        dumped = take_dump(engine, folder, SQL)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            report = scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)
            restored = run(Path(scratch.name), "PRAGMA encoding")[0][0]
        complaints = load_with_the_stock_program(dumped.path, tmp_path / "stock.db")

        assert encoding == dumped.manifest.database.encoding == restored
        assert [*report.errors, *findings] == []
        assert "" == complaints
        assert [] == compare_figures(dumped.manifest.figures, measured(tmp_path / "stock.db", dumped.manifest.figures))

    def test_real_numbers__keep_every_bit(self) -> None:
        """Numbers of all magnitudes are read back by SQLite bit for bit, which their decimal digits are not."""
        chance = random.Random(20261122)
        values = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(3000)]
        values += [chance.random() * 10 ** chance.randrange(-5, 12) for _ in range(3000)]
        values += [chance.randrange(10**12) / 100 for _ in range(2000)]
        values += [
            0.0,
            -0.0,
            5e-324,
            2.2250738585072014e-308,
            math.nextafter(math.inf, 0),
            2.0**53,
            2.0**62,
            1e22,
            -1e23,
        ]
        values = [value for value in values if not math.isnan(value)]

        with closing(sqlite3.connect(":memory:")) as connection:
            read = [connection.execute(f"SELECT {_literal_real(value)}").fetchone()[0] for value in values]
            digits = [connection.execute(f"SELECT {value!r}").fetchone()[0] for value in values]

        assert [struct.pack("<d", value) for value in values] == [struct.pack("<d", value) for value in read]
        assert values != digits

    def test_prices__stay_readable(self) -> None:
        """A person who opens the dump finds 12.34 as 12.34."""
        assert ["12.34", "-0.5", "1999.0"] == [_literal_real(value) for value in (12.34, -0.5, 1999.0)]


class TestListing:
    """Looking at a dump without running it."""

    def test_whole_dump__is_accepted(self, tmp_path: Path, dumped: Dumped) -> None:
        """All statements are there, up to the end of the transaction."""
        engine_of(tmp_path / "live.db").list_archive(dumped.path, "sql")

        assert dumped.path.read_bytes().endswith(b"COMMIT;\n")

    def test_dump_cut_anywhere__is_refused(self, tmp_path: Path, dumped: Dumped) -> None:
        """Cut at a line's end, within text, within a statement: the end of the transaction is missing."""
        content = dumped.path.read_bytes()
        lines = [place + 1 for place, byte in enumerate(content) if byte == 10][:-1]
        cut = tmp_path / "cut.sql"
        for size in [*lines, *range(1, len(content) - 2, 97)]:
            cut.write_bytes(content[:size])

            with pytest.raises(CorruptError):
                engine_of(tmp_path / "live.db").list_archive(cut, "sql")


class TestEnemies:
    """A hostile dump cannot reach beyond the scratch file."""

    @pytest.fixture
    def victim(self, tmp_path: Path) -> Path:
        """A database that a dump would like to change."""
        return create(tmp_path / "victim.db", "CREATE TABLE t (a); INSERT INTO t VALUES ('safe');")

    def load(self, tmp_path: Path, folder: Folder, script: str | bytes) -> tuple[LoadReport, list[object]]:
        """Load a script as if it were an archive; return the report, and the rows of its table ``t``."""
        live = create(tmp_path / "live.db", "CREATE TABLE t (a);") if not (tmp_path / "live.db").exists() else None
        engine = engine_of(live or tmp_path / "live.db")
        dumped = take_dump(engine, folder, SQL)
        dumped.path.write_bytes(script if isinstance(script, bytes) else script.encode())
        with engine.scratch(dumped.manifest.database, folder) as scratch:
            report = scratch.load(dumped.path, dumped.manifest)
            names = {name for (name,) in run(Path(scratch.name), "SELECT name FROM sqlite_master")}
            return report, run(Path(scratch.name), "SELECT * FROM t") if "t" in names else []

    @pytest.mark.parametrize(
        "statement",
        [
            "ATTACH '{victim}' AS v; DELETE FROM v.t;",
            "ATTACH '{place}/new.db' AS v; CREATE TABLE v.t (a);",
            "VACUUM INTO '{place}/new.db';",
            "SELECT load_extension('{place}/evil.so');",
            "INSERT INTO t SELECT load_extension('{place}/evil.so');",
            "SELECT fts3_tokenizer('simple', X'4141414142424242');",
            "PRAGMA journal_mode=WAL;",
            "PRAGMA temp_store_directory='{place}';",
            "PRAGMA main.writable_schema=1; DELETE FROM sqlite_master;",
            "DELETE FROM sqlite_master;",
            "UPDATE sqlite_master SET sql = 'x';",
            "CREATE TEMP TABLE x (a);",
            "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END;",
            "CREATE VIRTUAL TABLE x USING fts5(a);",
            "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n;",
            "DETACH main;",
            "PRAGMA writable_schema=ON; {enter}('table','x','x',0,'CREATE TABLE x (a)'); PRAGMA writable_schema=OFF;",
            "{enter}('trigger','x','t',0,'CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END');",
            "{enter}('table','x','y',0,'CREATE VIRTUAL TABLE x USING fts5(a)');",
            ".shell touch {place}/new.db\n;",
            ".open {victim}\nDELETE FROM t;",
        ],
    )
    def test_forbidden_statement__fails_alone(
        self, tmp_path: Path, folder: Folder, victim: Path, statement: str
    ) -> None:
        """The statement is an error of the report, nothing outside has changed, and the rest of the dump is loaded."""
        place = tmp_path / "place"
        place.mkdir()
        enter = "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)VALUES"
        attack = statement.format(victim=victim, place=place, enter=enter)
        before = victim.read_bytes()

        report, rows = self.load(tmp_path, folder, f"CREATE TABLE t (a);\n{attack}\nINSERT INTO t VALUES ('loaded');\n")

        assert 1 <= len(report.errors) <= 2
        assert ("loaded",) in rows
        assert before == victim.read_bytes()
        assert [] == list(place.iterdir())

    def test_refusal__says_what_was_refused(self, tmp_path: Path, folder: Folder) -> None:
        """The report names the statement's number and what it wanted."""
        report, _rows = self.load(tmp_path, folder, "CREATE TABLE t (a);\nATTACH 'x.db' AS v;\n")

        assert ("Statement 2 (ATTACH): refused: ATTACH x.db",) == report.errors

    def test_failing_rows__are_reported_without_their_content(self, tmp_path: Path, folder: Folder) -> None:
        """An error names the table; what stands in the row may be anybody's secret."""
        report, _rows = self.load(
            tmp_path, folder, "CREATE TABLE t (a NOT NULL);\nINSERT INTO t VALUES ('my-secret-1'), (NULL);\n"
        )

        assert 1 == len(report.errors)
        assert "INSERT INTO t" in report.errors[0]
        assert "NOT NULL" in report.errors[0]
        assert "secret" not in report.errors[0]

    def test_endless_errors__are_cut(self, tmp_path: Path, folder: Folder) -> None:
        """Twenty errors are enough to know that it is hopeless."""
        report, _rows = self.load(tmp_path, folder, "SELECT nonsense;\n" * 1000)

        assert 21 == len(report.errors)
        assert "not loaded" in report.errors[-1]

    @pytest.mark.parametrize(
        "script",
        [
            b"CREATE TABLE t (a); INSERT INTO t VALUES ('x\x00y'); INSERT INTO t VALUES ('loaded');",
            b"CREATE TABLE t (a); INSERT INTO t VALUES ('\xff'); INSERT INTO t VALUES ('loaded');",
            b"CREATE TABLE t (a); INSERT INTO t VALUES ('loaded'); INSERT INTO t VALUES ('open",
            b"CREATE TABLE t (a); INSERT INTO t VALUES ('loaded'); BEGIN; INSERT INTO t VALUES ('lost');",
        ],
        ids=["NUL", "no UTF-8", "cut", "open transaction"],
    )
    def test_unreadable_statement__is_an_error(self, tmp_path: Path, folder: Folder, script: bytes) -> None:
        """What Python's sqlite3 cannot even be given is reported like any other failure."""
        report, rows = self.load(tmp_path, folder, script)

        assert 1 == len(report.errors)
        assert [("loaded",)] == rows

    def test_dump_of_the_stock_program__is_loaded(self, tmp_path: Path, folder: Folder) -> None:
        """Dumps made by ``sqlite3 .dump``, as shell scripts and other packages keep them, are restored as well."""
        live = create(tmp_path / "live.db", NASTY.replace("(char(0), X'00ff'), ('a' || char(0) || 'b', NULL), ", ""))
        run(live, "DELETE FROM untyped")
        run(live, 'DELETE FROM "odd ""name""; --" WHERE hex("a b") = \'FF80\'')
        foreign = tmp_path / "foreign.sql"
        foreign.write_bytes(subprocess.run(["sqlite3", live, ".dump"], capture_output=True, check=True).stdout)
        engine = engine_of(live)
        with engine.snapshot(SQL, folder) as snapshot:
            expected = snapshot.figures()
        dumped = take_dump(engine, folder, SQL)

        engine.list_archive(foreign, "sql")
        with engine.scratch(dumped.manifest.database, folder) as scratch:
            report = scratch.load(foreign, replace(dumped.manifest, format="sql"))
            findings = compare_figures(expected, scratch.figures(expected))

        assert () == report.errors
        # .dump knows no user_version and no application_id.
        assert {"pragma"} == {finding.kind for finding in findings}


class TestStatements:
    """Cutting SQL where SQLite would."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"", []),
            (b"  -- nothing\n /* at; all */ -- at all", []),
            (b"a;b;", [b"a;", b"b;"]),
            (b"a;b", [b"a;", b"b"]),
            (b"'x;y';z;", [b"'x;y';", b"z;"]),
            (b"'it''s;';z;", [b"'it''s;';", b"z;"]),
            (b'"a;b" `c;d` [e;f];z;', [b'"a;b" `c;d` [e;f];', b"z;"]),
            (b"a -- x;\n b;z;", [b"a -- x;\n b;", b"z;"]),
            (b"a /* x; ' */ b;z;", [b"a /* x; ' */ b;", b"z;"]),
            (b"1 - 2; 4/2; 3--;\n;", [b"1 - 2;", b" 4/2;", b" 3--;\n;"]),
            (
                b"CREATE TRIGGER t AFTER INSERT ON x BEGIN a; b; END; z;",
                [b"CREATE TRIGGER t AFTER INSERT ON x BEGIN a; b; END;", b" z;"],
            ),
            (
                b"-- c\n create  temp trigger t BEGIN SELECT ';'; END; z;",
                [b"-- c\n create  temp trigger t BEGIN SELECT ';'; END;", b" z;"],
            ),
        ],
    )
    def test_text__is_cut_at_the_right_semicolons(self, text: bytes, expected: list[bytes]) -> None:
        """Semicolons within quotes, comments and triggers do not end a statement; nothing is lost."""
        assert expected == list(statements(io.BytesIO(text)))

    @pytest.mark.parametrize("chunk", [1, 2, 3, 7])
    def test_any_chunks__give_the_same_statements(
        self, monkeypatch: pytest.MonkeyPatch, dumped: Dumped, chunk: int
    ) -> None:
        """Where the stream happens to be cut into chunks has no meaning."""
        content = dumped.path.read_bytes()
        expected = list(statements(io.BytesIO(content)))

        class Dripping(io.BytesIO):
            """Gives few bytes at once."""

            def read(self, _size: int | None = -1) -> bytes:
                return super().read(chunk)

        assert expected == list(statements(Dripping(content)))
        assert content.rstrip() == b"".join(expected).rstrip()
        assert len(expected) > 40

    @pytest.mark.parametrize("text", [b"'" + b"x" * 30_000_000, b"/*" + b"* /" * 10_000_000, b"('a'," * 5_000_000])
    def test_endless_statement__is_read_in_linear_time(self, text: bytes) -> None:
        """Text that never ends is not looked at again and again: a few dozen megabytes take no noticeable time."""
        reads: list[int] = []

        class Counting(io.BytesIO):
            """Notes how much is asked for."""

            def read(self, size: int | None = -1) -> bytes:
                reads.append(size or 0)
                return super().read(size)

        assert [text] == list(statements(Counting(text)))
        assert len(reads) < 10
