"""What every engine must do, written once: subclass :class:`EngineContract` and give it the fixtures it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import DatabaseError as DjangoDatabaseError
from django.db import connections

from erp_backup.core.comparison import compare_figures
from erp_backup.core.errors import BackupError, CorruptError, LockedError, ServerUnreachableError, UsageError
from erp_backup.core.figures import Figures, Finding, Severity
from erp_backup.core.manifest import ArchiveFacts, Manifest
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.base import DumpRequest, Engine, LoadReport, Scratch, Snapshot

Execute = Callable[[Engine, str], None]
MakeRows = Callable[[Engine, int], None]

SCHEMA = (
    "CREATE TABLE contract_item (id integer PRIMARY KEY, name varchar(100) NOT NULL, amount numeric(12, 2))",
    "CREATE UNIQUE INDEX contract_item_name ON contract_item (name)",
    "CREATE TABLE contract_entry (id integer PRIMARY KEY, item_id integer REFERENCES contract_item (id), note text)",
    "CREATE VIEW contract_view AS SELECT name, amount FROM contract_item",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """A dump on disk with the manifest that its snapshot gave it."""

    path: Path
    manifest: Manifest


def manifest_of(snapshot: Snapshot, figures: Figures, *, kind: str, format_name: str, size: int) -> Manifest:
    """Return a manifest as a backup writes it, as far as engines look at it."""
    return Manifest(
        id="contract",
        number=1,
        database=snapshot.facts,
        kind=kind,
        format=format_name,
        taken_at=snapshot.taken_at,
        finished_at=snapshot.taken_at,
        archive=ArchiveFacts(name="contract.dump", size=size, sha256="", uncompressed_size=size),
        figures=figures,
        not_included=snapshot.not_included,
    )


def dump_to(snapshot: Snapshot, path: Path, request: DumpRequest, format_name: str) -> Dumped:
    """Write the snapshot's dump to ``path`` and measure the snapshot."""
    with path.open("wb") as file:
        file.writelines(snapshot.dump())
    figures = snapshot.figures()
    size = path.stat().st_size
    manifest = manifest_of(snapshot, figures, kind=request.kind, format_name=format_name, size=size)
    return Dumped(path=path, manifest=manifest)


def take_dump(engine: Engine, folder: Folder, request: DumpRequest | None = None) -> Dumped:
    """Open a snapshot, dump it into the folder, and close it again."""
    request = request or DumpRequest()
    format_name = request.format or engine.formats[0]
    with engine.snapshot(request, folder) as snapshot:
        return dump_to(snapshot, folder.path / f"dump.{format_name}", request, format_name)


def compare_with(scratch: Scratch, expected: Figures, manifest: Manifest) -> list[Finding]:
    """Return how a scratch database differs from what was expected."""
    found = scratch.figures(expected)
    return compare_figures(expected, found, data=manifest.has_data, schema=manifest.has_schema)


