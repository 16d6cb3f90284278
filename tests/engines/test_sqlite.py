"""The SQLite engine: the contract of all engines, and what is particular about databases that are files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connections

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    LockedError,
    NoSpaceError,
    NotADatabaseError,
    RefusedError,
    ServerUnreachableError,
    UsageError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines import sqlite
from erp_backup.engines.base import DumpRequest, Engine
from erp_backup.engines.sqlite import SQLite
from erp_backup.engines.sqlite.copying import _Attempt, _copy, new_file
from tests.contracts.engine import EngineContract, Execute, MakeRows, compare_with, take_dump
from tests.support.host import REPOSITORY
from tests.support.sqlite import create, engine_of, run

SMALL = (
    "CREATE TABLE item (id integer PRIMARY KEY AUTOINCREMENT, name text); INSERT INTO item (name) VALUES ('a'), ('b');"
)

# A job that makes a scratch file, says where it is, and dies without a chance to clean up.
DYING_JOB = """
    import os, sys
    from pathlib import Path
    import django
    from django.conf import settings
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}})
    django.setup()
    from erp_backup.core.workspace import Workspace
    from tests.support.sqlite import engine_of
    engine = engine_of(Path(sys.argv[1]))
    with Workspace(Path(sys.argv[2])).folder("drill") as folder, engine.scratch(engine.facts(), folder) as scratch:
        print(scratch.name, flush=True)
        os._exit(9)
"""


class SteppingClock:
    """A clock on which a second passes with each look."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return the moment."""
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the seconds passed, one more each time."""
        self.seconds += 1.0
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


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


class TestContract(EngineContract):
    """SQLite keeps the contract."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        """The engine of a database file in WAL mode without a table."""
        return engine_of(create(tmp_path / "live.db", "PRAGMA user_version=7;", journal_mode="wal"))

    @pytest.fixture
    def execute(self) -> Execute:
        """A function that runs a statement through a connection of its own."""

        def execute(engine: Engine, statement: str) -> None:
            run(Path(engine.database.name), statement)

        return execute

    @pytest.fixture
    def missing_engine(self, tmp_path: Path) -> Engine:
        """The engine of a file that does not exist."""
        return engine_of(tmp_path / "missing.db")

    @pytest.fixture
    def exists(self) -> Callable[[str], bool]:
        """A scratch database's name is its path."""
        return lambda name: Path(name).exists()

    @pytest.fixture
    def abandoned(self, engine: Engine, make_rows: MakeRows, workspace: Workspace, tmp_path: Path) -> str:
        """A scratch file of a process that ended like one that is killed."""
        make_rows(engine, 1)
        arguments = [sys.executable, "-c", textwrap.dedent(DYING_JOB), engine.database.name, str(tmp_path / "state")]
        job = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert 9 == job.returncode, job.stderr
        return job.stdout.strip()


