"""Archives made elsewhere: recognised by content, stored as they are, and never taken for more than they are."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from erp_backup.core.codecs import decode_with
from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    KeyUnavailableError,
    NoBackupError,
    RefusedError,
    UsageError,
)
from erp_backup.core.figures import Outcome
from erp_backup.engines.postgresql.customformat import read_custom
from erp_backup.models import Backup, BackupStatus
from erp_backup.services import catalog, heads, pruning
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.importing.run import ImportRequest, ImportResult, exit_code, import_archives
from erp_backup.services.verification import VerifyRequest
from erp_backup.services.verify import verify_backups
from tests.services.conftest import MakeEnvironment
from tests.support.pg_engine import run
from tests.support.postgres import Cluster, temporary_database
from tests.support.samples import NOON, store_backup
from tests.support.sqlite import create

TABLES = "CREATE TABLE item (id integer PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'), (2, 'b');"
DUMP = f"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n{TABLES}\nCOMMIT;\n"
PLAIN = "--\n-- PostgreSQL database dump\n--\n\n{}\n-- PostgreSQL database dump complete\n--\n"

pytestmark = pytest.mark.django_db


def bring(environment: Environment, path: Path, **request: Any) -> ImportResult:
    """Import one file."""
    [result] = import_archives(environment, ImportRequest(path=path, **request))
    return result


def good(result: ImportResult) -> ImportResult:
    """Return a result that is expected to be an import."""
    assert result.error is None, result.error
    assert result.manifest is not None
    return result


def refused(environment: Environment, path: Path, **request: Any) -> BackupError:
    """Import one file that cannot be; nothing is stored."""
    result = bring(environment, path, **request)

    assert result.error is not None
    assert [] == environment.locations[0].names()
    assert {BackupStatus.FAILED} >= set(Backup.objects.values_list("status", flat=True))
    return result.error


def content(environment: Environment, result: ImportResult) -> bytes:
    """Return what is stored, decoded."""
    assert result.manifest is not None
    archive = result.manifest.archive
    return b"".join(decode_with(environment.decoders(archive.codecs), environment.locations[0].open(archive.name)))


class TestKinds:
    """What a file is, its content says."""

    @pytest.mark.parametrize("packed", ["", "gzip", "zstd"])
    def test_dump_of_sqlite__sql(self, environment: Environment, tmp_path: Path, packed: str) -> None:
        """The name says something else; what was in the file is stored, packed as ours are."""
        pack = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress}
        path = tmp_path / "photo.jpg"
        path.write_bytes(pack[packed](DUMP.encode()))

        result = good(bring(environment, path))

        assert result.manifest is not None
        assert ("sqlite", "sql", "full", 0) == (
            result.manifest.database.engine,
            result.manifest.format,
            result.manifest.kind,
            result.manifest.number,
        )
        assert result.manifest.origin is not None
        assert ("photo.jpg", path.stat().st_size) == (result.manifest.origin.name, result.manifest.origin.size)
        assert ((packed,) if packed else ()) == result.manifest.origin.codecs
        assert DUMP.encode() == content(environment, result)
        assert {0} == {len(result.manifest.figures.tables), len(result.manifest.measurements)}

    def test_text_of_django_dbbackup__sql(self, environment: Environment, tmp_path: Path) -> None:
        """Its writer begins no transaction and has no last line."""
        path = tmp_path / "default.dump"
        path.write_text('CREATE TABLE IF NOT EXISTS "item" ("id" integer);\nINSERT OR REPLACE INTO "item" VALUES(1);\n')

        assert "SQL of django-dbbackup for SQLite" == good(bring(environment, path)).title

    @pytest.mark.parametrize(
        ("content", "error", "said"),
        [
            (b"", CorruptError, "empty"),
            (b"Dear Sirs,\n", RefusedError, "but text"),
            (bytes(range(256)) * 10, RefusedError, "something else"),
            (b"\xfd7zXZ\0...", RefusedError, "xz"),
            (b"PK\x03\x04..", RefusedError, "zip"),
            (b"-- MySQL dump 10.13\n", RefusedError, "MySQL"),
            (b"--\n-- PostgreSQL database cluster dump\n--\n", RefusedError, "pg_dumpall"),
            (PLAIN.format("").encode()[:-40], CorruptError, "cut off"),
            (DUMP.encode()[:-9], CorruptError, "cut off"),
            (DUMP.replace("COMMIT", "ROLLBACK; -- due to errors").encode(), CorruptError, "given up"),
            (b"SQLite format 3\0" + bytes(50), CorruptError, "within its header"),
            (b"PGDMP\x01\x0e", CorruptError, "cut off"),
            (b"PGDMP\x01\xff\x00\x04\x08\x01", CorruptError, "not known"),
            (gzip.compress(DUMP.encode())[:-5], CorruptError, "cut off"),
            (gzip.compress(b""), CorruptError, "empty"),
            (gzip.compress(b"Dear Sirs"), RefusedError, "text"),
        ],
    )
    def test_anything_else__refused_in_words(
        self, environment: Environment, tmp_path: Path, content: bytes, error: type[BackupError], said: str
    ) -> None:
        """Each with its own reason, naming the file."""
        path = tmp_path / "erp.dump"
        path.write_bytes(content)

        found = refused(environment, path)

        assert error is type(found)
        assert said in str(found)
        assert "erp.dump" in str(found)

    def test_sqlite_file__whole_or_refused(self, environment: Environment, tmp_path: Path) -> None:
        """A copy is taken as it is; one that lacks its end is not, nor one that has more than its header says."""
        path = create(tmp_path / "copy.db", TABLES, journal_mode="wal")
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:4096], whole + b"x"):
            (tmp_path / "cut.db").write_bytes(damaged)
            assert "its header says" in str(refused(environment, tmp_path / "cut.db"))

        assert whole == content(environment, good(bring(environment, path)))

    def test_copy_with_a_wal_beside_it__warned_of(self, environment: Environment, tmp_path: Path) -> None:
        """What cp leaves behind is said."""
        path = create(tmp_path / "copy.db", TABLES)
        (tmp_path / "copy.db-wal").write_bytes(b"x")

        assert any("-wal" in note for note in good(bring(environment, path)).notes)


@pytest.fixture(scope="module")
def archives(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """Archives of a small database: of all of it, of its schema, of its rows, through a pipe."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        run(
            entry,
            "CREATE TABLE item (id serial PRIMARY KEY, name text)",
            "INSERT INTO item (name) SELECT md5(g::text) FROM generate_series(1, 50) g",
            "SELECT lo_from_bytea(0, 'abc')",
        )
        environment = {"PGPASSWORD": entry["PASSWORD"], "PATH": os.environ["PATH"]}
        server = ["-h", entry["HOST"], "-p", entry["PORT"], "-U", entry["USER"], "-d", entry["NAME"], "-Fc"]
        program = [str(postgres.bin_dir / "pg_dump"), *server]
        file = tmp_path_factory.mktemp("custom") / "seekable"
        subprocess.run([*program, "-f", str(file)], check=True, env=environment)
        yield {
            "full": file.read_bytes(),
            "schema": subprocess.check_output([*program, "--schema-only"], env=environment),
            "data": subprocess.check_output([*program, "--data-only"], env=environment),
            "piped": subprocess.check_output([*program, "-Z0"], env=environment),
        }


