"""Archives made to hurt whoever imports, verifies or restores them: no code of theirs runs, nothing is written outside.

Each one would create the file ``canary`` if anything of it ran at this machine or at the server.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from erp_backup.core.errors import BackupError, NoSpaceError, RefusedError, VersionError
from erp_backup.core.figures import Figures, SchemaObject
from erp_backup.core.manifest import DatabaseFacts, Manifest, Origin
from erp_backup.core.workspace import Folder, Workspace
from erp_backup.engines.base import ForeignRules, LoadReport
from erp_backup.engines.postgresql.plainsql import safe_sql
from erp_backup.engines.postgresql.programs import restricted_psql_arguments
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.foreign import reasons_against_switch
from erp_backup.services.importing.run import ImportRequest, import_archives
from tests.support.environments import environment_in
from tests.support.host import Host
from tests.support.pg_engine import connect, engine_of, run
from tests.support.postgres import Cluster, temporary_database
from tests.support.samples import sample_manifest
from tests.support.sqlite import create
from tests.support.sqlite import engine_of as sqlite_engine

MEGABYTE = 1 << 20
HEAD = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE TABLE public.item (
    id integer NOT NULL
);

COPY public.item (id) FROM stdin;
1
\\.

"""
END = "\n--\n-- PostgreSQL database dump complete\n--\n"


def imported(host: Host, file: Path) -> str:
    """Import a file and return the backup's name; without tables, the history could not be written."""
    [result] = host.manage("importbackup", str(file), "--json", check=False).json()["imports"]
    assert "imported" == result["outcome"], result
    return str(result["id"])


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """The file that nobody creates, in a folder that everybody, the server too, could create it in."""
    folder = (
        Path(tempfile.gettempdir()) / f"canary-{secrets.token_hex(8)}"
    )  # below tmp_path the server's account has no way in
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder / "canary"
    ran = sorted(path.name for path in folder.iterdir())
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    assert [] == ran


@pytest.fixture
def creator(postgres: Cluster) -> Iterator[str]:
    """An ordinary role that may create roles, as a quarantine needs; no role of a quarantine is left."""
    name = f"creator_{secrets.token_hex(4)}"
    postgres.create_role(name, secrets.token_urlsafe(12))
    with postgres.connect() as connection:
        connection.execute(f"ALTER ROLE {name} CREATEROLE")
    yield name
    with postgres.connect() as connection:
        left = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'erp_backup_quarantine%'").fetchall()
    postgres.drop_role(name)

    assert [] == left


@pytest.fixture
def entry(postgres: Cluster, creator: str) -> Iterator[dict[str, Any]]:
    """An empty database whose user may create roles."""
    postgres.start()
    with temporary_database(postgres, owner=creator) as entry:
        yield entry


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A job's folder."""
    with Workspace(tmp_path / "state").folder("test") as folder:
        yield folder


def foreign(path: Path, format_name: str) -> Manifest:
    """The manifest that an imported archive of PostgreSQL has."""
    return sample_manifest(
        database=DatabaseFacts(alias="default", engine="postgresql", name="erp", major=15),
        format=format_name,
        figures=Figures(),
        tools={"pg_dump": "15.18"},
        origin=Origin(name=path.name, size=path.stat().st_size, sha256="00" * 32),
    )


def load(entry: dict[str, Any], folder: Folder, path: Path, format_name: str, *, quarantine: bool) -> LoadReport:
    """Restore an archive as a drill does, with whatever client there is."""
    engine = engine_of(entry, foreign=ForeignRules(quarantine=quarantine, allow_old_client=True))
    manifest = foreign(path, format_name)
    with engine.scratch(manifest.database, folder) as scratch:
        return scratch.load(path, manifest)