class TestLiveFile:
    """Files that are missing, are no databases, are locked, or have odd names."""

    def test_missing_file__is_named_and_not_created(self, tmp_path: Path, folder: Folder) -> None:
        """A wrong path is told with the path, and no empty database appears there."""
        path = tmp_path / "nowhere" / "app.db"

        with pytest.raises(ServerUnreachableError) as caught, engine_of(path).snapshot(DumpRequest(), folder):
            pass

        assert str(path) in str(caught.value)
        assert not path.parent.exists()

    @pytest.mark.parametrize(
        "content",
        [b"SQLite is mentioned here, but this is a letter.\n" * 50, os.urandom(8192), b"short"],
        ids=["text", "encrypted", "short"],
    )
    def test_file_that_is_no_database__is_refused(self, tmp_path: Path, folder: Folder, content: bytes) -> None:
        """A text file, an encrypted database, a few bytes: each is told apart from a database, and left as it is."""
        path = tmp_path / "app.db"
        path.write_bytes(content)
        engine = engine_of(path)

        with pytest.raises(NotADatabaseError) as caught, engine.snapshot(DumpRequest(), folder):
            pass

        assert str(path) in str(caught.value)
        assert [Severity.FAILED] == [problem.severity for problem in engine.preflight(DumpRequest())]
        assert content == path.read_bytes()
        assert ["owner.lock"] == [entry.name for entry in folder.path.iterdir()]

    def test_empty_file__is_suspicious(self, tmp_path: Path, folder: Folder) -> None:
        """SQLite takes a file of 0 bytes for a database; a backup of it would be a backup of nothing."""
        path = tmp_path / "app.db"
        path.touch()

        with (
            pytest.raises(NotADatabaseError, match="0 bytes") as caught,
            engine_of(path).snapshot(DumpRequest(), folder),
        ):
            pass

        assert "NAME in DATABASES" in caught.value.remedy
        assert 0 == path.stat().st_size

    def test_database_without_tables__fails_preflight(self, tmp_path: Path) -> None:
        """A database that was never migrated is not worth a backup; most likely the path is wrong."""
        path = create(tmp_path / "app.db", "CREATE TABLE t (a); DROP TABLE t;")

        problems = engine_of(path).preflight(DumpRequest())

        assert ["has no table" in problem.message for problem in problems] == [True]

    @pytest.mark.parametrize(
        "name", [":memory:", "file:memorydb_default?mode=memory&cache=shared", "file::memory:?cache=shared", ""]
    )
    def test_database_in_memory__is_refused(self, folder: Folder, name: str) -> None:
        """Nobody but its own connection can read a database in memory: that is said instead of backing up nothing."""
        with pytest.raises(RefusedError, match="memory"), engine_of(name).snapshot(DumpRequest(), folder):
            pass

    @pytest.mark.parametrize(
        "name",
        [
            "with space.db",
            "what?.db",
            "number#1.db",
            "100%25.db",
            "quote'\".db",
            "Größe ünïcode 数.db",
            "semi;colon&mode=memory.db",
            "file:name.db",
        ],
    )
    def test_odd_name__works_everywhere(self, tmp_path: Path, name: str) -> None:
        """Any name of a folder and file that the system allows is backed up, read by the ORM, and restored."""
        place = tmp_path / name
        place.mkdir()
        path = create(place / name, SMALL)
        engine = engine_of(path)

        with Workspace(place / "state").folder("job") as folder:
            for format_name in engine.formats:
                dumped = take_dump(engine, folder, DumpRequest(format=format_name))
                with engine.scratch(dumped.manifest.database, folder) as scratch:
                    scratch.load(dumped.path, dumped.manifest)
                    with scratch.orm() as alias, connections[alias].cursor() as cursor:
                        cursor.execute("SELECT group_concat(name) FROM item")
                        names = cursor.fetchone()
                    looked = subprocess.run(
                        [*("sh", "-c"), f"{scratch.how_to_look()} 'SELECT count(*) FROM item'"],
                        capture_output=True,
                        text=True,
                        check=True,
                    )

                assert ("a,b",) == names
                assert "2" == looked.stdout.strip()

    def test_uri_as_name__means_its_file(self, tmp_path: Path) -> None:
        """Django accepts a URI as NAME; the file in it is the one that is backed up."""
        path = create(tmp_path / "what? .db", SMALL)

        assert path == engine_of(f"file:{tmp_path}/what%3F%20.db?mode=rw").path

    def test_symbolic_link__is_followed(self, tmp_path: Path) -> None:
        """A link and its target are one database: with its -wal beside the target, and with one lock."""
        path = create(tmp_path / "live.db", SMALL)
        link = tmp_path / "link.db"
        link.symlink_to(path)

        with (
            engine_of(link).lock("first", tmp_path),
            pytest.raises(LockedError, match="first"),
            engine_of(path).lock("second", tmp_path),
        ):
            pass

        assert str(path) == engine_of(link).facts().name

    def test_locked_database__is_named_after_the_deadline(self, tmp_path: Path, folder: Folder) -> None:
        """A process that holds the database exclusively makes the backup fail in words, not wait for ever."""
        path = create(tmp_path / "live.db", SMALL)
        engine = engine_of(path)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LockedError) as caught, engine.snapshot(DumpRequest(), folder):
                pass
            problems = engine.preflight(DumpRequest())
            with pytest.raises(LockedError):
                engine.facts()

        assert str(path) in str(caught.value)
        assert [Severity.FAILED] == [problem.severity for problem in problems]

    def test_lock_that_is_let_go__only_delays(self, tmp_path: Path, folder: Folder) -> None:
        """A transaction that ends within the limit costs a moment, and what it wrote is in the snapshot."""
        path = create(tmp_path / "live.db", SMALL)
        program = (
            "import sqlite3, sys, time\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('BEGIN EXCLUSIVE'); c.execute(\"INSERT INTO item (name) VALUES ('c')\")\n"
            "print(flush=True); time.sleep(0.5); c.execute('COMMIT')"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with engine_of(path, lock_timeout=30.0).snapshot(DumpRequest(), folder) as snapshot:
                rows = [table.rows for table in snapshot.figures().tables]

        assert [3] == rows

    def test_database_locked_between_look_and_copy__is_given_up_after_the_deadline(self, tmp_path: Path) -> None:
        """The copy itself tries again until its time is over, and names the file then; each try moves the moment on."""
        path = create(tmp_path / "live.db", SMALL)
        clock = SteppingClock()
        copy = new_file(tmp_path, "copy")
        attempt = _Attempt(path, clock, 5.0)
        began_at = attempt.began_at

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LockedError, match=r"for 5\.0 s") as caught:
                _copy(path, copy, attempt)

        assert str(path) in str(caught.value)
        assert timedelta(seconds=5) <= attempt.began_at - began_at <= timedelta(seconds=20)

    def test_hot_journal__is_rolled_back_and_not_in_the_snapshot(self, tmp_path: Path, folder: Folder) -> None:
        """A writer that died in the middle left half a transaction in the file: the snapshot has none of it."""
        path = create(tmp_path / "live.db", SMALL)
        writer = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA cache_size=5'); c.execute('BEGIN')\n"
            "c.execute('INSERT INTO item (name) WITH RECURSIVE"
            " n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000)"
            " SELECT hex(randomblob(500)) FROM n'); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", writer, str(path)], check=True)
        was_hot = path.with_name("live.db-journal").stat().st_size > 0

        engine = engine_of(path)
        problems = engine.preflight(DumpRequest())
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            rows = [table.rows for table in snapshot.figures().tables]

        assert was_hot
        assert [] == problems
        assert [2] == rows

    def test_log_of_a_dead_writer__is_read_and_left_alone(self, tmp_path: Path, folder: Folder) -> None:
        """What a process committed to -wal before it died is in the snapshot; the live file stays byte for byte."""
        path = create(tmp_path / "live.db", SMALL, journal_mode="wal")
        writer = (
            "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute(\"INSERT INTO item (name) VALUES ('c')\"); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", writer, str(path)], check=True)
        log = path.with_name("live.db-wal")
        before = path.read_bytes(), log.read_bytes()

        with engine_of(path).snapshot(DumpRequest(), folder) as snapshot:
            rows = [table.rows for table in snapshot.figures().tables]

        assert [3] == rows
        assert before == (path.read_bytes(), log.read_bytes())

    def test_snapshot_larger_than_the_disk__is_refused_before_it_begins(self, tmp_path: Path, folder: Folder) -> None:
        """The copy needs as much space as the database has; without it the attempt leaves nothing behind."""
        path = create(tmp_path / "live.db", SMALL)
        os.truncate(path, 8 << 40)  # 8 TB on paper, some kB on the disk

        with pytest.raises(NoSpaceError), engine_of(path).snapshot(DumpRequest(), folder):
            pass

        assert ["owner.lock"] == [entry.name for entry in folder.path.iterdir()]

    def test_damaged_live_database__is_told_as_damage(self, tmp_path: Path, folder: Folder) -> None:
        """A live database with a destroyed page cannot be measured: the message says which file and what to do."""
        path = create(tmp_path / "live.db", SMALL)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096))

        with engine_of(path).snapshot(DumpRequest(), folder) as snapshot, pytest.raises(CorruptError) as caught:
            snapshot.figures()

        assert "is damaged" in str(caught.value)
        assert "integrity_check" in caught.value.remedy

    def test_files_of_a_job__are_private(self, tmp_path: Path, folder: Folder) -> None:
        """Copies of the database can be read by nobody else, whatever the live file and the umask allow."""
        path = create(tmp_path / "live.db", SMALL, journal_mode="wal")
        path.chmod(0o644)
        engine = engine_of(path)
        before = os.umask(0)
        modes = set()
        try:
            for format_name in engine.formats:
                request = DumpRequest(format=format_name, excluded_tables=("none",))
                with engine.snapshot(request, folder), engine.scratch(engine.facts(), folder):
                    modes |= {entry.stat().st_mode & 0o777 for entry in folder.path.iterdir()}
                dumped = take_dump(engine, folder, request)
                dumped.path.chmod(0o644)
                with engine.scratch(engine.facts(), folder) as scratch:
                    scratch.load(dumped.path, dumped.manifest)
                    modes.add(Path(scratch.name).stat().st_mode & 0o777)
                dumped.path.unlink(missing_ok=True)
        finally:
            os.umask(before)

        assert {0o600} == modes


