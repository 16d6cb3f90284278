"""The switch of an SQLite database: killed at any instant, with writers beside it, and without space."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from erp_backup.core.errors import NoSpaceError
from erp_backup.core.figures import Figures
from erp_backup.engines.sqlite import SQLite, switching
from erp_backup.engines.sqlite.live import companions_of
from tests.support.lite_switch import (
    RESTORE,
    Writers,
    clean_jobs,
    engine_at,
    figures_of,
    rows_of,
    start,
    switch,
)
from tests.support.sqlite import create, run
from tests.support.tiers import IS_FULL

EVERY = 1 if IS_FULL else 15
RANDOM_KILLS = 200 if IS_FULL else 0
SYSTEM_CALLS = (
    "fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,ftruncate,fchmod,chmod,"
    "write,pwrite64,copy_file_range,sendfile"
)
SCHEMA = (
    "CREATE TABLE entry (id integer PRIMARY KEY, writer integer, number integer, note text);"
    "CREATE TABLE balance (total integer); INSERT INTO balance VALUES (0);"
)
FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    " INSERT INTO entry (writer, number, note) SELECT 99, i, hex(randomblob(250)) FROM n;"
)


@pytest.fixture(autouse=True)
def _databases_allowed(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Let Django open the aliases of images."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]  # pytest-django's own object
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A live file of which any number of copies can be switched, and what it may look like afterwards."""

    folder: Path
    journal_mode: str
    damage: str  # what becomes of the live file first: nothing, "missing", "header"

    @property
    def image(self) -> Path:
        """What is restored."""
        return self.folder / "image.db"

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def live(self) -> Path:
        """The live file, in a folder of its own."""
        return self.folder / "erp" / "live.db"

    def make(self) -> None:
        """Create the files."""
        self.live.parent.mkdir()
        template = create(self.folder / "old.db", SCHEMA + FILL.format(count=40), journal_mode=self.journal_mode)
        create(self.image, SCHEMA + FILL.format(count=70))
        self._damage(template)

    def _damage(self, template: Path) -> None:
        if self.damage == "header":
            template.write_bytes(b"\0" * 100 + template.read_bytes()[100:])
            template.with_name("old.db-wal").write_bytes(b"what was in the log")
        elif self.damage == "missing":
            template.unlink()
            template.with_name("old.db-journal").write_bytes(b"what was in the journal")

    def reset(self) -> None:
        """Put the live file there, as it was before any switch."""
        shutil.rmtree(self.state, ignore_errors=True)
        for path in self.live.parent.iterdir():
            path.unlink()
        for path in self.folder.glob("old.db*"):
            shutil.copy(path, self.live.with_name(path.name.replace("old", "live")))

    def content(self) -> Figures | dict[str, bytes]:
        """Return the live database's figures; where it is none, the bytes of its files."""
        if self.damage and not self._opens():
            files = (path for path in self.live.parent.iterdir() if not path.name.endswith("-shm"))
            return {path.name: path.read_bytes() for path in files}
        return figures_of(self.live, self.state)

    def _opens(self) -> bool:
        return self.live.exists() and self.live.read_bytes()[:15] == b"SQLite format 3"


def assert_old_or_new(scene: Scene, old: object, new: object) -> None:
    """Assert that the next run makes the live database exactly one of them, with nothing else left of the switch."""
    engine = engine_at(scene.live, scene.state)
    if not scene.damage:
        (count,) = run(scene.live, "SELECT count(*) FROM entry")[0]

        assert count in {40, 70}, "between the two"
        assert [("ok",)] == run(scene.live, "PRAGMA integrity_check")
    clean_jobs(scene.state)
    switched = engine.recover_switch()
    if switched is not None:
        assert RESTORE == switched.restore
        assert engine.list_replaced() == [switched.replaced]
        engine.settle_switch(switched)
    found = scene.content()
    kept = engine.list_replaced()
    files = {path.relative_to(scene.folder).as_posix() for path in scene.state.rglob("*") if path.is_file()}

    assert found == new or (switched is None and found == old)
    assert engine.recover_switch() is None
    assert len(kept) == (1 if found == new else 0)
    if kept and not scene.damage:
        assert figures_of(Path(kept[0].name), scene.state) == old
    assert {name for name in files if not name.startswith("state/replaced/live__old")} == set()
    assert bool(files) == bool(kept)
    in_folder = {path.name for path in scene.live.parent.iterdir()}
    assert in_folder <= {"live.db", "live.db-wal", "live.db-shm", "live.db-journal"}
    if found == new and scene.damage:
        assert {"live.db"} == in_folder


def both_states(scene: Scene) -> tuple[object, object]:
    """Return what the live database is before and after a switch."""
    scene.reset()
    scene.state.mkdir(mode=0o700)
    old = scene.content()
    engine = engine_at(scene.live, scene.state)
    engine.settle_switch(switch(engine, scene.state, scene.image))
    return old, scene.content()


@pytest.fixture(
    params=[("wal", ""), ("delete", ""), ("wal", "header"), ("delete", "missing")],
    ids=["wal", "delete", "damaged", "missing"],
)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """Live files in both kinds of journal modes, one that is damaged and one that is gone."""
    made = Scene(folder=tmp_path, journal_mode=request.param[0], damage=request.param[1])
    made.make()
    return made