class TestCommandsOfPsql:
    """psql's own language in SQL: found before psql sees anything of it."""

    @pytest.mark.parametrize(
        ("evil", "line"),
        [
            ("\\! touch CANARY", 16),
            ("\\restrict abc\n\\unrestrict abc\n\\! touch CANARY", 16),
            ("\\unrestrict x\n\\! touch CANARY", 16),
            ("SELECT 1 \\! touch CANARY", 16),
            ("SELECT 'it''s' \\g |touch CANARY", 16),
            ("SELECT e'\\\\' \\g |touch CANARY", 16),
            ("/* /* */ ' */ \\copy public.item to program 'touch CANARY'", 16),
            ("COPY public.item (id) FROM stdin WITH (FORMAT csv);\n2\n\\.\n\\o |touch CANARY", 19),
            ("COPY public.item FROM stdin; \\! touch CANARY", 16),
            ("COPY (SELECT 1 AS stdin) TO stdout;\n\\! touch CANARY\n\\.", 17),
            ("DO $a$ BEGIN PERFORM 1; END $a$;\\i CANARY", 16),
            ("SELECT a$b$ FROM x; \\! touch CANARY $b$", 16),
            ("SET standard_conforming_strings = off;\nSELECT '\\'; \\! touch CANARY", 16),
            ("SET client_encoding TO 'SJIS';", 16),
            ("GRANT ALL ON x TO y; \\! touch CANARY", 16),
        ],
    )
    def test_anywhere__refused_with_the_line(self, tmp_path: Path, evil: str, line: int) -> None:
        """The message says in which line it stands, and repeats nothing of it."""
        path = tmp_path / "evil.sql"
        path.write_text(HEAD + evil + END)

        with pytest.raises(RefusedError, match=f"Line {line} of the SQL is refused") as caught:
            list(safe_sql(path))
        assert "CANARY" not in str(caught.value)

    def test_psql_alone__runs_none_either(self, entry: dict[str, Any], canary: Path, postgres: Cluster) -> None:
        """Even if we had read the SQL otherwise than psql does, its restricted mode is on, and nobody knows its key."""
        sql = f"\\restrict {secrets.token_hex(24)}\n\\unrestrict x\n\\! touch {canary}\nSELECT 1;\n"
        command = [str(postgres.bin_dir / "psql"), *restricted_psql_arguments(connection="")]
        environment = {"PGHOST": entry["HOST"], "PGPORT": entry["PORT"], "PGUSER": entry["USER"]}
        environment |= {"PGPASSWORD": entry["PASSWORD"], "PGDATABASE": entry["NAME"], "PATH": os.environ["PATH"]}

        done = subprocess.run(command, input=sql, capture_output=True, text=True, env=environment, check=False)

        assert 3 == done.returncode, done.stderr


class TestStatements:
    """What is SQL goes to the server, by a role that may do nothing of the kind."""

    @pytest.mark.parametrize(
        "statement",
        [
            "COPY public.item FROM PROGRAM 'touch CANARY; echo 2';",
            "COPY public.item TO PROGRAM 'touch CANARY';",
            "COPY public.item TO 'CANARY';",
            "COPY public.item (id) FROM '/etc/hostname';",
            "CREATE EXTENSION file_fdw;",
            "CREATE EXTENSION dblink;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'system';",
            "DO LANGUAGE plpython3u $$ open('CANARY', 'w') $$;",
            "CREATE ROLE evil SUPERUSER;",
            "ALTER ROLE CREATOR PASSWORD 'stolen';",
            "SELECT pg_read_file('/etc/passwd');",
            "SELECT lo_export(lo_from_bytea(0, 'x'), 'CANARY');",
            "SET ROLE CREATOR;",
        ],
    )
    def test_quarantine__fails_for_want_of_rights(
        self, entry: dict[str, Any], folder: Folder, canary: Path, creator: str, statement: str
    ) -> None:
        """The load ends there, and says so."""
        path = folder.path / "evil.sql"
        path.write_text(HEAD + statement.replace("CANARY", str(canary)).replace("CREATOR", creator) + END)

        report = load(entry, folder, path, "plain", quarantine=True)

        assert 1 == len(report.errors)
        assert "ERROR" in report.errors[0]


