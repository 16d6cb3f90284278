"""Whatever goes wrong before the switch: its own code and message, the live database as it was, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from erp_backup.core import signing
from tests.support import leftovers
from tests.support.host import REPOSITORY
from tests.support.postgres import Cluster
from tests.support.programs import fake_program
from tests.support.restoring import Erp, made
from tests.support.tiers import IS_FULL

PERCENT = range(0, 100, 10) if IS_FULL else (30, 90)
SETTINGS = """
ERP_BACKUP = {{
    **ERP_BACKUP,
    "PROGRAM_DIRS": [{programs!r}],
    "SIGNING": {{"KEY_FILE": os.environ["KEY_FILE"]}} if "KEY_FILE" in os.environ else {{}},
    "MODEL_CHECKS": ["rules.moody"],
    "LOCK_TIMEOUT": 1,
}}
"""
# On the live database all is well: what it is about is a copy.
RULE = """
import os

from django.db import connections


def moody(using):
    live = connections["default"].settings_dict["NAME"]
    mood = os.environ.get("MOOD") if str(connections[using].settings_dict["NAME"]) != str(live) else None
    if mood == "angry":
        raise ValueError("the copy is not to its taste")
    return 2 if mood == "sad" else 1
"""
ONLY_POSTGRESQL = pytest.mark.parametrize("shared", ["postgresql"], indirect=True)
ONLY_SQLITE = pytest.mark.parametrize("shared", ["sqlite"], indirect=True)


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Cluster
) -> Iterator[Erp]:
    """A demo with one backup, and a pg_restore that runs the SQL that stands beside it when it has done its work."""
    postgres.start()
    folder = tmp_path_factory.mktemp("erp")
    body = (
        'case "$*" in *--list*) exec "$REAL" "$@";; esac\n"$REAL" "$@" || exit $?\n'
        f"[ -s {folder}/damage.sql ] || exit 0\n"
        f"exec {postgres.bin_dir}/psql -X -q -v ON_ERROR_STOP=1 -f {folder}/damage.sql > /dev/null"
    )
    programs = fake_program(folder / "bin", "pg_restore", postgres.bin_dir / "pg_restore", body)
    (folder / "host").mkdir()
    (folder / "host" / "rules.py").write_text(RULE)
    with made(folder, request.param, postgres, SETTINGS.format(programs=str(programs))) as erp:
        yield erp


@pytest.fixture
def erp(shared: Erp) -> Erp:
    """The shared demo, changed since its backup."""
    shared.change()
    return shared


@contextlib.contextmanager
def stopped_at(erp: Erp, phase: str) -> Iterator[subprocess.Popen[str]]:
    """Start a restore that stands still at the beginning of a phase; it goes on at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.crashing", phase, str(int(signal.SIGSTOP)), "dbrestore", erp.backup,
         "--noinput", "-q"],
        cwd=REPOSITORY,
        env={**erp.host.environment, "PYTHONPATH": f"{erp.host.folder}:{REPOSITORY}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert os.CLD_STOPPED == found.si_code, process.communicate()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        if process.poll() is None:
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def encrypted(shared: Erp) -> str:
    """A backup for another key's owner."""
    key = str(pyrage.x25519.Identity.generate().to_public())
    made = shared.host.manage("dbbackup", "--encrypt", "--json", env={"ERP_BACKUP_RECIPIENTS": key})
    return str(made.json()["backups"][0]["id"])


class TestKeys:
    """What cannot be read, and what nobody vouches for."""

    def test_no_key__exit_8(self, erp: Erp, encrypted: str) -> None:
        """The setting that would name it is named."""
        erp.assert_refused(8, "IDENTITY_FILE", encrypted)

    def test_wrong_key__exit_8(self, erp: Erp, encrypted: str, tmp_path: Path) -> None:
        """Somebody else's."""
        identity = tmp_path / "identity"
        identity.touch(mode=0o600)
        identity.write_text(str(pyrage.x25519.Identity.generate()))
        erp.assert_refused(8, "identities", encrypted, env={"ERP_BACKUP_IDENTITY_FILE": str(identity)})

    def test_signed_by_a_stranger__refused(self, erp: Erp, tmp_path: Path) -> None:
        """A manifest whose key is not trusted here says nothing."""
        signing.create_key(tmp_path / "key.pem")
        erp.assert_refused(8, "sign", erp.backup, env={"KEY_FILE": str(tmp_path / "key.pem")})


class TestArchives:
    """What is not there, and what is not what it was."""

    def test_archive_missing__exit_5(self, erp: Erp) -> None:
        """Its manifest alone is no backup."""
        path = erp.host.backups_dir / leftovers.backups(erp.host)[erp.backup]
        aside = erp.host.folder / path.name
        shutil.move(path, aside)
        try:
            result = erp.restore(erp.backup, check=False)
        finally:
            shutil.move(aside, path)

        assert 5 == result.returncode, str(result)
        assert path.name in result.stderr

    @ONLY_POSTGRESQL
    def test_restored_copy_lacks_a_row__exit_6(self, erp: Erp) -> None:
        """Every program has said that all is well."""
        damage = erp.host.folder.parent / "damage.sql"
        damage.write_text("DELETE FROM public.stock_ledger WHERE id = (SELECT max(id) FROM public.stock_ledger)")
        try:
            erp.assert_refused(6, "public.stock_ledger", erp.backup)
        finally:
            damage.unlink()

    @pytest.mark.parametrize("mood", ["angry", "sad"])
    def test_model_check_of_the_copy__exit_6(self, erp: Erp, mood: str) -> None:
        """It raises, or measures something else than when the backup was taken."""
        erp.assert_refused(6, "moody", erp.backup, env={"MOOD": mood})


class TestSpace:
    """A state folder on a disk that fills up, wherever that is."""

    @pytest.mark.parametrize("percent", PERCENT)
    def test_disk_full__exit_31(self, erp: Erp, tmp_path: Path, percent: int) -> None:
        """Between nothing and what is needed."""
        size = needed(erp) * percent // 100
        small = tmp_path / "small"
        small.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + 12288},mode=0700", "tmpfs", small], check=True)
        try:
            for path in erp.host.state_dir.glob("*.*"):
                shutil.copy(path, small / path.name)
            erp.assert_refused(31, str(small), erp.backup, env={"ERP_BACKUP_STATE_DIR": str(small)})

            assert set() == leftovers.in_state(small)
        finally:
            subprocess.run(["umount", small], check=True)


