"""pg_dump and pg_restore that die, hang or lie: never a backup, never a pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import leftovers
from tests.support.host import Host
from tests.support.postgres import Cluster
from tests.support.programs import BAD_DUMPS, fake_program


def host_with(tmp_path: Path, database: dict[str, Any], programs: Path, **more: object) -> Host:
    """A demo whose programs are looked for in `programs` first."""
    settings = {"PROGRAM_DIRS": [str(programs)], **more}
    host = Host(
        tmp_path / "host",
        databases={"default": database},
        extra_settings=f"ERP_BACKUP = {{**ERP_BACKUP, **{settings!r}}}",
    )
    host.migrate()
    host.seed()
    return host


@pytest.mark.parametrize("kind", ["before", "amid", "after", "empty"])
def test_pg_dump_dies__no_backup(tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any], kind: str) -> None:
    """Whenever it dies, even after its last byte, there is no backup and nothing is left."""
    programs = fake_program(tmp_path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", BAD_DUMPS[kind])
    host = host_with(tmp_path, pg_database, programs)

    result = host.manage("dbbackup", check=False)

    assert 20 == result.returncode, str(result)
    assert "Traceback" not in result.stderr
    assert "pg_dump" in result.stderr or kind == "empty"
    assert {} == leftovers.backups(host)
    leftovers.assert_nothing_left(host, postgres)


def test_pg_dump_hangs__stopped(tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]) -> None:
    """A dump that says nothing for longer than the limit is stopped with all of its group."""
    programs = fake_program(tmp_path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", BAD_DUMPS["silent"])
    host = host_with(tmp_path, pg_database, programs, IDLE_LIMIT=2)

    result = host.manage("dbbackup", check=False)

    assert 20 == result.returncode, str(result)
    assert "silent" in result.stderr
    leftovers.assert_nothing_left(host, postgres)


def test_pg_dump_writes_garbage__found_by_verification(
    tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]
) -> None:
    """A dump that is none can be stored, but no verification takes it for a backup."""
    programs = fake_program(tmp_path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", BAD_DUMPS["garbage"])
    host = host_with(tmp_path, pg_database, programs)
    host.manage("dbbackup")

    result = host.manage("verifybackup", check=False)

    assert 5 == result.returncode, str(result)
    assert "FAILED" in result.stdout
    leftovers.assert_nothing_left(host, postgres)


RESTORES = {
    "killed": ("kill -9 $$", 20),
    "no_space": ('echo "pg_restore: error: could not write: No space left on device" >&2; exit 1', 31),
    "lost_server": ('echo "pg_restore: error: server closed the connection unexpectedly" >&2; exit 1', 23),
}


@pytest.mark.parametrize("kind", sorted(RESTORES))
def test_pg_restore_cannot_work__could_not_verify(
    tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any], kind: str
) -> None:
    """A restore that could not be tried says nothing about the backup: neither passed nor failed."""
    body, code = RESTORES[kind]
    # The table of contents is still read by the real one.
    script = f'case "$*" in *--list*) exec "$REAL" "$@";; esac\n{body}'
    programs = fake_program(tmp_path / "bin", "pg_restore", postgres.bin_dir / "pg_restore", script)
    host = host_with(tmp_path, pg_database, programs)
    host.manage("dbbackup")

    result = host.manage("verifybackup", check=False)

    assert code == result.returncode, str(result)
    assert "COULD NOT VERIFY" in result.stdout
    leftovers.assert_nothing_left(host, postgres)


def test_pg_restore_loses_a_table_and_says_so__failed(
    tmp_path: Path, postgres: Cluster, pg_database: dict[str, Any]
) -> None:
    """A restore program that skips a table's rows with exit 0 is found out by the comparison."""
    script = 'case "$*" in *--list*) exec "$REAL" "$@";; esac\nexec "$REAL" --exclude-schema=nothing "$@"'
    programs = fake_program(tmp_path / "bin", "pg_restore", postgres.bin_dir / "pg_restore", script)
    host = host_with(tmp_path, pg_database, programs)
    host.manage("dbbackup")
    listed = tmp_path / "bin" / "pg_restore"
    listed.write_text(
        listed.read_text().replace(
            'exec "$REAL" --exclude-schema=nothing "$@"',
            'for last; do :; done; "$REAL" --list "$last" | grep -v "TABLE DATA public warehouses" > "$last.list"\n'
            'exec "$REAL" -L "$last.list" "$@"',
        )
    )

    result = host.manage("verifybackup", check=False)

    assert 6 == result.returncode, str(result)
    assert "public.warehouses" in result.stdout
    assert "rows lost" in result.stdout
    leftovers.assert_nothing_left(host, postgres)