class TestCustomArchives:
    """Archives of pg_dump -Fc."""

    @pytest.fixture
    def evil(self, tmp_path: Path, postgres: Cluster, canary: Path) -> Path:
        """One with a CHECK that calls a function that starts a program, made by a superuser."""
        with temporary_database(postgres, owner=postgres.superuser) as entry:
            function = (
                "CREATE OR REPLACE FUNCTION act() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {} RETURN true; END $$"
            )
            run(
                entry,
                function.format(""),
                "CREATE TABLE item (id int CHECK (public.act()))",
                "INSERT INTO item VALUES (1)",
                function.format(f"COPY (SELECT 1) TO PROGRAM 'touch {canary}';"),
            )
            path = tmp_path / "evil.dump"
            environment = {"PGPASSWORD": entry["PASSWORD"], "PATH": os.environ["PATH"]}
            server = ["-h", entry["HOST"], "-p", entry["PORT"], "-U", entry["USER"], "-d", entry["NAME"]]
            program = [str(postgres.bin_dir / "pg_dump"), *server, "-Fc", "-f", str(path)]
            subprocess.run(program, check=True, env=environment)
        return path

    @pytest.mark.parametrize("quarantine", [False, True])
    def test_check_that_runs_a_program__refused_by_the_server(
        self, pg_database: dict[str, Any], entry: dict[str, Any], folder: Folder, evil: Path, *, quarantine: bool
    ) -> None:
        """An ordinary owner, and the role of a quarantine, may not do it: the row is not loaded, the report says so."""
        report = load(entry if quarantine else pg_database, folder, evil, "custom", quarantine=quarantine)

        assert any("external program" in text for text in report.errors)

    def test_superuser__refused_before_anything_is_restored(
        self, postgres: Cluster, folder: Folder, evil: Path
    ) -> None:
        """A role with rights is not lent to an archive that was not made here."""
        with (
            temporary_database(postgres, owner=postgres.superuser) as entry,
            pytest.raises(RefusedError, match="he is a superuser"),
        ):
            load(entry, folder, evil, "custom", quarantine=False)

    def test_superuser_in_quarantine__refused_by_the_server(
        self, postgres: Cluster, folder: Folder, evil: Path
    ) -> None:
        """With the quarantine's role it is as with any other user."""
        with temporary_database(postgres, owner=postgres.superuser) as entry:
            report = load(entry, folder, evil, "custom", quarantine=True)

        assert any("external program" in text for text in report.errors)

    def test_old_client__not_given_to_it(self, pg_database: dict[str, Any], folder: Folder, evil: Path) -> None:
        """A client with known faults is refused by its version, the message names the way around."""
        engine = engine_of(pg_database, program_dirs=(old_programs(folder.path / "bin"),))
        manifest = foreign(evil, "custom")
        with (
            engine.scratch(manifest.database, folder) as scratch,
            pytest.raises(VersionError, match=r"CVE-2026-116314.*--allow-old-client"),
        ):
            scratch.load(evil, manifest)

    def test_sql_without_quarantine__refused(self, pg_database: dict[str, Any], folder: Folder) -> None:
        """SQL is loaded in no other way, and a quarantine is not made by who may not."""
        path = folder.path / "good.sql"
        path.write_text(HEAD + END)

        with pytest.raises(RefusedError, match="Ask for --quarantine"):
            load(pg_database, folder, path, "plain", quarantine=False)
        with pytest.raises(RefusedError, match="CREATEROLE"):
            load(pg_database, folder, path, "plain", quarantine=True)


class TestQuarantineRole:
    """The role that is made for one scratch database."""

    def test_run_that_died__its_role_goes_with_the_next(self, postgres: Cluster, entry: dict[str, Any]) -> None:
        """A role whose database is gone is dropped; one whose database is there, or whose name is not ours, stays."""
        hexadecimal = secrets.token_hex(8)
        ours, kept = f"erp_backup_quarantine_{hexadecimal}", f"erp_backup_quarantine_{hexadecimal[::-1]}"
        other = f"erp_backup_quarantine_of_mine_{hexadecimal}"
        run(entry, *(f"CREATE ROLE {name}" for name in (ours, kept, other)))
        with postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE erp_backup_scratch_{hexadecimal[::-1]}")

        engine_of(entry).remove_orphans()

        with postgres.connect() as connection:
            rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [[ours, kept, other]])
            left = {name for (name,) in rows.fetchall()}
            connection.execute(f"DROP DATABASE erp_backup_scratch_{hexadecimal[::-1]}")
            connection.execute(f"DROP ROLE {kept}, {other}")
        assert {kept, other} == left

    def test_kept_copy__opened_by_the_user_who_asked(
        self, postgres: Cluster, entry: dict[str, Any], folder: Folder
    ) -> None:
        """People look into it with their own user, who is a member of the role; nobody knows the role's password."""
        path = folder.path / "good.sql"
        path.write_text(HEAD + END)
        engine = engine_of(entry, foreign=ForeignRules(quarantine=True, allow_old_client=True))
        manifest = foreign(path, "plain")

        with engine.scratch(manifest.database, folder) as scratch:
            report = scratch.load(path, manifest)
            shown = scratch.how_to_look()
            with contextlib.closing(connect(entry, scratch.name)) as connection:
                rows = connection.execute("SELECT id FROM public.item").fetchall()

        assert () == report.errors
        assert [(1,)] == rows
        assert f"-U {entry['USER']}" in shown