class TestCustomFormat:
    """pg_dump -Fc, read without pg_restore."""

    @pytest.mark.parametrize("name", ["full", "schema", "data", "piped"])
    def test_head__says_what_it_is_of(self, archives: dict[str, bytes], name: str) -> None:
        """Database, versions, time; and whether schema and rows are in it."""
        facts = read_custom([archives[name]])

        assert facts.database.startswith("erp_")
        assert facts.made_at is not None
        assert facts.server_version.partition(".")[0] == facts.dump_version.partition(".")[0]
        assert (name != "data", name != "schema") == (facts.has_schema, facts.has_data)

    @pytest.mark.parametrize("name", ["full", "piped"])
    def test_cut_anywhere__refused(self, archives: dict[str, bytes], name: str) -> None:
        """pg_restore --list accepts nearly all of these."""
        whole = archives[name]
        for size in [*range(200), *range(200, len(whole), 41), len(whole) - 1]:
            with pytest.raises(CorruptError):
                read_custom([whole[:size]])


class TestNumbersAndChains:
    """An imported archive is no newer state of the database, and has no place in the order of backups."""

    def test_head_and_newest__stay_those_of_backups(self, environment: Environment, tmp_path: Path) -> None:
        """The head does not move, the next backup follows the last one, and nothing takes it for the newest."""
        store_backup(environment, "erp_full_20260105_110000_aaaaaa", number=1, previous_sha256="")
        before = heads.read_heads(environment.config.state_dir)
        good(bring(environment, create(tmp_path / "copy.db", TABLES)))

        found = catalog.group(catalog.read_all(environment))

        assert 2 == len(found)
        assert "erp_full_20260105_110000_aaaaaa" == catalog.newest_by_database(found)["default"].name
        assert before == heads.read_heads(environment.config.state_dir)

    def test_verification_without_a_name__passes_it_over(self, environment: Environment, tmp_path: Path) -> None:
        """There is no backup yet, however much was imported."""
        good(bring(environment, create(tmp_path / "copy.db", TABLES)))

        with pytest.raises(NoBackupError):
            list(verify_backups(environment, VerifyRequest()))

    def test_retention__counts_them_by_themselves(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """Newer imports push out no backup, and are pushed out by none."""
        environment = make_environment(keep_last=1)
        store_backup(environment, "erp_full_20260101_110000_aaaaaa", number=1, taken_at=NOON - timedelta(days=9))
        good(bring(environment, create(tmp_path / "copy.db", TABLES), taken_at=NOON))

        plan = pruning.plan(environment, "default")

        assert [True, True] == [decision.keep for _, decision in plan]

    def test_same_file_again__skipped(self, environment: Environment, tmp_path: Path) -> None:
        """It is known by its bytes, under whatever name; so is an archive of ours."""
        path = create(tmp_path / "copy.db", TABLES)
        first = good(bring(environment, path))
        assert first.manifest is not None
        path.rename(tmp_path / "other.db")

        again = bring(environment, tmp_path / "other.db")
        ours = bring(environment, Path(first.paths[0]))

        assert [f"already imported, as {first.manifest.id}"] * 2 == [again.reason, ours.reason]
        assert 0 == exit_code([again, ours])


class TestOwnArchives:
    """Archives of ours without their manifest."""

    def test_manifest_lost__imported(self, environment: Environment, tmp_path: Path) -> None:
        """It is recognised like any other; from a location it is not taken by itself: it may be unfinished."""
        first = good(bring(environment, create(tmp_path / "copy.db", TABLES)))
        [archive, manifest] = environment.locations[0].names()
        environment.locations[0].delete(manifest)

        [skipped] = import_archives(environment, ImportRequest(source=environment.locations[0]))
        second = good(bring(environment, Path(first.paths[0])))

        assert "an unfinished attempt of ours" in skipped.reason
        assert second.manifest is not None
        assert second.manifest.origin is not None
        assert (archive, ("zstd",)) == (second.manifest.origin.name, second.manifest.origin.codecs)
        assert content(environment, first) == content(environment, second)


class TestRequests:
    """What is told, and what is found out."""

    def test_time__told_or_the_files(self, environment: Environment, tmp_path: Path) -> None:
        """The file's time of change is the last resort, and said to be."""
        path = create(tmp_path / "copy.db", TABLES)
        os.utime(path, (NOON.timestamp(), NOON.timestamp()))
        guessed = good(bring(environment, path))
        path.write_bytes(create(tmp_path / "other.db", TABLES + "DELETE FROM item").read_bytes())
        told = good(bring(environment, path, taken_at=datetime(2020, 1, 1, tzinfo=UTC)))

        assert guessed.manifest is not None
        assert told.manifest is not None
        assert [NOON, datetime(2020, 1, 1, tzinfo=UTC)] == [guessed.manifest.taken_at, told.manifest.taken_at]
        assert any("--taken-at" in note for note in guessed.notes)
        assert not told.notes

    def test_dump_of_another_engine__refused(self, environment: Environment, tmp_path: Path) -> None:
        """Here is no PostgreSQL that it could belong to."""
        path = tmp_path / "erp.sql"
        path.write_text(PLAIN.format("CREATE TABLE a (b int);"))

        assert UsageError is type(refused(environment, path))

    def test_size__capped_unless_told(self, environment: Environment, tmp_path: Path) -> None:
        """The limit can be set lower, and higher."""
        path = tmp_path / "erp.sql.gz"
        path.write_bytes(gzip.compress((DUMP[:-8] + "-- x\n" * 100_000 + DUMP[-8:]).encode()))

        assert "--max-size" in str(refused(environment, path, max_size=100_000))
        good(bring(environment, path, max_size=1_000_000))

    def test_metadata_of_django_dbbackup__compared(self, environment: Environment, tmp_path: Path) -> None:
        """Content is believed, and a file beside it that says otherwise is told of."""
        create(tmp_path / "default.sqlite3", TABLES)
        says = {"engine": "django.db.backends.postgresql", "connector": "dbbackup.db.postgresql.PgDumpConnector"}
        (tmp_path / "default.sqlite3.metadata").write_text(json.dumps(says))

        results = [
            good(result)
            for result in import_archives(environment, ImportRequest(source=folder_location(tmp_path)))
            if result.source.startswith("default")
        ]

        assert 1 == len(results)
        assert any(".metadata" in note for note in results[0].notes)

    def test_several_locations__a_copy_in_each(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """It is stored, and read back, like a backup."""
        environment = make_environment("local", "away")
        good(bring(environment, create(tmp_path / "copy.db", TABLES)))

        assert environment.locations[0].names() == environment.locations[1].names()
        [row] = Backup.objects.all()
        assert (BackupStatus.COMPLETE, 2) == (row.status, row.copies.count())


class TestVerification:
    """What a verification says of an imported archive."""

    @pytest.mark.parametrize("level", ["stored", "readable", "restored"])
    def test_any_level__shown_and_never_passed(self, environment: Environment, tmp_path: Path, level: str) -> None:
        """There is nothing to compare with, so it could not be verified; what was found is in the result."""
        good(bring(environment, create(tmp_path / "copy.db", TABLES)))
        [name] = Backup.objects.values_list("name", flat=True)

        [result] = verify_backups(environment, VerifyRequest(backup=name, level=level))

        assert (Outcome.UNVERIFIED, 3, level) == (result.outcome, result.exit_code, result.reached)
        assert any("no manifest" in finding.message for finding in result.findings)
        if level == "restored":
            assert result.figures is not None
            assert [("item", 2)] == [(table.name, table.rows) for table in result.figures.tables]

    def test_damaged_since__failed(self, environment: Environment, tmp_path: Path) -> None:
        """Its bytes are signed since it was imported: they can be found bad."""
        result = good(bring(environment, create(tmp_path / "copy.db", TABLES)))
        stored = Path(result.paths[0])
        stored.write_bytes(stored.read_bytes()[:-1] + b"x")
        assert result.manifest is not None

        [verified] = verify_backups(environment, VerifyRequest(backup=result.manifest.id, level="stored"))

        assert (Outcome.FAILED, 5) == (verified.outcome, verified.exit_code)


class TestGpg:
    """What django-dbbackup has encrypted."""

    @pytest.fixture
    def keyring(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A keyring with one key without a passphrase."""
        home = tmp_path / "g"
        home.mkdir(mode=0o700)
        monkeypatch.setenv("GNUPGHOME", str(home))
        generate = ["--passphrase", "", "--quick-generate-key", "erp", "rsa2048", "encrypt", "never"]
        subprocess.run(["gpg", "--batch", "--quiet", *generate], check=True, capture_output=True)
        yield home
        subprocess.run(["gpgconf", "--kill", "all"], check=True)

    def test_encrypted_and_compressed__imported(self, environment: Environment, tmp_path: Path, keyring: Path) -> None:
        """With the key it is what was in it; damaged or without the key nothing of it is used, or left."""
        path = tmp_path / "default.dump.gz.gpg"
        encrypt = ["gpg", "--batch", "--trust-model", "always", "-r", "erp", "--encrypt"]
        whole = subprocess.run(encrypt, input=gzip.compress(DUMP.encode()), check=True, capture_output=True).stdout
        damaged = bytearray(whole)
        damaged[-30] ^= 1
        path.write_bytes(damaged)
        corrupt = refused(environment, path)
        path.write_bytes(whole)
        moved = keyring.rename(tmp_path / "away")
        keyring.mkdir(mode=0o700)
        locked = refused(environment, path)
        shutil.rmtree(keyring)
        moved.rename(keyring)

        result = good(bring(environment, path))

        assert (CorruptError, KeyUnavailableError) == (type(corrupt), type(locked))
        assert DUMP.encode() == content(environment, result)
        assert result.manifest is not None
        assert result.manifest.origin is not None
        assert ("gzip", "gpg") == result.manifest.origin.codecs
        assert [] == list((environment.config.state_dir / "jobs").iterdir())