class TestRequests:
    """What may be asked of SQLite, and what may not."""

    @pytest.mark.parametrize("kind", ["schema", "data"])
    def test_file_format_of_a_part__is_refused(self, tmp_path: Path, folder: Folder, kind: str) -> None:
        """A database file always holds schema and data: asking for one of them names the format that can."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))

        with pytest.raises(UsageError, match="sql"), engine.snapshot(DumpRequest(kind=kind), folder):
            pass

        assert [Severity.FAILED] == [problem.severity for problem in engine.preflight(DumpRequest(kind=kind))]

    def test_schemas__are_refused(self, tmp_path: Path, folder: Folder) -> None:
        """SQLite has no schemas; a request for some of them must not back up everything instead."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))

        with pytest.raises(UsageError), engine.snapshot(DumpRequest(schemas=("public",)), folder):
            pass

    def test_pattern_without_a_table__is_noted(self, tmp_path: Path) -> None:
        """A pattern that excludes nothing is probably misspelt: preflight says so without failing."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))

        problems = engine.preflight(DumpRequest(excluded_tables=("item", "sesions")))

        assert [Severity.NOTE] == [problem.severity for problem in problems]
        assert "sesions" in problems[0].message

    def test_data_alone__cannot_be_restored(self, tmp_path: Path, folder: Folder) -> None:
        """Rows without a schema are an archive for people; a drill refuses it in words."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))
        dumped = take_dump(engine, folder, DumpRequest(kind="data", format="sql"))

        with (
            engine.scratch(dumped.manifest.database, folder) as scratch,
            pytest.raises(RefusedError, match="no schema"),
        ):
            scratch.load(dumped.path, dumped.manifest)

    def test_excluded_table_with_triggers__loses_rows_and_keeps_triggers(self, tmp_path: Path, folder: Folder) -> None:
        """Emptying a table in the copy fires no trigger, and nothing of its rows is left in the file's free pages."""
        script = """
            CREATE TABLE secret (id integer PRIMARY KEY, word text);
            CREATE TABLE log (word text);
            CREATE TRIGGER secret_gone AFTER DELETE ON secret BEGIN INSERT INTO log VALUES (old.word); END;
            INSERT INTO secret (word) VALUES ('tell-nobody'), (hex(zeroblob(20000)) || 'tell-nobody-either');
        """
        path = create(tmp_path / "live.db", script)
        dumped = take_dump(engine_of(path), folder, DumpRequest(excluded_tables=("SECRET",)))

        rows = {table.name: table.rows for table in dumped.manifest.figures.tables}
        objects = {(item.kind, item.name) for item in dumped.manifest.figures.objects}

        assert {"secret": 0, "log": 0} == rows
        assert ("trigger", "secret_gone") in objects
        assert b"tell-nobody" not in dumped.path.read_bytes()
        assert dumped.path.stat().st_size < path.stat().st_size
        assert ("table secret (data)",) == dumped.manifest.not_included


