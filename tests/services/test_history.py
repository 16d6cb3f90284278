"""The history in the host's database: it never costs a backup, and what it could not note is said."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from erp_backup.core import manifest as manifests
from erp_backup.core.errors import NoSpaceError
from erp_backup.core.figures import Finding as FindingData
from erp_backup.core.figures import Severity
from erp_backup.models import Backup, BackupStatus, Copy, CopyState, Event, Finding, Outcome, Verification
from erp_backup.services.environment import Environment
from erp_backup.services.history import CopyNote, History
from tests.support.host import Host
from tests.support.postgres import Cluster
from tests.support.samples import NOON, sample_manifest

LATER = NOON + timedelta(minutes=5)


@pytest.fixture
def history() -> History:
    """A history that nobody has written to."""
    return History("tester")


def begin(history: History, name: str = "b1") -> None:
    """Note that an attempt has begun."""
    history.begin(name=name, database="default", database_name="/srv/erp.db", kind="full", at=NOON, host="db1")


def complete(history: History, environment: Environment, *, partial: str = "", **changes: Any) -> None:
    """Note a backup that exists, with one copy."""
    manifest = sample_manifest(**changes)
    raw = manifests.write(manifest, environment.signer())
    copies = [CopyNote(location="local", state=CopyState.VERIFIED, stored_at=NOON, read_back_at=LATER)]
    history.complete(manifest, raw, manifests.digest(raw), started_at=NOON, copies=copies, partial=partial)


@pytest.mark.django_db
class TestRows:
    """What is noted."""

    def test_begun__running(self, history: History) -> None:
        """An attempt is visible while it runs."""
        begin(history)
        row = Backup.objects.get()

        assert (BackupStatus.RUNNING, "default", "/srv/erp.db", "full", "db1", "tester") == (
            row.status,
            row.database,
            row.database_name,
            row.kind,
            row.host,
            row.actor,
        )

    def test_completed__what_the_manifest_says(self, history: History, environment: Environment) -> None:
        """The row is a readable copy of the manifest, with the manifest itself."""
        complete(history, environment)
        row, manifest = Backup.objects.get(), sample_manifest()

        assert (manifest.id, BackupStatus.COMPLETE, 0, "") == (row.name, row.status, row.exit_code, row.error)
        assert (7, NOON, manifest.finished_at) == (row.number, row.taken_at, row.finished_at)
        assert (manifest.archive.name, 100, "12" * 32) == (row.archive, row.size, row.sha256)
        assert (2, 3, "sqlite", "2026.1") == (row.tables, row.rows, row.engine, row.release)
        assert manifest == manifests.read(row.manifest.encode(), environment.verifier())
        assert manifests.digest(row.manifest.encode()) == row.manifest_sha256

    def test_completed__its_copies(self, history: History, environment: Environment) -> None:
        """Each copy says when it was stored and when it was read back."""
        complete(history, environment)
        copy = Copy.objects.get()

        assert ("local", CopyState.VERIFIED, NOON, LATER) == (
            copy.location,
            copy.state,
            copy.stored_at,
            copy.read_back_at,
        )

    def test_completed_twice__one_row(self, history: History, environment: Environment) -> None:
        """A backup that is noted again, by the run after a dead one, is noted once."""
        begin(history, sample_manifest().id)
        for _ in range(2):
            complete(history, environment)

        assert (1, 1) == (Backup.objects.count(), Copy.objects.count())

    def test_partial__said(self, history: History, environment: Environment) -> None:
        """What is missing stands in the row."""
        complete(history, environment, partial="location 'away': full")
        row = Backup.objects.get()

        assert (BackupStatus.PARTIAL, 3, "location 'away': full") == (row.status, row.exit_code, row.error)

    def test_failed__why(self, history: History) -> None:
        """The error's words and its exit code stand in the row."""
        begin(history)
        history.fail("b1", NoSpaceError("No space left at /srv.", remedy="Free space."), LATER)
        row = Backup.objects.get()

        assert (BackupStatus.FAILED, 31, "No space left at /srv. Free space.", LATER) == (
            row.status,
            row.exit_code,
            row.error,
            row.finished_at,
        )

    def test_copy_found_damaged__noted(self, history: History, environment: Environment) -> None:
        """What is found out about one copy is noted with it, and with no other."""
        complete(history, environment)
        history.copy_state(sample_manifest().id, "away", CopyState.MISSING, LATER)
        history.copy_state(sample_manifest().id, "local", CopyState.DAMAGED, LATER)

        assert [CopyState.DAMAGED] == [copy.state for copy in Copy.objects.all()]

    def test_deleted__row_stays_copies_go(self, history: History, environment: Environment) -> None:
        """How a deleted backup was verified can still be told."""
        complete(history, environment)
        history.delete(sample_manifest().id)

        assert BackupStatus.DELETED == Backup.objects.get().status
        assert not Copy.objects.exists()

    def test_verification__with_its_findings_and_its_backup(self, history: History, environment: Environment) -> None:
        """All of a verification is noted, linked to the backup where the history knows it."""
        complete(history, environment)
        findings = [
            FindingData(kind="table", subject="erp_item", expected="3 rows", found="2 rows", severity=Severity.FAILED),
            FindingData(kind="extension", subject="citext", severity=Severity.NOTE),
        ]
        row = Verification(
            backup_name=sample_manifest().id,
            level="models",
            outcome=Outcome.FAILED,
            started_at=NOON,
            finished_at=LATER,
            exit_code=6,
        )
        history.verification(row, findings)
        found = Verification.objects.get()

        assert "tester" == found.actor
        assert sample_manifest().id == (found.backup and found.backup.name)
        assert [("failed", "erp_item", "3 rows", "2 rows"), ("note", "citext", "", "")] == list(
            found.findings.values_list("severity", "subject", "expected", "found")
        )

    def test_verification_of_an_unknown_backup__noted_by_name(self, history: History) -> None:
        """A backup that only a location knows is verified as well."""
        row = Verification(
            backup_name="foreign", level="stored", outcome="passed", started_at=NOON, finished_at=NOON, exit_code=0
        )
        history.verification(row, [])

        assert Verification.objects.get().backup is None

    def test_event__who_and_what(self, history: History) -> None:
        """The audit log says who."""
        history.event(NOON, "deleted", "b1", "too old", size=5)
        event = Event.objects.get()

        assert ("deleted", "b1", "too old", "tester", {"size": 5}) == (
            event.kind,
            event.subject,
            event.message,
            event.actor,
            event.data,
        )

    def test_deleted_backup__its_verifications_stay(self, history: History, environment: Environment) -> None:
        """The auditor's question is answered even when somebody deletes rows."""
        complete(history, environment)
        row = Verification(
            backup_name=sample_manifest().id,
            level="stored",
            outcome="passed",
            started_at=NOON,
            finished_at=NOON,
            exit_code=0,
        )
        history.verification(row, [])
        Backup.objects.all().delete()

        assert sample_manifest().id == Verification.objects.get().backup_name