@pytest.mark.parametrize(
    ("format_name", "kind", "expected"),
    [("plain", "table", 1), ("custom", "table", 0), ("custom", "trigger", 1), ("sqlite3", "view", 1)],
)
def test_switch__not_for_sql_nor_for_what_acts_by_itself(
    tmp_path: Path, format_name: str, kind: str, expected: int
) -> None:
    """Whoever wants such an archive live has to look at it in a database of its own first."""
    (tmp_path / "x").touch()
    found = Figures(objects=(SchemaObject(kind=kind, name="public.x", digest=""),))
    imported_archive = foreign(tmp_path / "x", format_name)

    assert expected == len(reasons_against_switch(imported_archive, found))
    assert [] == reasons_against_switch(replace(imported_archive, origin=None), found)


def old_programs(directory: Path) -> Path:
    """Return a folder with a pg_restore that says it is of an old version, and does nothing."""
    directory.mkdir()
    program = directory / "pg_restore"
    program.write_text("#!/bin/sh\necho 'pg_restore (PostgreSQL) 15.3'\n")
    program.chmod(0o755)
    return directory


EVIL_TABLES = """
    CREATE TABLE users (id integer PRIMARY KEY, is_superuser bool);
    INSERT INTO users VALUES (1, 0);
    CREATE TRIGGER promote AFTER INSERT ON users BEGIN UPDATE users SET is_superuser = 1; END;
    CREATE VIEW items AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS id FROM n;
"""


class TestSQLite:
    """Files and SQL of SQLite."""

    def test_triggers_and_views__listed_and_never_run(self, host: Host, tmp_path: Path) -> None:
        """A view that never ends stands where the ERP has a table: it is named, and nobody asks it."""
        evil = create(tmp_path / "evil.db", EVIL_TABLES)
        name = imported(host, evil)

        result = host.manage("verifybackup", name, check=False, timeout=60)

        assert 3 == result.returncode, str(result)
        assert "trigger promote" in result.stdout
        assert "view items: expected a table, found a view" in " ".join(result.stdout.split())
        assert "Model check" not in result.stdout
        assert "users" in result.stdout

    def test_dump_whose_trigger_would_fire__refused_statement(self, host: Host, tmp_path: Path) -> None:
        """A dump makes its triggers last; in another order they would run while it is loaded."""
        evil = tmp_path / "evil.sql"
        script = [line.strip() for line in EVIL_TABLES.strip().splitlines()]
        evil.write_text("\n".join(["BEGIN;", *script, "INSERT INTO users VALUES (2, 0);", "COMMIT;", ""]))
        name = imported(host, evil)

        result = host.manage("verifybackup", name, check=False, timeout=60)

        assert 6 == result.returncode, str(result)
        assert "the trigger promote would fire" in result.stdout
        assert "restore error. Statement 6" in result.stdout

    @pytest.mark.parametrize(
        "statement",
        [
            "ATTACH 'CANARY' AS x;",
            "VACUUM INTO 'CANARY';",
            "SELECT load_extension('CANARY');",
            "INSERT INTO users SELECT * FROM items;",
            "INSERT INTO users WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, 0 FROM n;",
            "INSERT INTO users VALUES (3, zeroblob(900000000));",
        ],
    )
    def test_statements_that_reach_out_or_never_end__refused(
        self, folder: Folder, canary: Path, statement: str
    ) -> None:
        """Each is an error of the load, or of room; nothing is written beside the copy."""
        path = folder.path / "evil.sql"
        script = EVIL_TABLES.replace("CREATE TRIGGER", "-- ")
        path.write_text(f"BEGIN;\n{script}\n{statement.replace('CANARY', str(canary))}\nCOMMIT;\n")
        facts = DatabaseFacts(alias="default", engine="sqlite", name="evil")
        manifest = replace(foreign(path, "sql"), database=facts)
        said: list[str] = []

        with sqlite_engine(folder.path / "live.db").scratch(facts, folder) as scratch:
            try:
                said += scratch.load(path, manifest).errors
            except NoSpaceError as error:
                said.append(str(error))

        assert said