class TestOrm:
    """Aliases for model checks."""

    def test_generated_column_of_a_django_function__can_be_read(self, tmp_path: Path, folder: Folder) -> None:
        """A virtual column that Django's own functions compute is readable on the copy as on the live database."""
        script = """
            CREATE TABLE day (id integer PRIMARY KEY, at datetime,
                year integer GENERATED ALWAYS AS (django_datetime_extract('year', at, NULL, NULL)) VIRTUAL);
            INSERT INTO day (at) VALUES ('2026-11-22 10:00:00');
        """
        path = tmp_path / "live.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("django_datetime_extract", 4, lambda *_: 0, deterministic=True)
            connection.executescript(script)
        engine = engine_of(path)

        with (
            engine.snapshot(DumpRequest(), folder) as snapshot,
            snapshot.orm() as alias,
            connections[alias].cursor() as cursor,
        ):
            cursor.execute("SELECT year FROM day")
            year = cursor.fetchone()
            cursor.execute("PRAGMA query_only")
            query_only = cursor.fetchone()

        assert (2026,) == year
        assert (1,) == query_only

    def test_ordinary_schema__is_not_trusted(self, tmp_path: Path, folder: Folder) -> None:
        """Functions in a copy's schema may not run where nothing needs them; the host's options are left out."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))

        values = []
        with (
            engine.snapshot(DumpRequest(), folder) as snapshot,
            snapshot.orm() as alias,
            connections[alias].cursor() as cursor,
        ):
            for pragma in ("trusted_schema", "cell_size_check", "query_only"):
                cursor.execute(f"PRAGMA {pragma}")
                values.append(cursor.fetchone()[0])
            options = connections[alias].settings_dict["OPTIONS"]

        assert [0, 1, 1] == values
        assert {"init_command"} == set(options)

    def test_another_process__reads_the_snapshot(self, tmp_path: Path, folder: Folder) -> None:
        """A model check in a process of its own opens the copy by the settings it is given, and cannot write."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))
        program = (
            "import json, sys, django\nfrom django.conf import settings\n"
            "settings.configure(DATABASES={'default': json.load(sys.stdin)})\ndjango.setup()\n"
            "from django.db import connection\nwith connection.cursor() as c:\n"
            "    c.execute('SELECT count(*) FROM item'); print(c.fetchone()[0])\n"
            "    c.execute('DELETE FROM item')\n"
        )
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            process = subprocess.run(
                [sys.executable, "-c", program],
                input=json.dumps(snapshot.process_settings().settings),
                capture_output=True,
                text=True,
                check=False,
            )

        assert "2" == process.stdout.strip()
        assert "readonly database" in process.stderr