@pytest.mark.django_db(transaction=True)
class TestUnwritable:
    """A database that takes no rows."""

    @pytest.fixture
    def _no_findings(self) -> Any:
        """The table of findings is missing: a step can be written only in part."""
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE erp_backup_finding RENAME TO gone")
        yield
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE gone RENAME TO erp_backup_finding")

    @pytest.mark.usefixtures("_no_findings")
    def test_step_that_fails__remembered_and_all_or_nothing(self, history: History) -> None:
        """The reason is kept, and half a step is none: a verification without its findings would look like a pass."""
        row = Verification(
            backup_name="b1", level="models", outcome="failed", started_at=NOON, finished_at=NOON, exit_code=6
        )
        history.verification(row, [FindingData(kind="table", subject="erp_item")])

        assert "no such table: erp_backup_finding" in history.problem
        assert not Verification.objects.exists()

    @pytest.mark.usefixtures("_no_findings")
    def test_later_steps__still_written_and_the_first_reason_kept(self, history: History) -> None:
        """One step that fails takes no other with it."""
        row = Verification(
            backup_name="b1", level="models", outcome="failed", started_at=NOON, finished_at=NOON, exit_code=6
        )
        history.verification(row, [FindingData(kind="table", subject="erp_item")])
        history.event(NOON, "backup", "b1")

        assert "erp_backup_finding" in history.problem
        assert 1 == Event.objects.count()
        assert not Finding.objects.none().exists()


class TestRealRuns:
    """Through the real command."""

    def test_tables_missing__backup_made_exit_3_and_said(self, host: Host) -> None:
        """Nobody has migrated: the backup exists, is proven, and the run is partial."""
        host.migrate()
        host.manage("migrate", "erp_backup", "zero", "--verbosity=0")
        result = host.manage("dbbackup", check=False)
        verified = host.manage("verifybackup", "--level", "restored", check=False)

        assert 3 == result.returncode, str(result)
        assert "The history could not be written" in result.stderr
        assert "no such table: erp_backup_" in result.stderr
        assert "Traceback" not in result.stderr + verified.stderr
        assert "PASSED" in verified.stdout

    def test_database_read_only_for_us__backup_made_exit_3_and_said(
        self, pg_host: Host, pg_database: dict[str, Any], postgres: Cluster
    ) -> None:
        """A role that may only read can back up all the same."""
        pg_host.migrate()
        with psycopg.connect(postgres.url(pg_database["NAME"]), autocommit=True) as session:
            session.execute(f"ALTER ROLE {pg_database['USER']} SET default_transaction_read_only = on")
        try:
            result = pg_host.manage("dbbackup", check=False)
        finally:
            with postgres.connect() as session:
                session.execute(f"ALTER ROLE {pg_database['USER']} RESET default_transaction_read_only")

        assert 3 == result.returncode, str(result)
        assert "read-only transaction" in result.stderr

    def test_connection_cut_between_two_steps__written_by_a_new_one(self, pg_host: Host) -> None:
        """A backup takes hours; the connection that its beginning was noted by may be gone when it ends."""
        pg_host.migrate()
        code = """
from datetime import UTC, datetime
from django.db import connection
from erp_backup.models import Event
from erp_backup.services.history import History
history = History("tester")
history.event(datetime.now(tz=UTC), "first", "x")
with connection.cursor() as cursor:
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone()
import psycopg
other = connection.copy()
with other.cursor() as cursor:
    cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
other.close()
history.event(datetime.now(tz=UTC), "second", "x")
print(history.problem or "no problem", Event.objects.count())
"""
        result = pg_host.manage("shell", "--no-imports", "-c", code)

        assert "no problem 2" == result.stdout.strip()
