"""Loading a dump: what is wrong with the archive is in the report, what kept it from being tried is raised."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from erp_backup.core.errors import CorruptError, NoSpaceError, ProgramError, ServerUnreachableError
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import PostgreSQL
from tests.contracts.engine import Dumped
from tests.support.pg_engine import drill, engine_of, eventually, run, scratch_databases, take
from tests.support.postgres import Cluster
from tests.support.programs import fake_program

# An index on an expression that behaves badly, but only in a copy.
BAD_COPY = """
CREATE FUNCTION misbehave(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_database() LIKE 'erp\\_backup\\_scratch\\_%' THEN {} END IF;
    RETURN a;
END $$;
CREATE TABLE item (a int);
INSERT INTO item VALUES (1), (2);
CREATE INDEX item_bad ON item (misbehave(a));
"""
WAIT = "PERFORM pg_sleep(600);"
FAIL = "RAISE EXCEPTION '%', 'no such luck';"
NO_SPACE = "RAISE EXCEPTION 'could not extend file \"base/1/2\": No space left on device' USING ERRCODE = 'disk_full';"

# A custom archive, loaded by several sessions, and a plain one.
WAYS = [("custom", 2), ("plain", 1)]


def taken(entry: dict[str, Any], folder: Folder, format_name: str, jobs: int, deed: str) -> tuple[PostgreSQL, Dumped]:
    """Fill the database, dump it, and return both."""
    run(entry, BAD_COPY.replace("{}", deed))
    engine = engine_of(entry, jobs=jobs)
    return engine, take(engine, folder, DumpRequest(format=format_name))


def sleepers(cluster: Cluster, action: str) -> Callable[[], bool]:
    """Return what does `action` to each session that sleeps in a scratch database, and says whether there was one."""

    def act() -> bool:
        with cluster.connect() as admin:
            rows = admin.execute(
                f"SELECT {action} FROM pg_stat_activity WHERE datname LIKE 'erp\\_backup\\_scratch\\_%'"
                " AND wait_event = 'PgSleep'"
            ).fetchall()
        return bool(rows)

    return act


@pytest.mark.parametrize(("format_name", "jobs"), WAYS)
def test_connection_that_is_lost__is_no_verdict(
    postgres: Cluster, pg_database: dict[str, Any], job_folder: Folder, format_name: str, jobs: int
) -> None:
    """A session that the server ends in mid-load says nothing about the archive: unreachable, never passed."""
    engine, dumped = taken(pg_database, job_folder, format_name, jobs, WAIT)
    killer = threading.Thread(target=eventually, args=[sleepers(postgres, "pg_terminate_backend(pid)")])
    killer.start()

    with pytest.raises(ServerUnreachableError, match="lost"):
        drill(engine, job_folder, dumped)

    killer.join()
    assert set() == scratch_databases(pg_database)


@pytest.mark.parametrize(("format_name", "jobs"), WAYS)
def test_full_disk_at_the_server__is_no_verdict(
    pg_database: dict[str, Any], job_folder: Folder, format_name: str, jobs: int
) -> None:
    """A copy that finds no room proves nothing, whatever status the program ends with."""
    engine, dumped = taken(pg_database, job_folder, format_name, jobs, NO_SPACE)

    with pytest.raises(NoSpaceError, match="No space left"):
        drill(engine, job_folder, dumped)


@pytest.mark.parametrize(("format_name", "jobs"), WAYS)
def test_error_in_the_archive__is_reported_and_found(
    pg_database: dict[str, Any], job_folder: Folder, format_name: str, jobs: int
) -> None:
    """A statement that fails is an error of the report, and what it would have made is missing from the figures."""
    engine, dumped = taken(pg_database, job_folder, format_name, jobs, FAIL)

    report, findings = drill(engine, job_folder, dumped)

    assert ["no such luck" in text for text in report.errors] == [True]
    assert [("index", "public.item_bad on item")] == [(found.kind, found.subject) for found in findings]


def test_interrupted_load__ends_and_leaves_nothing(
    postgres: Cluster, pg_database: dict[str, Any], job_folder: Folder
) -> None:
    """Ctrl-C while pg_restore waits for the server ends both, and the copy goes."""
    engine, dumped = taken(pg_database, job_folder, "custom", 2, WAIT)
    asleep = sleepers(postgres, "pid")

    def interrupt() -> None:
        eventually(asleep)
        os.kill(os.getpid(), signal.SIGINT)

    hand = threading.Thread(target=interrupt)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        drill(engine, job_folder, dumped)
    hand.join()

    assert set() == scratch_databases(pg_database)
    assert eventually(lambda: not asleep())


def test_limits_of_the_role__do_not_count(postgres: Cluster, pg_database: dict[str, Any], job_folder: Folder) -> None:
    """A role that may only read, for a short time, in another style, can still restore its copy."""
    run(pg_database, "CREATE TABLE bill (at timestamptz, total money, span interval)")
    run(pg_database, "INSERT INTO bill VALUES ('2026-01-02 03:04:05+06', '1234.5', '1 day 2 hours')")
    # More than can be measured, dumped or indexed in the role's time.
    run(pg_database, "CREATE TABLE big AS SELECT g, md5(g::text) AS t FROM generate_series(1, 100000) g")
    run(pg_database, "CREATE INDEX big_t ON big (t)")
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": "100ms",
        "search_path": "nowhere",
        "DateStyle": "German, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "Asia/Kolkata",
        "lock_timeout": "1ms",
        "bytea_output": "escape",
        "extra_float_digits": "0",
        "xmloption": "document",
        "quote_all_identifiers": "on",
        "idle_in_transaction_session_timeout": "1ms",
        "standard_conforming_strings": "off",
    }
    name = pg_database["NAME"]
    engine = engine_of(pg_database)
    with postgres.connect() as admin:
        plain = _figures(engine, job_folder)
        for key, value in settings.items():
            admin.execute(f"ALTER ROLE erp_owner IN DATABASE {name} SET {key} = '{value}'")
            admin.execute(f"ALTER ROLE erp_owner SET {key} = '{value}'")
        try:
            dumped = take(engine, job_folder)
            report, findings = drill(engine, job_folder, dumped)
        finally:
            admin.execute("ALTER ROLE erp_owner RESET ALL")

    assert ([], ()) == (findings, report.errors)
    assert plain == dumped.manifest.figures


def _figures(engine: PostgreSQL, folder: Folder) -> Any:
    with engine.snapshot(DumpRequest(), folder) as snapshot:
        return snapshot.figures()


def test_money_of_another_country__is_read_as_it_was_written(
    postgres: Cluster, pg_database: dict[str, Any], job_folder: Folder
) -> None:
    """Money is dumped as the database's own setting writes it, which a new database does not have."""
    with postgres.connect() as admin:
        admin.execute(f"ALTER DATABASE {pg_database['NAME']} SET lc_monetary = 'C.UTF-8'")
    run(pg_database, "CREATE TABLE bill (total money)", "INSERT INTO bill VALUES (1234.5::numeric::money)")
    body = f'echo "$PGOPTIONS" > {job_folder.path}/options; exec "$REAL" "$@"'
    folder = fake_program(job_folder.path / "bin", "pg_restore", postgres.bin_dir / "pg_restore", body)
    engine = engine_of(pg_database, program_dirs=(folder,))

    report, findings = drill(engine, job_folder, take(engine, job_folder))

    assert ([], ()) == (findings, report.errors)
    assert "-c lc_monetary=C.UTF-8" in (job_folder.path / "options").read_text()


class TestReport:
    """What the programs' own failures become."""

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ('echo "pg_restore: error: it broke" >&2; exit 2', ProgramError),
            ("kill -9 $$", ProgramError),
            ("exit 1", ProgramError),
            ('echo "pg_restore: error: connection to server at x failed: FATAL" >&2; exit 1', ServerUnreachableError),
            ('echo "pg_restore: error: could not write to file: No space left on device" >&2; exit 1', NoSpaceError),
        ],
    )
    def test_program_that_fails__is_an_error(
        self, postgres: Cluster, filled: dict[str, Any], job_folder: Folder, body: str, expected: type[Exception]
    ) -> None:
        """A program that ends otherwise than with a report about the archive proves nothing about it."""
        dumped = take(engine_of(filled), job_folder)
        folder = fake_program(job_folder.path / "bin", "pg_restore", postgres.bin_dir / "pg_restore", body)
        engine = engine_of(filled, program_dirs=(folder,))

        with pytest.raises(expected):
            drill(engine, job_folder, dumped)

    def test_setting_of_a_newer_version__is_a_note(
        self, postgres: Cluster, filled: dict[str, Any], job_folder: Folder
    ) -> None:
        """A newer pg_restore sets what an older server does not know; the figures are the better judge."""
        what = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'
        said = f"pg_restore: error: could not execute query: {what}"
        dumped = take(engine_of(filled), job_folder)
        body = f"\"$REAL\" \"$@\" || exit 5; echo '{said}' >&2; echo 'Command was: SET' >&2; exit 1"
        folder = fake_program(job_folder.path / "bin", "pg_restore", postgres.bin_dir / "pg_restore", body)
        engine = engine_of(filled, program_dirs=(folder,))

        report, findings = drill(engine, job_folder, dumped)

        assert ([], ()) == (findings, report.errors)
        assert (said,) == report.notes


