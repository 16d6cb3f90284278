"""Connections: errors in words, secrets that stay secret, rights that are missing, limits that do not bite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from erp_backup.core.errors import (
    BackupError,
    DatabaseError,
    LockedError,
    NoSpaceError,
    RefusedError,
    ServerUnreachableError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql import connecting
from tests.support.pg_engine import connect, drill, engine_of, round_trip, run, take
from tests.support.postgres import Cluster, free_port
from tests.support.programs import fake_program

# Everything that a shell, a passfile, a connection string or a URI would take for something else.
PASSWORD = r"""p:a\ss w'o"r=d;%s${HOME}#&*`ß数 \: """
TELL = 'tr "\\0" "\\n" < /proc/$$/cmdline > {folder}/{name}.argv; env > {folder}/{name}.env; exec "$REAL" "$@"'


@pytest.fixture
def secretive(postgres: Cluster, pg_database: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A database of a role whose password has every odd character."""
    postgres.create_role("secretive", PASSWORD)
    with postgres.connect(pg_database["NAME"]) as admin:
        admin.execute("CREATE TABLE item (a int)")
        admin.execute(f"ALTER DATABASE {pg_database['NAME']} OWNER TO secretive; ALTER TABLE item OWNER TO secretive")
    yield postgres.entry(pg_database["NAME"], user="secretive")
    with postgres.connect(pg_database["NAME"]) as admin:
        admin.execute("REASSIGN OWNED BY secretive TO erp_owner")
    postgres.drop_role("secretive")


class TestSecrets:
    """A password goes to the server, and nowhere else."""

    @pytest.mark.parametrize("format_name", ["custom", "plain"])
    def test_odd_password__reaches_the_server_and_nobody_else(
        self, secretive: dict[str, Any], postgres: Cluster, job_folder: Folder, format_name: str
    ) -> None:
        """Dump and restore work with it; it is in no argument, no environment, no representation."""
        names = ("pg_dump", "pg_restore" if format_name == "custom" else "psql")
        folder = job_folder.path / "bin"
        for name in names:
            body = TELL.format(folder=job_folder.path, name=name)
            fake_program(folder, name, postgres.bin_dir / name, body)
        engine = engine_of(secretive, program_dirs=(folder,))
        shown = [repr(engine.database), repr(engine)]
        dumped = take(engine, job_folder, DumpRequest(format=format_name))
        report, findings = drill(engine, job_folder, dumped, lambda scratch: shown.append(repr(scratch)))
        with engine.snapshot(DumpRequest(), job_folder) as snapshot:
            shown += [repr(snapshot), repr(snapshot.process_settings())]
        seen = [(job_folder.path / f"{name}.{kind}").read_text() for name in names for kind in ("argv", "env")]

        assert ([], ()) == (findings, report.errors)
        assert not [text for text in [*seen, *shown] if PASSWORD.strip() in text or "w'o" in text]
        assert "keepalives_idle=" in seen[0]
        assert 0o600 == (job_folder.path / "passfile").stat().st_mode & 0o777

    def test_password_of_the_environment__goes_to_the_passfile(
        self, secretive: dict[str, Any], monkeypatch: pytest.MonkeyPatch, job_folder: Folder
    ) -> None:
        """Settings without a password work with PGPASSWORD, which the programs do not inherit."""
        monkeypatch.setenv("PGPASSWORD", PASSWORD)

        assert [] == round_trip(engine_of({**secretive, "PASSWORD": ""}), job_folder)

    def test_secret_without_a_safe_way__is_refused(self, filled: dict[str, Any], job_folder: Folder) -> None:
        """What libpq takes from nowhere but the command line would be read by everybody."""
        engine = engine_of({**filled, "OPTIONS": {"sslpassword": "open sesame"}})

        with engine.snapshot(DumpRequest(), job_folder) as snapshot, pytest.raises(RefusedError) as caught:
            snapshot.dump()

        assert "sslpassword" in str(caught.value)
        assert "sesame" not in str(caught.value)

    def test_password_with_a_line_break__is_refused(self, tmp_path: Path) -> None:
        """A passfile has no way to write it."""
        with pytest.raises(RefusedError, match="line break"):
            connecting.write_passfile({"password": "a\nb"}, tmp_path / "passfile")


class TestWords:
    """What went wrong, with which database, and what to do."""

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"PASSWORD": "wrong guess"}, "password authentication failed"),
            ({"NAME": "no such db"}, "does not exist"),
            ({"PORT": "1"}, "refused"),
            ({"HOST": "nowhere.invalid"}, "nowhere.invalid"),
        ],
    )
    def test_server_out_of_reach__is_said_everywhere(
        self, filled: dict[str, Any], job_folder: Folder, changes: dict[str, str], said: str
    ) -> None:
        """Facts, snapshot and preflight say the same, with the settings to look at and without the password."""
        engine = engine_of({**filled, **changes})
        with pytest.raises(ServerUnreachableError) as facts:
            engine.facts()
        with pytest.raises(ServerUnreachableError), engine.snapshot(DumpRequest(), job_folder):
            pass
        (problem,) = engine.preflight(DumpRequest())

        text = str(facts.value)
        assert said in text
        assert "PORT, NAME, USER and PASSWORD" in text
        assert "wrong guess" not in text
        assert filled["PASSWORD"] not in text
        assert (ServerUnreachableError, Severity.FAILED) == (problem.error, problem.severity)

    def test_nobody_listens__scratch_and_lock_say_it(
        self, filled: dict[str, Any], job_folder: Folder, tmp_path: Path
    ) -> None:
        """What needs the maintenance database tells of the server, too."""
        reached = engine_of(filled)
        engine = engine_of({**filled, "PORT": str(free_port())})

        for attempt in (engine.scratch(reached.facts(), job_folder), engine.lock("us", tmp_path)):
            with pytest.raises(ServerUnreachableError), attempt:
                pass
        with pytest.raises(ServerUnreachableError):
            engine.remove_orphans()

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (psycopg.errors.LockNotAvailable("x"), LockedError),
            (psycopg.errors.DeadlockDetected("x"), LockedError),
            (psycopg.errors.DiskFull("x"), NoSpaceError),
            (psycopg.errors.InsufficientPrivilege("x"), RefusedError),
            (psycopg.errors.AdminShutdown("x"), ServerUnreachableError),
            (psycopg.errors.CannotConnectNow("x"), ServerUnreachableError),
            (psycopg.errors.TooManyConnections("x"), ServerUnreachableError),
            (psycopg.errors.InvalidPassword("x"), ServerUnreachableError),
            (psycopg.OperationalError("server closed the connection unexpectedly"), ServerUnreachableError),
            (psycopg.errors.QueryCanceled("canceling statement due to user request"), DatabaseError),
            (psycopg.errors.UndefinedTable("x"), DatabaseError),
            (psycopg.errors.OutOfMemory("out of shared memory"), DatabaseError),
            (psycopg.ProgrammingError("x"), DatabaseError),
        ],
    )
    def test_each_error__has_its_class(self, error: psycopg.Error, expected: type[BackupError]) -> None:
        """Exit codes tell a lock from a lost server from a full disk."""
        found = connecting.in_words(error, "erp")

        assert expected is type(found)
        assert "'erp'" in found.message or expected is NoSpaceError
        assert ("max_locks_per_transaction" in found.remedy) == ("shared memory" in str(error))


class TestRights:
    """A user who does not see everything must not make backups that lack it."""

    @pytest.fixture
    def restricted(self, postgres: Cluster, pg_database: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A database whose tables a second role may read, but for what a test takes away."""
        run(pg_database, "CREATE TABLE item (a int)", "CREATE TABLE secret (a int)", "CREATE SCHEMA hidden")
        run(pg_database, "CREATE TABLE hidden.more (a serial)", "INSERT INTO item VALUES (1), (2)")
        postgres.create_role("reader", "secret")
        for schema in ("public", "hidden"):
            run(
                pg_database,
                f"GRANT USAGE ON SCHEMA {schema} TO reader",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader",
                f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO reader",
            )
        yield postgres.entry(pg_database["NAME"], user="reader")
        with postgres.connect(pg_database["NAME"]) as admin:
            admin.execute("DROP OWNED BY reader")
        postgres.drop_role("reader")

    def test_everything_granted__can_be_backed_up(self, restricted: dict[str, Any], job_folder: Folder) -> None:
        """A reader of all tables is enough for a backup and its drill."""
        engine = engine_of(restricted)

        assert [] == engine.preflight(DumpRequest())
        assert [] == round_trip(engine, job_folder)

    @pytest.mark.parametrize(
        ("taken", "names"),
        [
            ("REVOKE SELECT ON secret FROM reader", "public.secret"),
            ("REVOKE USAGE ON SCHEMA hidden FROM reader", "hidden.more, hidden.more_a_seq"),
            ("REVOKE SELECT ON SEQUENCE hidden.more_a_seq FROM reader", "hidden.more_a_seq"),
        ],
    )
    def test_missing_right__is_found_before_and_refused_anyway(
        self, restricted: dict[str, Any], pg_database: dict[str, Any], job_folder: Folder, taken: str, names: str
    ) -> None:
        """Preflight names what cannot be read; without it the snapshot itself ends with the same class of error."""
        run(pg_database, taken)
        engine = engine_of(restricted)
        (problem,) = engine.preflight(DumpRequest())

        with pytest.raises(RefusedError), engine.snapshot(DumpRequest(), job_folder):
            pass

        assert f"may not read {names}." in problem.message
        assert "Grant it" in problem.remedy

    def test_table_outside_the_schemas_asked_for__does_not_matter(
        self, restricted: dict[str, Any], pg_database: dict[str, Any], job_folder: Folder
    ) -> None:
        """What is not dumped need not be readable."""
        run(pg_database, "REVOKE SELECT ON secret FROM reader")
        engine = engine_of(restricted)

        assert [] == engine.preflight(DumpRequest(schemas=("hidden",)))
        assert [] == round_trip(engine, job_folder, DumpRequest(schemas=("hidden",)))

    @pytest.mark.parametrize("forced", [False, True])
    def test_rows_that_security_hides__are_never_just_missing(
        self, restricted: dict[str, Any], pg_database: dict[str, Any], job_folder: Folder, *, forced: bool
    ) -> None:
        """Row-level security would hide rows from dump and figures alike: found before, refused anyway."""
        run(
            pg_database,
            "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own_rows ON item USING (a = 1)",
            *(["ALTER TABLE item FORCE ROW LEVEL SECURITY"] if forced else []),
        )
        engine = engine_of(pg_database if forced else restricted)
        (problem,) = engine.preflight(DumpRequest())

        with engine.snapshot(DumpRequest(), job_folder) as snapshot:
            with pytest.raises(RefusedError, match="row-level security"):
                snapshot.figures()
            with pytest.raises(BackupError):
                b"".join(snapshot.dump())

        assert "hides rows of public.item" in problem.message
        assert "BYPASSRLS" in problem.remedy

    def test_assumed_role__is_assumed_by_sessions_and_programs(
        self, restricted: dict[str, Any], pg_database: dict[str, Any], postgres: Cluster, job_folder: Folder
    ) -> None:
        """Django's option `assume_role` gives the rights of another role; pg_dump and pg_restore get them, too."""
        run(pg_database, "REVOKE SELECT ON secret FROM reader")
        with postgres.connect() as admin:
            admin.execute("ALTER ROLE reader NOINHERIT; GRANT erp_owner TO reader")
        as_owner = {**restricted, "OPTIONS": {"assume_role": "erp_owner", "options": "-c work_mem=8MB"}}
        engine = engine_of(as_owner)
        with connect(as_owner) as session:
            work_mem = session.execute("SELECT current_user, current_setting('work_mem')").fetchone()

        assert ("erp_owner", "8MB") == work_mem
        assert [] == engine.preflight(DumpRequest())
        assert [] == round_trip(engine, job_folder)


class TestParameters:
    """What libpq is told."""

    def test_network__is_watched_unless_the_settings_say_otherwise(self, filled: dict[str, Any]) -> None:
        """A dead line is noticed: by sessions and programs alike, and the settings have the last word."""
        given = {**filled, "OPTIONS": {"keepalives_idle": 7, "pool": True, "isolation_level": 2}}
        values = connecting.parameters(given)
        environment, rest = connecting.program_environment(values, {}, Path("/x"))
        with connecting.session(given) as session:
            used = session.info.get_parameters()

        assert "7" == used["keepalives_idle"]
        assert connecting.NETWORK["tcp_user_timeout"] == used["tcp_user_timeout"]
        assert "keepalives_idle='7'" in rest
        assert filled["NAME"] == environment["PGDATABASE"]
        assert "PGPASSWORD" not in environment
        assert not {"pool", "isolation_level"} & values.keys()

    def test_odd_value__is_quoted(self) -> None:
        """Values without a variable stand in a connection string, where blanks and quotes have a meaning."""
        values = {"fallback_application_name": r"o'dd \ na=me", "dbname": "a=b c"}

        environment, rest = connecting.program_environment(values, {}, Path("/x"))

        assert r"fallback_application_name='o\'dd \\ na=me'" == rest
        assert "a=b c" == environment["PGDATABASE"]
        assert {"fallback_application_name": r"o'dd \ na=me"} == psycopg.conninfo.conninfo_to_dict(rest)

    def test_settings_of_a_session__are_pinned(self, filled: dict[str, Any]) -> None:
        """Whatever a role has set, our sessions write text in one way and have no limits."""
        with connecting.session(filled) as session:
            query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
            found = dict(session.execute(query, [[*connecting.SESSION]]).fetchall())

        assert {name: connecting.SESSION[name] for name in found} == found
        assert len(found) > 15
