"""The switch of an SQLite database: what it changes, what it keeps, and when it refuses."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connections

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    LockedError,
    NoSpaceError,
    RefusedError,
    ServerUnreachableError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import ArchiveFacts, DatabaseFacts, Manifest
from erp_backup.engines.base import Problem, Replaced, Switched, SwitchRequest
from erp_backup.engines.sqlite import SQLite
from erp_backup.engines.sqlite.images import MARK
from erp_backup.engines.sqlite.intents import Intent, Intents, State, Way
from erp_backup.engines.sqlite.live import Condition, condition_of
from tests.support.environments import environment_in
from tests.support.lite_switch import engine_at, figures_of, scratch_of, switch
from tests.support.sqlite import create, engine_of, run

OLD = "CREATE TABLE item (name text); INSERT INTO item VALUES ('old');"
NEW = "CREATE TABLE item (name text); INSERT INTO item VALUES ('new');"
PADDING = "CREATE TABLE padding (bytes blob); INSERT INTO padding VALUES (zeroblob(300000));"
MODES = ("wal", "delete", "truncate", "persist")
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _databases_allowed(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Let Django open the aliases of images."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django's own object
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A live file, a state folder, and an image to restore."""

    live: Path
    state: Path
    image: Path

    @property
    def engine(self) -> SQLite:
        """The engine of the live file."""
        return engine_at(self.live, self.state, lock_timeout=0.3)

    def switch(self, *, limit: float = 5.0) -> Switched:
        """Switch to the image."""
        return switch(self.engine, self.state, self.image, limit=limit)

    def names(self) -> list[str]:
        """Return the names in the item table of the live file."""
        return [name for (name,) in run(self.live, "SELECT name FROM item")]

    def files(self) -> set[str]:
        """Return the files in the live and the state folder."""
        folders = (self.live.parent, self.state)
        return {path.name for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """No live file yet."""
    for name in ("erp", "state"):
        (tmp_path / name).mkdir(mode=0o700)
    image = create(tmp_path / "image.db", NEW)
    return Place(live=tmp_path / "erp" / "live.db", state=tmp_path / "state", image=image)


def assert_nothing_changed(place: Place, names: tuple[str, ...] = ("old",)) -> None:
    """Assert that the live database is the old one and that nothing of the attempt is left."""
    assert list(names) == place.names()
    assert [] == place.engine.list_replaced()
    assert place.files() <= {"live.db", "live.db-wal", "live.db-shm", "live.db-journal"}
    assert place.engine.recover_switch() is None


class TestSwitch:
    """A live file that is a database."""

    @pytest.mark.parametrize("mode", MODES)
    def test_any_journal_mode__new_content_at_once_old_content_kept(self, place: Place, mode: str) -> None:
        """Open connections see the new content; the file, its rights and its mode stay."""
        create(place.live, OLD + PADDING, journal_mode=mode)
        place.live.chmod(0o640)
        before, inode = figures_of(place.live, place.state), place.live.stat().st_ino
        with closing(sqlite3.connect(place.live)) as other:
            assert [("old",)] == other.execute("SELECT name FROM item").fetchall()
            switched = place.switch()

            assert [("new",)] == other.execute("SELECT name FROM item").fetchall()
            assert [("ok",)] == other.execute("PRAGMA integrity_check").fetchall()
        assert switched.replaced is not None
        kept = Path(switched.replaced.name)
        assert before == figures_of(kept, place.state)
        assert 0o600 == stat.S_IMODE(kept.stat().st_mode)
        assert kept.stat().st_size == switched.replaced.size
        assert [switched.replaced] == place.engine.list_replaced()
        assert (0o640, inode) == (stat.S_IMODE(place.live.stat().st_mode), place.live.stat().st_ino)
        assert [("wal" if mode == "wal" else "delete",)] == run(place.live, "PRAGMA journal_mode")

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_image_of_another_page_size_in_wal_mode__live_layout_stays(self, place: Place, mode: str) -> None:
        """The image is brought to the live file's page size; its own journal mode does not matter."""
        create(place.live, f"PRAGMA page_size=1024; {OLD} PRAGMA journal_mode={mode}")
        place.image.unlink()
        create(place.image, f"PRAGMA page_size=8192; {NEW}{PADDING}", journal_mode="wal")
        place.switch()

        assert ["new"] == place.names()
        assert [(1024,)] == run(place.live, "PRAGMA page_size")
        assert [(mode,)] == run(place.live, "PRAGMA journal_mode")

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_largest_pages__old_content_kept_exactly(self, place: Place, mode: str) -> None:
        """Whatever the page size, the first step reaches no file: the bytes of a rollback-mode file are copied then."""
        fill = "PRAGMA page_size=65536; CREATE TABLE large AS WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
        fill += " WHERE i < 80) SELECT i, randomblob(60000) AS bytes FROM n;"
        create(place.live, fill + OLD + f"PRAGMA journal_mode={mode}")
        before = figures_of(place.live, place.state)
        place.image.unlink()
        create(place.image, fill + NEW)
        switched = place.switch()

        assert ["new"] == place.names()
        assert switched.replaced is not None
        assert before == figures_of(Path(switched.replaced.name), place.state)

    @pytest.mark.parametrize("content", [OLD, None])
    def test_killed_right_after_it_took_place__told_by_the_mark(self, place: Place, content: str | None) -> None:
        """The instant between the commit and our note of it is as short as it is decisive."""
        if content:
            create(place.live, content)
        switched = place.switch()
        intents = Intents(place.state / "switches")
        intent = intents.read(place.live)
        assert intent is not None
        intents.write(replace(intent, state=State.INTENDED))
        run(place.live, "INSERT INTO item VALUES ('written since')")

        assert switched == place.engine.recover_switch()
        assert ["new", "written since"] == place.names()

    @pytest.mark.parametrize("is_lost", [True, False])
    def test_live_file_lost_after_a_killed_switch__kept_file_stays(self, place: Place, *, is_lost: bool) -> None:
        """What may be the only copy is not removed as a duplicate."""
        create(place.live, OLD)
        switched = place.switch()
        intents = Intents(place.state / "switches")
        intent = intents.read(place.live)
        assert intent is not None
        intents.write(replace(intent, state=State.INTENDED))
        run(place.live, f"DROP TABLE {MARK}")
        if is_lost:
            place.live.unlink()

        assert place.engine.recover_switch() is None
        assert place.engine.list_replaced() == ([switched.replaced] if is_lost else [])

    def test_settled__mark_and_intent_are_gone(self, place: Place) -> None:
        """Until then every run is told of it, afterwards nothing of it is left; twice is once."""
        create(place.live, OLD)
        switched = place.switch()
        tables = "SELECT name FROM sqlite_master ORDER BY 1"

        assert [(MARK,), ("item",)] == run(place.live, tables)
        assert switched == place.engine.recover_switch()
        with pytest.raises(RefusedError, match="cut off"):
            place.switch()
        place.engine.settle_switch(switched)
        place.engine.settle_switch(switched)
        assert place.engine.recover_switch() is None
        assert [("item",)] == run(place.live, tables)
        assert [] == list((place.state / "switches").iterdir())

    @pytest.mark.parametrize("mark_is_there", [True, False])
    def test_killed_while_settling__never_undone(self, place: Place, *, mark_is_there: bool) -> None:
        """A settled switch whose mark is already gone is not one that never took place."""
        create(place.live, OLD)
        switched = place.switch()
        intents = Intents(place.state / "switches")
        intent = intents.read(place.live)
        assert intent is not None
        intents.write(replace(intent, state=State.SETTLED))
        if not mark_is_there:
            run(place.live, f"DROP TABLE {MARK}")

        assert place.engine.recover_switch() is None
        assert [switched.replaced] == place.engine.list_replaced()
        assert [("item",)] == run(place.live, "SELECT name FROM sqlite_master")

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_writer_in_the_way__locked_and_nothing_changed(self, place: Place, mode: str) -> None:
        """It waits as long as it may, not for ever."""
        create(place.live, OLD, journal_mode=mode)
        with closing(sqlite3.connect(place.live, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LockedError, match="nothing was changed"):
                place.switch(limit=0.2)
            other.execute("COMMIT")

        assert_nothing_changed(place)

    def test_reader_in_the_way_of_a_rollback_journal__locked_and_nothing_changed(self, place: Place) -> None:
        """In WAL mode readers are in nobody's way; elsewhere the old content is still being read."""
        create(place.live, OLD)
        with closing(sqlite3.connect(place.live, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM item").fetchall()
            with pytest.raises(LockedError):
                place.switch(limit=0.2)

        assert_nothing_changed(place)

    def test_reader_in_wal_mode__reads_on_what_it_began_with(self, place: Place) -> None:
        """Its transaction ends with the old content; the next one has the new."""
        create(place.live, OLD, journal_mode="wal")
        with closing(sqlite3.connect(place.live, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM item").fetchall()
            place.switch()

            assert [("old",)] == other.execute("SELECT name FROM item").fetchall()
            other.execute("COMMIT")
            assert [("new",)] == other.execute("SELECT name FROM item").fetchall()

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_old_content_cannot_be_kept__nothing_changed(self, place: Place, mode: str) -> None:
        """What comes out of the middle of the transaction rolls it back."""
        create(place.live, OLD, journal_mode=mode)
        (place.state / "replaced").touch()
        with pytest.raises(BaseException, match="replaced"):
            place.switch()
        (place.state / "replaced").unlink()

        assert_nothing_changed(place)

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_schema_cannot_be_read__replaced_all_the_same(self, place: Place, mode: str) -> None:
        """A first page without anything but its header opens; no process has to be stopped for it."""
        create(place.live, OLD + PADDING, journal_mode=mode)
        raw = bytearray(place.live.read_bytes())
        raw[100:1024] = b"\xff" * 924
        place.live.write_bytes(raw)
        assert Condition.DATABASE is condition_of(place.live, 0.3)
        assert not place.engine.has_live()
        switched = place.switch()

        assert ["new"] == place.names()
        assert [(mode,)] == run(place.live, "PRAGMA journal_mode")
        assert switched.replaced is not None
        assert bytes(raw[100:]) == Path(switched.replaced.name).read_bytes()[100:]

    def test_hot_journal__undone_before_it_is_kept(self, place: Place) -> None:
        """What a dead writer left half-written is no content."""
        create(place.live, OLD + PADDING)
        script = (
            "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('PRAGMA cache_size=1'); c.execute('BEGIN'); c.execute(\"UPDATE item SET name = 'half'\");"
            "c.execute('UPDATE padding SET bytes = randomblob(300000)'); os._exit(9)"
        )
        before = figures_of(place.live, place.state)
        subprocess.run([shutil.which("python3") or "python3", "-c", script, place.live], check=False)
        assert place.live.with_name("live.db-journal").stat().st_size > 0
        switched = place.switch()

        assert switched.replaced is not None
        assert before == figures_of(Path(switched.replaced.name), place.state)

    def test_link__file_behind_it_is_switched(self, place: Place, tmp_path: Path) -> None:
        """The link stays a link, and preflight says where it leads."""
        create(place.live, OLD)
        link = tmp_path / "link.db"
        link.symlink_to(place.live)
        engine = engine_at(link, place.state)
        said = [problem.message for problem in engine.restore_preflight(manifest(), switch=True)]
        switch(engine, place.state, place.image)

        assert any(str(place.live) in message and "leads to" in message for message in said)
        assert link.is_symlink()
        assert ["new"] == place.names()

    def test_empty_file__filled(self, place: Place) -> None:
        """Nothing is kept of nothing; processes may have it open."""
        place.live.touch()
        with closing(sqlite3.connect(place.live)) as other:
            switched = place.switch()

            assert [("new",)] == other.execute("SELECT name FROM item").fetchall()
        assert switched.replaced is None

    def test_no_state_folder__refused(self, place: Place) -> None:
        """There is nowhere to keep what is replaced."""
        with pytest.raises(RefusedError, match="state folder"):
            engine_of(place.live).recover_switch()

    def test_environment__gives_engines_its_state_folder(self, tmp_path: Path) -> None:
        """The engine keeps what it replaces where everything else is kept."""
        environment = environment_in(tmp_path)

        assert environment.config.state_dir == environment.tools.state_dir


class TestPlacing:
    """A live file that is missing or no database."""

    def test_missing__created(self, place: Place) -> None:
        """It is private; there was nothing to keep."""
        switched = place.switch()

        assert switched.replaced is None
        assert ["new"] == place.names()
        assert 0o600 == stat.S_IMODE(place.live.stat().st_mode)
        assert switched == place.engine.recover_switch()
        place.engine.settle_switch(switched)
        assert {"live.db"} == place.files()

    def test_missing_with_something_beside_it__put_aside(self, place: Place) -> None:
        """A left-over log is not played into the new database, and not lost either."""
        place.live.with_name("live.db-wal").write_bytes(b"log")
        switched = place.switch()

        assert switched.replaced is not None
        assert b"log" == Path(f"{switched.replaced.name}-wal").read_bytes()
        assert not place.live.with_name("live.db-wal").exists()
        place.engine.settle_switch(switched)
        with pytest.raises(CorruptError, match="missing"), place.engine.replaced_orm(switched.replaced):
            pytest.fail("There is no such database.")
        place.engine.release(switched.replaced)
        assert {"live.db"} == place.files()

    @pytest.mark.parametrize("damage", ["zeroed", "cut", "text", "cut to nothing"])
    def test_damaged__put_aside_and_replaced(self, place: Place, damage: str) -> None:
        """Its bytes, and what stood beside it, are kept; the new file has its owner and mode."""
        create(place.live, OLD + PADDING)
        raw = place.live.read_bytes()
        damaged = {"zeroed": bytes(4096) + raw[4096:], "cut": raw[:5000], "text": b"#!/bin/sh\n" * 50}.get(damage, b"")
        place.live.write_bytes(damaged)
        place.live.with_name("live.db-journal").write_bytes(b"\0 cold")
        place.live.chmod(0o664)
        os.chown(place.live, 1234, 2345)
        assert Condition.DAMAGED is condition_of(place.live, 0.3)
        assert not place.engine.has_live()
        switched = place.switch()

        assert ["new"] == place.names()
        status = place.live.stat()
        assert (0o664, 1234, 2345) == (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        assert switched.replaced is not None
        assert damaged == Path(switched.replaced.name).read_bytes()
        assert b"\0 cold" == Path(f"{switched.replaced.name}-journal").read_bytes()
        assert not place.live.with_name("live.db-journal").exists()
        place.engine.settle_switch(switched)
        with pytest.raises(CorruptError):
            place.engine.switch_back(switched.replaced, SwitchRequest(restore="back", at=AT))

    def test_damaged_and_open__refused_naming_the_process(self, place: Place) -> None:
        """A file that somebody has open is not replaced under them."""
        place.live.write_bytes(b"no database" * 100)
        with place.live.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as other:
            try:
                problems = place.engine.restore_preflight(manifest(), switch=True)
                with pytest.raises(LockedError, match=str(other.pid)):
                    place.switch()
            finally:
                other.kill()

        assert any(str(other.pid) in p.message and p.severity is Severity.FAILED for p in problems)
        assert b"no database" * 100 == place.live.read_bytes()
        assert {"live.db"} == place.files()
        place.switch()
        assert ["new"] == place.names()

    def test_deleted_and_still_open__refused(self, place: Place) -> None:
        """What a program goes on writing into a deleted file would be lost."""
        create(place.live, OLD)
        with closing(sqlite3.connect(place.live)) as other:
            other.execute("SELECT * FROM item").fetchall()
            place.live.unlink()
            with pytest.raises(LockedError, match="this process"):
                place.switch()

        assert set() == place.files()

    def test_another_file_came_after_a_killed_attempt__nothing_is_played_into_it(self, place: Place) -> None:
        """What was put aside stays aside when somebody has put a database there by hand."""
        engine = place.engine
        kept = place.state / "replaced" / "live__old_1.sqlite3"
        kept.parent.mkdir()
        kept.write_bytes(b"damaged")
        log = Path(f"{kept}-wal")
        log.write_bytes(b"log")
        intent = Intent(restore="r", live=str(place.live), at=AT, way=Way.PLACE, kept=str(kept))
        Intents(place.state / "switches").write(intent)
        create(place.live, OLD)

        assert engine.recover_switch() is None
        assert ["old"] == place.names()
        assert not place.live.with_name("live.db-wal").exists()
        assert b"log" == log.read_bytes()


class TestReplaced:
    """What was put aside can be read, put back and released."""

    def test_switched_back__old_content_again_newer_kept(self, place: Place) -> None:
        """Rolling back keeps what it replaces in its turn, so it can be rolled back as well."""
        create(place.live, OLD, journal_mode="wal")
        switched = place.switch()
        place.engine.settle_switch(switched)
        assert switched.replaced is not None
        run(place.live, "INSERT INTO item VALUES ('written since')")
        back = place.engine.switch_back(switched.replaced, SwitchRequest(restore="back", at=datetime.now(tz=UTC)))

        assert ["old"] == place.names()
        assert back.replaced is not None
        assert [back.replaced, switched.replaced] == place.engine.list_replaced()
        with pytest.raises(RefusedError, match="not finished"):
            place.engine.release(switched.replaced)
        place.engine.settle_switch(back)
        assert [back.replaced] == place.engine.list_replaced()
        with place.engine.replaced_orm(back.replaced) as alias, connections[alias].cursor() as cursor:
            assert [("new",), ("written since",)] == cursor.execute("SELECT name FROM item").fetchall()
        assert [] == list((place.state / "jobs").iterdir())

    def test_released__gone_but_only_ours(self, place: Place, tmp_path: Path) -> None:
        """Nothing is deleted on somebody's word that it is a replaced database."""
        create(place.live, OLD)
        switched = place.switch()
        place.engine.settle_switch(switched)
        assert switched.replaced is not None
        foreign = Replaced(name=str(place.image), live=str(place.live), restore="x", replaced_at=AT)
        with pytest.raises(RefusedError, match="no replaced database"):
            place.engine.release(foreign)
        with pytest.raises(RefusedError):
            engine_at(tmp_path / "other.db", place.state).release(switched.replaced)
        place.engine.release(switched.replaced)

        assert place.image.exists()
        assert [] == place.engine.list_replaced()
        assert {"live.db"} == place.files()

    def test_note_damaged_or_moved__passed_over(self, place: Place) -> None:
        """A note is believed only beside the file it speaks of."""
        create(place.live, OLD)
        switched = place.switch()
        assert switched.replaced is not None
        note = Path(f"{switched.replaced.name}.json")
        shutil.copy(note, note.with_name("other.sqlite3.json"))
        note.with_name("broken.sqlite3.json").write_text("{")

        assert [switched.replaced] == place.engine.list_replaced()


class TestScratch:
    """A scratch file that is written before it is switched, or stays."""

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_written_through_django__seen_by_readers_of_the_copy(self, place: Place, mode: str) -> None:
        """Also where the archive's file says of itself that it is in WAL mode."""
        place.image.unlink()
        create(place.image, NEW, journal_mode=mode)
        with scratch_of(place.engine, place.state, place.image) as scratch:
            with scratch.writable_orm() as alias:
                with connections[alias].cursor() as cursor:
                    cursor.execute("INSERT INTO item VALUES ('added')")
                    durability = cursor.execute("PRAGMA synchronous").fetchone()
                with scratch.orm() as reader, connections[reader].cursor() as cursor:
                    seen = cursor.execute("SELECT name FROM item").fetchall()
            settings = scratch.writable_process_settings()

        assert [("new",), ("added",)] == seen
        assert (3,) == durability
        assert "mode=rw" in settings.settings["NAME"]
        assert () == settings.initial_sql

    def test_kept_under_a_name__stays_with_its_content(self, place: Place) -> None:
        """The command that comes back opens it; nothing is overwritten."""
        create(place.live, OLD)
        with scratch_of(place.engine, place.state, place.image) as scratch:
            place.engine.switch(scratch, SwitchRequest(restore="r", at=AT))
            command = place.engine.keep_as(scratch, "restored.db")
            for taken in ("restored.db", "live.db"):
                with pytest.raises(RefusedError, match="exists"):
                    place.engine.keep_as(scratch, taken)
            with pytest.raises(RefusedError, match="created"):
                place.engine.keep_as(scratch, "nowhere/x.db")
        restored = place.live.parent / "restored.db"

        assert command == f"sqlite3 {restored}"
        assert [("item",)] == run(restored, "SELECT name FROM sqlite_master")
        assert 0o600 == stat.S_IMODE(restored.stat().st_mode)


def manifest(**database: object) -> Manifest:
    """Return the manifest of a small backup."""
    facts = {"alias": "default", "engine": "sqlite", "name": "live.db", "version": "3.0.0", "size": 8192}
    return Manifest(
        id="b",
        number=1,
        database=DatabaseFacts(**(facts | database)),  # type: ignore[arg-type]  # of the right types
        kind="full",
        format="sqlite3",
        taken_at=AT,
        finished_at=AT,
        archive=ArchiveFacts(name="b", size=1, sha256="", uncompressed_size=8192),
    )


def serious(problems: list[Problem]) -> list[tuple[type[BackupError], str]]:
    """Return the problems that stop a restore."""
    return [(problem.error, problem.message) for problem in problems if problem.severity is Severity.FAILED]


class TestPreflight:
    """All that would go wrong is said before anything is touched."""

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_good_database__notes_only(self, place: Place, mode: str) -> None:
        """The live file's layout is told, and so is who has it open."""
        create(place.live, OLD, journal_mode=mode)
        before = place.live.read_bytes()
        with place.live.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as other:
            problems = place.engine.restore_preflight(manifest(), switch=True)
            other.kill()
        said = " ".join(problem.message for problem in problems)

        assert [] == serious(problems)
        assert f"{other.pid} (sleep)" in said
        assert "4096 bytes" in said
        assert before == place.live.read_bytes()

    def test_locked__said(self, place: Place) -> None:
        """A transaction of somebody else would be in the way."""
        create(place.live, OLD)
        with closing(sqlite3.connect(place.live, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ((error, message),) = serious(place.engine.restore_preflight(manifest(), switch=True))

        assert LockedError is error
        assert str(place.live) in message

    @pytest.mark.parametrize(
        ("content", "said"), [(None, "will be created"), (b"", "empty"), (b"x" * 999, "put aside")]
    )
    def test_no_database__note(self, place: Place, content: bytes | None, said: str) -> None:
        """A live file that is missing, empty or damaged is what a restore is for."""
        if content is not None:
            place.live.write_bytes(content)
        problems = place.engine.restore_preflight(manifest(), switch=True)

        assert [] == serious(problems)
        assert any(said in problem.message for problem in problems)
        assert not place.engine.has_live()

    def test_in_memory__refused(self, place: Place) -> None:
        """Nobody else can write what is in a process's memory."""
        engine = engine_of(":memory:", state_dir=place.state)
        ((error, message),) = serious(engine.restore_preflight(manifest(), switch=True))

        assert RefusedError is error
        assert "memory" in message

    def test_folder_missing__said_with_the_rest(self, tmp_path: Path) -> None:
        """A folder is not created on the quiet."""
        engine = engine_at(tmp_path / "nowhere" / "live.db", tmp_path)
        ((error, message),) = serious(engine.restore_preflight(manifest(), switch=True))

        assert ServerUnreachableError is error
        assert "nowhere" in message

    def test_read_only_file_system__said(self, place: Place) -> None:
        """The folder's file system is named as the reason, also to root."""
        create(place.live, OLD)
        subprocess.run(["mount", "--bind", place.live.parent, place.live.parent], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", place.live.parent], check=True)
            problems = place.engine.restore_preflight(manifest(), switch=True)
            beside = place.engine.restore_preflight(manifest(), switch=False)
        finally:
            subprocess.run(["umount", place.live.parent], check=True)

        assert all("read-only" in message for _, message in serious(problems))
        assert 2 == len(serious(problems))
        assert [] == beside

    def test_too_large__no_space_said(self, place: Place) -> None:
        """The space is counted together where it is the same disk."""
        create(place.live, OLD)
        huge = replace(manifest(), archive=ArchiveFacts(name="b", size=1, sha256="", uncompressed_size=10**18))
        ((error, message),) = serious(place.engine.restore_preflight(huge, switch=True))

        assert NoSpaceError is error
        assert "are needed" in message

    def test_versions__newer_library_noted_other_engine_refused(self, place: Place) -> None:
        """A file made by a newer library most often works; a dump of another kind of database never does."""
        create(place.live, OLD)
        newer = place.engine.restore_preflight(manifest(version="99.1.0"), switch=True)
        other = place.engine.restore_preflight(manifest(engine="postgresql"), switch=True)

        assert [] == serious(newer)
        assert any("99.1.0" in problem.message for problem in newer)
        assert [RefusedError] == [error for error, _ in serious(other)]

    def test_has_live__rows_must_be_readable(self, place: Place) -> None:
        """A page of zeros in the middle is noticed, a row that breaks a constraint is no damage."""
        create(
            place.live,
            f"{OLD}{PADDING}CREATE TABLE c (a integer CHECK (a > 0)); PRAGMA ignore_check_constraints=ON;"
            "INSERT INTO c VALUES (0);",
        )
        assert place.engine.has_live()
        raw = bytearray(place.live.read_bytes())
        raw[4096:8192] = bytes(4096)
        place.live.write_bytes(raw)

        assert not place.engine.has_live()