class EngineContract:
    """Subclasses provide the fixtures that raise ``NotImplementedError`` here."""

    @pytest.fixture(autouse=True)
    def _databases_allowed(self, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
        """Let Django open the aliases of snapshots and scratch databases."""
        with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django's own object
            yield

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine of an empty database that the tests may fill."""
        raise NotImplementedError

    @pytest.fixture
    def execute(self) -> Execute:
        """A function that runs and commits one SQL statement on the engine's live database."""
        raise NotImplementedError

    @pytest.fixture
    def missing_engine(self, engine: Engine) -> Engine:
        """An engine whose database does not exist."""
        raise NotImplementedError

    @pytest.fixture
    def abandoned(self, engine: Engine, workspace: Workspace) -> str:
        """The name of a scratch database whose process is gone."""
        raise NotImplementedError

    @pytest.fixture
    def exists(self, engine: Engine) -> Callable[[str], bool]:
        """A function that says whether a scratch database of a name is there."""
        raise NotImplementedError

    @pytest.fixture
    def make_rows(self, execute: Execute) -> MakeRows:
        """A function that adds rows to ``contract_item``, made with the rest of the schema when it is first called."""
        made: list[int] = []

        def make(engine: Engine, count: int) -> None:
            for statement in () if made else SCHEMA:
                execute(engine, statement)
            start = sum(made) + 1
            made.append(count)
            rows = ", ".join(f"({number}, 'Item {number}', {number}.25)" for number in range(start, start + count))
            if rows:
                execute(engine, f"INSERT INTO contract_item (id, name, amount) VALUES {rows}")

        return make

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Workspace:
        """Where jobs have their folders."""
        return Workspace(tmp_path / "state")

    @pytest.fixture
    def folder(self, workspace: Workspace) -> Iterator[Folder]:
        """A running job's folder."""
        with workspace.folder("contract") as folder:
            yield folder

    def test_existing_database__facts_name_it(self, engine: Engine, make_rows: MakeRows) -> None:
        """Facts say which kind of database it is, which version serves it, and how large it is."""
        make_rows(engine, 1)

        facts = engine.facts()

        assert engine.database.alias == facts.alias
        assert facts.engine
        assert facts.version
        assert facts.major == int(facts.version.split(".")[0])
        assert facts.size > 0
        assert engine.tool_versions()

    def test_missing_database__is_unreachable(self, missing_engine: Engine, folder: Folder) -> None:
        """What is not there cannot be reached: not by facts, not by a snapshot, and preflight says so."""
        with pytest.raises(ServerUnreachableError):
            missing_engine.facts()
        with pytest.raises(ServerUnreachableError), missing_engine.snapshot(DumpRequest(), folder):
            pass

        assert [Severity.FAILED] == [problem.severity for problem in missing_engine.preflight(DumpRequest())]

    def test_healthy_database__preflight_finds_nothing(self, engine: Engine, make_rows: MakeRows) -> None:
        """A database with tables can be backed up."""
        make_rows(engine, 1)

        problems = engine.preflight(DumpRequest())

        assert [] == [problem for problem in problems if problem.severity is Severity.FAILED]

    def test_unknown_format__is_refused(self, engine: Engine, make_rows: MakeRows, folder: Folder) -> None:
        """A format that the engine does not have is a usage error, before anything is made."""
        make_rows(engine, 1)
        request = DumpRequest(format="papyrus")

        with pytest.raises(UsageError), engine.snapshot(request, folder):
            pass

        assert [Severity.FAILED] == [problem.severity for problem in engine.preflight(request)]

    def test_each_format__restores_to_equal_figures(
        self, engine: Engine, make_rows: MakeRows, execute: Execute, folder: Folder
    ) -> None:
        """What is dumped in a snapshot and loaded into a scratch database measures as the snapshot did."""
        make_rows(engine, 300)
        execute(engine, "INSERT INTO contract_entry (id, item_id, note) VALUES (1, 1, ''), (2, 300, NULL)")

        for format_name in engine.formats:
            dumped = take_dump(engine, folder, DumpRequest(format=format_name))
            engine.list_archive(dumped.path, format_name)
            with engine.scratch(dumped.manifest.database, folder) as scratch:
                report = scratch.load(dumped.path, dumped.manifest)
                findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)
                integrity = scratch.integrity_errors()

            rows = {table.name: table.rows for table in dumped.manifest.figures.tables}
            objects = " ".join(item.name for item in dumped.manifest.figures.objects)
            assert LoadReport(notes=report.notes) == report
            assert [] == findings
            assert () == integrity
            assert {"contract_item": 300, "contract_entry": 2} == rows
            assert "contract_item_name" in objects
            assert "contract_view" in objects

    def test_rows_after_the_snapshot__are_not_in_it(self, engine: Engine, make_rows: MakeRows, folder: Folder) -> None:
        """Dump, figures and ORM see the moment of the snapshot, whatever is written later."""
        make_rows(engine, 10)
        request = DumpRequest()

        with engine.snapshot(request, folder) as snapshot:
            make_rows(engine, 5)
            dumped = dump_to(snapshot, folder.path / "dump", request, engine.formats[0])
            with snapshot.orm() as alias, connections[alias].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM contract_item")
                seen = cursor.fetchone()
        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)

        assert (10,) == seen
        assert [] == findings
        assert [10] == [table.rows for table in dumped.manifest.figures.tables if table.name == "contract_item"]

    def test_moment_of_the_snapshot__lies_before_its_content(
        self, engine: Engine, make_rows: MakeRows, folder: Folder
    ) -> None:
        """A backup claims to be as old as it is or older, never newer."""
        make_rows(engine, 1)

        before = datetime.now(tz=UTC)
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            opened = datetime.now(tz=UTC)

        assert before - timedelta(seconds=1) <= snapshot.taken_at <= opened

    @pytest.mark.parametrize(
        "change",
        [
            "DELETE FROM contract_item WHERE id = 7",
            "UPDATE contract_item SET amount = 7.26 WHERE id = 7",
            "INSERT INTO contract_item (id, name, amount) VALUES (4711, 'New', 0)",
            "UPDATE contract_item SET amount = NULL WHERE id = 7",
        ],
    )
    def test_changed_rows__are_found(
        self, engine: Engine, make_rows: MakeRows, execute: Execute, folder: Folder, change: str
    ) -> None:
        """A row that was lost, added or altered on the way to the copy is a finding that names its table."""
        make_rows(engine, 50)
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            expected = snapshot.figures()
        execute(engine, change)
        dumped = take_dump(engine, folder)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, expected, dumped.manifest)

        assert ["table"] == [finding.kind for finding in findings]
        assert "contract_item" in findings[0].subject

    @pytest.mark.parametrize(
        "change",
        [
            "DROP INDEX contract_item_name",
            "DROP VIEW contract_view",
            "ALTER TABLE contract_entry ADD COLUMN extra",
        ],
    )
    def test_changed_schema__is_found(
        self, engine: Engine, make_rows: MakeRows, execute: Execute, folder: Folder, change: str
    ) -> None:
        """An index, a view or a column that the copy has or lacks against the snapshot is a finding."""
        make_rows(engine, 5)
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            expected = snapshot.figures()
        execute(engine, f"{change} text" if "COLUMN" in change else change)
        dumped = take_dump(engine, folder)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            findings = compare_with(scratch, expected, dumped.manifest)

        name = change.rpartition(" ")[2]
        assert any(name in f"{finding.subject} {finding.found} {finding.expected}" for finding in findings)

    def test_schema_only__restores_tables_without_rows(
        self, engine: Engine, make_rows: MakeRows, folder: Folder
    ) -> None:
        """A schema backup builds the tables and everything beside them, and no row."""
        make_rows(engine, 20)
        format_name = engine.formats[-1]
        dumped = take_dump(engine, folder, DumpRequest(kind="schema", format=format_name))

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            report = scratch.load(dumped.path, dumped.manifest)
            found = scratch.figures(dumped.manifest.figures)
            findings = compare_with(scratch, dumped.manifest.figures, dumped.manifest)

        assert () == report.errors
        assert [] == findings
        assert {0} == {table.rows for table in found.tables}

    def test_excluded_tables__keep_their_shape_and_lose_their_rows(
        self, engine: Engine, make_rows: MakeRows, execute: Execute, folder: Folder
    ) -> None:
        """Rows of excluded tables are in no format's archive, figures agree, and the archive says what it lacks."""
        make_rows(engine, 20)
        execute(engine, "INSERT INTO contract_entry (id, item_id, note) VALUES (1, 1, 'excluded-note')")

        for format_name in engine.formats:
            request = DumpRequest(format=format_name, excluded_tables=("*entry",))
            dumped = take_dump(engine, folder, request)
            content = dumped.path.read_bytes()
            with engine.scratch(dumped.manifest.database, folder) as scratch:
                report = scratch.load(dumped.path, dumped.manifest)
                found = scratch.figures(dumped.manifest.figures)

            assert b"excluded-note" not in content
            assert () == report.errors
            assert {"contract_item": 20, "contract_entry": 0} == {table.name: table.rows for table in found.tables}
            assert any("contract_entry" in text for text in dumped.manifest.not_included)

    def test_orm_of_a_snapshot__cannot_write(self, engine: Engine, make_rows: MakeRows, folder: Folder) -> None:
        """A model check that would write is stopped by the database."""
        make_rows(engine, 3)

        with (
            engine.snapshot(DumpRequest(), folder) as snapshot,
            snapshot.orm() as alias,
            connections[alias].cursor() as cursor,
        ):
            with pytest.raises(DjangoDatabaseError):
                cursor.execute("DELETE FROM contract_item")
            forgotten = alias

        assert forgotten not in connections.settings

    def test_orm_of_a_scratch_database__reads_the_copy(
        self, engine: Engine, make_rows: MakeRows, folder: Folder
    ) -> None:
        """Model checks of a drill are asked of the copy, not of the live database."""
        make_rows(engine, 3)
        dumped = take_dump(engine, folder)
        make_rows(engine, 4)

        with engine.scratch(dumped.manifest.database, folder) as scratch:
            scratch.load(dumped.path, dumped.manifest)
            with scratch.orm() as alias, connections[alias].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM contract_item")
                seen = cursor.fetchone()

        assert (3,) == seen

    def test_cancelled_snapshot__stops_measuring(self, engine: Engine, make_rows: MakeRows, folder: Folder) -> None:
        """Figures that nobody needs any more end with an error of ours instead of running on."""
        make_rows(engine, 100)

        with engine.snapshot(DumpRequest(), folder) as snapshot:
            snapshot.cancel()
            with pytest.raises(BackupError):
                snapshot.figures()

    def test_scratch_database__is_gone_afterwards(
        self, engine: Engine, make_rows: MakeRows, folder: Folder, exists: Callable[[str], bool]
    ) -> None:
        """A scratch database lives as long as its context, also when what happens inside fails."""
        make_rows(engine, 3)
        dumped = take_dump(engine, folder)

        names = []

        def fail_inside() -> None:
            with engine.scratch(dumped.manifest.database, folder) as scratch:
                scratch.load(dumped.path, dumped.manifest)
                names.extend([scratch.name] if exists(scratch.name) else [])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail_inside()

        assert [False] == [exists(name) for name in names]

    def test_kept_scratch_database__stays(
        self, engine: Engine, make_rows: MakeRows, workspace: Workspace, exists: Callable[[str], bool]
    ) -> None:
        """A copy that somebody wants to look into outlives its job and every clean-up."""
        make_rows(engine, 3)
        with workspace.folder("drill") as folder:
            dumped = take_dump(engine, folder)
            with engine.scratch(dumped.manifest.database, folder) as scratch:
                scratch.load(dumped.path, dumped.manifest)
                command = scratch.how_to_look()
                scratch.keep()

        self.clean_up(engine, workspace)

        assert exists(scratch.name)
        assert scratch.name in command

    def test_abandoned_scratch_database__is_removed(
        self, engine: Engine, workspace: Workspace, abandoned: str, exists: Callable[[str], bool]
    ) -> None:
        """What a killed run left is removed by the next one."""
        existed = exists(abandoned)

        self.clean_up(engine, workspace)

        assert existed
        assert not exists(abandoned)

    def test_scratch_database_in_use__is_not_taken_for_an_orphan(
        self, engine: Engine, make_rows: MakeRows, workspace: Workspace, exists: Callable[[str], bool]
    ) -> None:
        """A clean-up beside a running drill leaves that drill alone."""
        make_rows(engine, 3)

        with workspace.folder("drill") as folder, engine.scratch(engine.facts(), folder) as scratch:
            self.clean_up(engine, workspace)
            still_there = exists(scratch.name)

        assert still_there

    def test_second_run__is_told_who_holds_the_lock(self, engine: Engine, make_rows: MakeRows, tmp_path: Path) -> None:
        """Two backups of one database at once: the second one learns who is at work; afterwards the lock is free."""
        make_rows(engine, 1)

        with (
            engine.lock("dbbackup of the night", tmp_path),
            pytest.raises(LockedError) as caught,
            engine.lock("another", tmp_path),
        ):
            pass
        with engine.lock("the next", tmp_path):
            pass

        assert "dbbackup of the night" in str(caught.value)

    def test_rubbish__is_no_archive(self, engine: Engine, tmp_path: Path) -> None:
        """Bytes that are no dump are refused in every format before anything is restored."""
        rubbish = tmp_path / "rubbish"
        rubbish.write_bytes(b"\x00This is not a dump, and no statement either. " * 100)

        for format_name in engine.formats:
            with pytest.raises(CorruptError):
                engine.list_archive(rubbish, format_name)

    @staticmethod
    def clean_up(engine: Engine, workspace: Workspace) -> None:
        """Remove what dead jobs left, as each run does first."""
        engine.remove_orphans()
        for orphan in workspace.orphans():
            orphan.remove()