class TestKills:
    """A switch that dies is finished or undone by the next run."""

    def test_every_system_call_that_changes_files__old_or_new(self, scene: Scene) -> None:
        """SIGKILL at the N-th such call of any of its processes, until a run gets through."""
        old, new = both_states(scene)
        assert old != new
        for number in range(1 + EVERY // 2, 2000, EVERY):
            scene.reset()
            inject = f"inject={SYSTEM_CALLS}:signal=KILL:when={number}"
            trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYSTEM_CALLS}")
            process = start("switch", scene.live, scene.state, scene.image, before=(*trace, "-e", inject))
            _, said = process.communicate()
            assert_old_or_new(scene, old, new)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, said
        else:
            pytest.fail("No run ever got through.")

        assert number > EVERY

    def test_at_random__old_or_new(self, scene: Scene) -> None:
        """SIGKILL at any moment of the switch, in `make faults`."""
        chance = random.Random(3)
        old, new = both_states(scene)
        for _ in range(RANDOM_KILLS):
            scene.reset()
            process = start("switch", scene.live, scene.state, scene.image)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.12))
            process.kill()
            process.communicate()

            assert_old_or_new(scene, old, new)


class TestWriters:
    """Four processes write through Django while the database is switched under them."""

    @pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"] if IS_FULL else ["wal", "delete"])
    def test_switch__no_acknowledged_write_is_lost(self, tmp_path: Path, mode: str) -> None:
        """What was acknowledged before is in the kept file, what came after in the live one, nothing in between."""
        live = create(tmp_path / "live.db", SCHEMA + FILL.format(count=2000), journal_mode=mode)
        image = create(tmp_path / "image.db", SCHEMA + FILL.format(count=2500))
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        writers = Writers(live, mode)
        try:
            writers.wait_for_more(12)
            switched = switch(engine_at(live, state), state, image, limit=60)
            writers.wait_for_more(12)
            engine_at(live, state, lock_timeout=30.0).settle_switch(switched)
        finally:
            complaints = writers.stop()
        assert switched.replaced is not None
        kept = Path(switched.replaced.name)

        assert [] == complaints
        for number, acknowledged in enumerate(writers.acknowledged):
            before, after = rows_of(kept, number), rows_of(live, number)
            assert len(before) >= 12
            assert len(after) >= 12
            assert list(range(1, len(acknowledged) + 1)) == acknowledged == before + after
        for path in (kept, live):
            assert [("ok",)] == run(path, "PRAGMA integrity_check")
            assert run(path, "SELECT count(*) FROM entry WHERE writer < 99") == run(path, "SELECT total FROM balance")


class TestNoSpace:
    """A full disk at any moment: exit 31, the old database, nothing left."""

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    @pytest.mark.parametrize("is_told_before", [True, False])
    def test_beside_the_live_file__old_or_new(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, *, is_told_before: bool
    ) -> None:
        """Also where the disk fills up after there had seemed to be room."""
        if not is_told_before:
            monkeypatch.setattr(switching, "require_space", lambda _place, _needed: None)
        image = create(tmp_path / "image.db", SCHEMA + FILL.format(count=3000))
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        outcomes = []
        for kilobytes in (1400, 1600, 2200, 3000, 4000, 6000):
            with small_disk(tmp_path / "disk", kilobytes):
                live = create(tmp_path / "disk" / "live.db", SCHEMA + FILL.format(count=1000), journal_mode=mode)
                old = figures_of(live, state)
                engine = engine_at(live, state)
                outcomes.append(outcome_of(engine, state, image))

                assert [("ok",)] == run(live, "PRAGMA integrity_check")
                if not outcomes[-1]:
                    assert {} == {path.name: path.stat().st_size for path in companions_of(live) if path.stat().st_size}
                    assert old == figures_of(live, state)
                    assert [] == [path for path in state.rglob("*") if path.is_file()]
                else:
                    assert [(3000,)] == run(live, "SELECT count(*) FROM entry")
            shutil.rmtree(state)
            state.mkdir(mode=0o700)

        assert sorted(outcomes) == outcomes
        assert {False, True} == set(outcomes)

    @pytest.mark.parametrize("mode", ["wal", "delete"])
    def test_in_the_state_folder__nothing_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        """The old content cannot be kept whole, so it is not replaced."""
        monkeypatch.setattr(switching, "require_space", lambda _place, _needed: None)
        image = create(tmp_path / "image.db", SCHEMA + FILL.format(count=300))
        live = create(tmp_path / "live.db", SCHEMA + FILL.format(count=1000), journal_mode=mode)
        old = figures_of(live, tmp_path / "jobs")
        for kilobytes in (4, 12, 100, 500):
            with small_disk(tmp_path / "disk", kilobytes):
                engine = engine_at(live, tmp_path / "disk")

                assert not outcome_of(engine, tmp_path / "jobs", image)
                assert engine.recover_switch() is None
                assert [] == [path for path in (tmp_path / "disk").rglob("*") if path.is_file()]
            assert old == figures_of(live, tmp_path / "jobs")


def outcome_of(engine: SQLite, state: Path, image: Path) -> bool:
    """Switch and return whether there was room; every other failure is one."""
    try:
        switched = switch(engine, state, image)
    except NoSpaceError:
        return False
    with suppress(NoSpaceError):  # all of it fits into -wal, but not a page more: that is for the next run
        engine.settle_switch(switched)
    return True


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[None]:
    """Mount a real small file system."""
    path.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)