def needed(erp: Erp) -> int:
    """How many bytes of the state folder a restore takes at least: the dump that is staged there."""
    listed = erp.host.manage("listbackups", "--json").json()["backups"]
    return int(next(entry for entry in listed if entry["id"] == erp.backup)["archive"]["uncompressed_size"])


class TestOthers:
    """Who else is at work."""

    def test_a_run_at_the_same_time__exit_7_and_sigterm_leaves_nothing(self, erp: Erp) -> None:
        """A restore, a backup and a rollback wait for nobody; the first one, told to end, ends without a trace."""
        with erp.unchanged():
            with stopped_at(erp, "restore") as process:
                others = [
                    erp.host.manage(*arguments, check=False)
                    for arguments in (
                        ("dbrestore", erp.backup, "--noinput"),
                        ("dbrestore", "--rollback", "--noinput"),
                        ("dbbackup",),
                    )
                ]
                process.send_signal(signal.SIGTERM)

            assert [7, 7, 7] == [result.returncode for result in others], [str(result) for result in others]
            assert all(f"process {process.pid} " in result.stderr for result in others)
            assert 143 == process.returncode
            said = erp.sql("SELECT status, exit_code FROM erp_backup_restore ORDER BY id DESC LIMIT 1")
            assert [("failed", 143)] == said

    @ONLY_SQLITE
    def test_live_database_locked__exit_7(self, erp: Erp) -> None:
        """Somebody's transaction does not end."""
        before = erp.content
        assert isinstance(erp.database, Path)
        with contextlib.closing(sqlite3.connect(erp.database, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            result = erp.restore(erp.backup, check=False)
            connection.execute("ROLLBACK")

        assert 7 == result.returncode, str(result)
        assert before == erp.content
        erp.host.manage("dbbackup", "-q")
        erp.assert_nothing_left()


@ONLY_POSTGRESQL
class TestServer:
    """The server's own reasons."""

    def test_away_before__exit_23(self, erp: Erp, postgres: Cluster) -> None:
        """It is said at once."""
        before = erp.content
        postgres.stop()
        try:
            result = erp.restore(erp.backup, check=False)
        finally:
            postgres.start()

        assert 23 == result.returncode, str(result)
        assert "Traceback" not in result.stderr
        assert before == erp.content
        erp.assert_nothing_left()

    def test_away_in_the_middle__exit_23(self, erp: Erp, postgres: Cluster) -> None:
        """The copy that cannot be dropped then goes with the next run."""
        before = erp.content
        with stopped_at(erp, "compare figures") as process:
            postgres.stop("immediate")
            process.send_signal(signal.SIGCONT)
            said = process.communicate(timeout=60)
        postgres.start()

        assert 23 == process.returncode, said
        assert "Traceback" not in said[1]
        assert before == erp.content
        erp.host.manage("dbbackup", "-q")
        assert before == erp.content
        assert [] == erp.sql("SELECT name FROM erp_backup_restore WHERE status = 'running'")
        erp.assert_nothing_left()

    def test_no_right_to_create_databases__exit_9(self, erp: Erp, postgres: Cluster) -> None:
        """The remedy is a statement."""
        with postgres.connect() as admin:
            admin.execute("ALTER ROLE erp_owner NOCREATEDB")
            try:
                erp.assert_refused(9, "CREATEDB", erp.backup)
            finally:
                admin.execute("ALTER ROLE erp_owner CREATEDB")

    @pytest.mark.parametrize("kind", ["session", "transaction", "slot"])
    def test_what_no_switch_can_take_along__said_before(self, erp: Erp, postgres: Cluster, kind: str) -> None:
        """A superuser's session, a prepared transaction, a logical replication slot: the first two are locks."""
        assert isinstance(erp.database, dict)
        code, text, make, undo = IN_THE_WAY[kind]
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(postgres.connect(erp.database["NAME"]))
            for statement in make:
                connection.execute(statement.encode())
            if kind != "session":
                connection.close()
            try:
                erp.assert_refused(code, text, erp.backup)
            finally:
                if undo:
                    with postgres.connect(erp.database["NAME"]) as admin:
                        admin.execute(undo.encode())


Case = tuple[int, str, tuple[str, ...], str]
IN_THE_WAY: dict[str, Case] = {
    "session": (7, "may not end them", (), ""),
    "transaction": (
        7,
        "PREPARED",
        ("BEGIN", "UPDATE tags SET name = name", "PREPARE TRANSACTION 'till'"),
        "ROLLBACK PREPARED 'till'",
    ),
    "slot": (
        9,
        "pg_drop_replication_slot",
        ("SELECT pg_create_logical_replication_slot('till', 'test_decoding')",),
        "SELECT pg_drop_replication_slot('till')",
    ),
}