class TestScratch:
    """Loading files that are not what they should be."""

    @pytest.mark.parametrize("cut", [1, 4096, -1])
    def test_cut_file__is_corrupt(self, tmp_path: Path, folder: Folder, cut: int) -> None:
        """A file of another size than its header says is refused before SQLite opens it."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))
        dumped = take_dump(engine, folder)
        os.truncate(dumped.path, dumped.path.stat().st_size - cut)

        with pytest.raises(CorruptError):
            engine.list_archive(dumped.path, "sqlite3")
        with engine.scratch(dumped.manifest.database, folder) as scratch, pytest.raises(CorruptError):
            scratch.load(dumped.path, dumped.manifest)

    def test_index_that_lies__is_found_by_integrity_check(self, tmp_path: Path, folder: Folder) -> None:
        """An index that does not belong to its table, which no fingerprint and no quick_check sees, is a complaint."""
        path = create(
            tmp_path / "live.db",
            "CREATE TABLE t (a); CREATE INDEX one ON t (a); INSERT INTO t VALUES (1), (2);"
            " CREATE TABLE u (a); CREATE INDEX two ON u (a); INSERT INTO u VALUES (1), (3);",
        )
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'two'").fetchone()
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = 'one'", [page])
            connection.execute("DELETE FROM sqlite_schema WHERE name = 'two'")
        engine = engine_of(path)
        dumped = take_dump(engine, folder)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)
            complaints = scratch.integrity_errors()

        assert [] == findings
        assert any("missing from index one" in line for line in complaints)

    def test_rows_that_refer_to_nothing__are_summed_up(self, tmp_path: Path, folder: Folder) -> None:
        """Thousands of orphaned rows are one line that says how many, and of which table."""
        script = """
            CREATE TABLE item (id integer PRIMARY KEY);
            CREATE TABLE entry (id integer PRIMARY KEY, item_id integer REFERENCES item (id));
            INSERT INTO entry (item_id) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                SELECT i FROM n;
        """
        engine = engine_of(create(tmp_path / "live.db", script))
        dumped = take_dump(engine, folder)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            complaints = scratch.integrity_errors()

        assert ("foreign_key_check: 3,000 rows of entry refer to rows of item that do not exist",) == complaints

    def test_schema_of_django_functions__is_restored_and_checked(self, tmp_path: Path, folder: Folder) -> None:
        """REGEXP in constraints and indexes, as Django writes it, is no hindrance to any step in any format."""
        path = tmp_path / "live.db"
        script = """
            CREATE TABLE t (id integer PRIMARY KEY, code text CHECK (code REGEXP '^[A-Z]+$'));
            CREATE INDEX by_expression ON t (code REGEXP '^G');
            CREATE INDEX partial ON t (code) WHERE code REGEXP '^G';
            INSERT INTO t (code) VALUES ('GOOD'), ('FINE'), ('bad1');
        """
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("regexp", 2, lambda _pattern, text: text[0] == "G", deterministic=True)
            connection.execute("PRAGMA ignore_check_constraints=ON")
            connection.executescript(script)
        engine = engine_of(path)

        problems: dict[str, list[object]] = {}
        counts = []
        for format_name in engine.formats:
            dumped = take_dump(engine, folder, DumpRequest(format=format_name, excluded_tables=("none",)))
            with engine.scratch(dumped.manifest.database, folder) as scratch:
                report = scratch.load(dumped.path, dumped.manifest)
                findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)
                problems[format_name] = [*report.errors, *findings, *scratch.integrity_errors()]
                with scratch.orm() as alias, connections[alias].cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM t WHERE code REGEXP '^G'")
                    counts.append(cursor.fetchone()[0])

        assert {"sqlite3": [], "sql": []} == problems
        assert [1, 1] == counts

    def test_excluded_table_of_a_django_function__is_emptied(self, tmp_path: Path, folder: Folder) -> None:
        """Emptying a table builds its indexes again, for which Django's functions are at hand."""
        path = tmp_path / "live.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("regexp", 2, lambda *_: 1, deterministic=True)
            connection.execute("CREATE TABLE t (code text)")
            connection.execute("CREATE INDEX by_expression ON t (code REGEXP '^G')")
            connection.execute("CREATE TABLE u AS SELECT 1 AS a")
            connection.execute("INSERT INTO t VALUES ('GOOD')")

        dumped = take_dump(engine_of(path), folder, DumpRequest(excluded_tables=("t",)))

        assert {"t": 0, "u": 1} == {table.name: table.rows for table in dumped.manifest.figures.tables}

    def test_damaged_file__is_a_complaint_and_not_a_crash(self, tmp_path: Path, folder: Folder) -> None:
        """A restored file whose pages are destroyed is reported by the integrity check."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))
        dumped = take_dump(engine, folder)
        with dumped.path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096))

        with pytest.raises(CorruptError):
            engine.list_archive(dumped.path, "sqlite3")
        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            complaints = scratch.integrity_errors()
            with pytest.raises(BackupError):
                scratch.figures(dumped.manifest.figures)

        assert complaints

    def test_format_of_another_engine__is_refused(self, tmp_path: Path, folder: Folder) -> None:
        """A PostgreSQL archive is not tried on SQLite."""
        engine = engine_of(create(tmp_path / "live.db", SMALL))
        dumped = take_dump(engine, folder)

        with engine.scratch(dumped.manifest.database, folder) as scratch, pytest.raises(UsageError, match="custom"):
            scratch.load(dumped.path, replace(dumped.manifest, format="custom"))


def test_engine__is_found_by_django_vendor() -> None:
    """The module's name is Django's word for the kind, its class is in ENGINE."""
    assert sqlite.ENGINE is SQLite