class TestList:
    """A look at an archive."""

    def test_head_of_an_archive__is_enough_and_no_server_is_needed(
        self, filled: dict[str, Any], job_folder: Folder
    ) -> None:
        """The table of contents stands in front; where the backup is read, its server may be gone."""
        dumped = take(engine_of(filled), job_folder)
        cut = dumped.path.read_bytes()[:60_000]
        dumped.path.write_bytes(cut)
        engine = engine_of({**filled, "PORT": "1"})

        engine.list_archive(dumped.path, "custom")

        assert 60_000 == len(cut)

    @pytest.mark.parametrize("format_name", ["custom", "plain"])
    def test_archive_of_the_other_format__is_refused(
        self, filled: dict[str, Any], job_folder: Folder, format_name: str
    ) -> None:
        """What is said to be one and is the other is corrupt."""
        other = {"custom": "plain", "plain": "custom"}[format_name]
        dumped = take(engine_of(filled), job_folder, DumpRequest(format=other))

        with pytest.raises(CorruptError):
            engine_of(filled).list_archive(dumped.path, format_name)


def test_archive_of_a_newer_pg_dump__is_given_to_a_newer_pg_restore(
    postgres: Cluster, filled: dict[str, Any], job_folder: Folder
) -> None:
    """An older pg_restore refuses the archives of a newer pg_dump, so the maker's version counts, too."""
    dumped = take(engine_of(filled), job_folder)
    manifest = replace(dumped.manifest, tools={"pg_dump": "30.1"})
    folder = job_folder.path / "bin"
    folder.mkdir()
    marker = job_folder.path / "used"
    script = folder / "pg_restore"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_restore (PostgreSQL) 30.2" && exit\n'
        f'touch {marker}\nexec {postgres.bin_dir}/pg_restore "$@"\n'
    )
    script.chmod(0o755)
    engine = engine_of(filled, program_dirs=(folder,))

    report, findings = drill(engine, job_folder, replace(dumped, manifest=manifest))

    assert ([], ()) == (findings, report.errors)
    assert marker.exists()