@pytest.mark.django_db
class TestFiles:
    """What is named, and what it unpacks to."""

    @pytest.fixture
    def environment(self, tmp_path: Path) -> Environment:
        """One location, empty."""
        return environment_in(tmp_path / "own")

    def refused(self, environment: Environment, path: Path) -> BackupError:
        """Import, be refused in words, and see that nothing was stored."""
        [result] = import_archives(environment, ImportRequest(path=path))

        assert result.error is not None
        assert [] == environment.locations[0].names()
        assert [] == environment.workspace.orphans()
        return result.error

    @pytest.mark.parametrize("kind", ["gzip", "zstd", "zstd in zstd"])
    def test_bombs__refused_at_the_cap(self, environment: Environment, tmp_path: Path, kind: str) -> None:
        """A gigabyte of zeros behind a dump's first line, small on disk: refused before it is unpacked."""
        zeros = bytes(MEGABYTE)
        if kind == "gzip":
            pieces = zlib.compressobj(1, zlib.DEFLATED, 31)
        else:
            pieces = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        bomb = pieces.compress(HEAD.encode()) + b"".join(pieces.compress(zeros) for _ in range(1024)) + pieces.flush()
        if kind == "zstd in zstd":
            bomb = zstandard.ZstdCompressor(write_checksum=True).compress(bomb)
        path = tmp_path / "bomb"
        path.write_bytes(bomb)

        error = self.refused(environment, path)

        assert ("packed several times over" if kind == "zstd in zstd" else "unpacks to more than") in str(error)

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("a\nb.sql", "a?b.sql"),
            ("\x1b[2Jb.sql", "?[2Jb.sql"),
            ("-rf", "-rf"),
            ("..;touch x.sql", "..;touch x.sql"),
        ],
    )
    def test_odd_names__stored_under_ours(
        self, environment: Environment, tmp_path: Path, name: str, shown: str
    ) -> None:
        """What it was called is kept as text that can be shown, and decides nothing."""
        create(tmp_path / name, EVIL_TABLES)

        [result] = import_archives(environment, ImportRequest(path=tmp_path / name))

        assert result.manifest is not None
        archive = result.manifest.archive.name
        assert shown == result.source
        assert [archive, f"{archive}.manifest.json"] == environment.locations[0].names()
        assert re.fullmatch(r"test_imported_\d{8}_\d{6}_[a-z0-9]{6}\.sqlite3\.zst", archive)

    def test_location_with_odd_files__only_archives_are_taken(self, environment: Environment, tmp_path: Path) -> None:
        """Links, pipes and names that no backup has are refused one by one; what is good is imported, once."""
        folder = tmp_path / "old"
        folder.mkdir()
        good = create(folder / "default-2026-01-05-120000.sqlite3", "CREATE TABLE a (b); INSERT INTO a VALUES (1);")
        (folder / "link.sqlite3").symlink_to(good)
        (folder / "a\nb.sql").write_text("x")
        (folder / "media.tar").write_bytes(tarball())
        os.mkfifo(folder / "pipe.sql")
        request = ImportRequest(source=folder_location(folder))

        first, again = (
            {
                result.source: "refused" if result.error else "imported" if result.manifest else "skipped"
                for result in import_archives(environment, request)
            }
            for _ in range(2)
        )

        refused = {"link.sqlite3": "refused", "a?b.sql": "refused", "media.tar": "refused"}
        assert {good.name: "imported", **refused} == first
        assert {good.name: "skipped", **refused} == again

    @pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder", "directory format", "nothing", "empty"])
    def test_no_regular_file__refused(self, environment: Environment, tmp_path: Path, kind: str) -> None:
        """Nothing is followed, waited for, or read without end."""
        path = tmp_path / "brought"
        if kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path = Path("/dev/zero")
        elif kind == "empty":
            path.touch()
        elif kind != "nothing":
            path.mkdir()
            (path / ("toc.dat" if kind == "directory format" else "other")).touch()

        self.refused(environment, path)


def tarball() -> bytes:
    """Return a tar archive as mediabackup makes them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("media/../../x"), io.BytesIO())
    return raw.getvalue()
