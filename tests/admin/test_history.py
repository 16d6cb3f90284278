"""The history in the admin: readable by whoever may, writable by nobody."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core import checks
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.functional import Promise

from erp_backup.admin import BackupAdmin, EventAdmin, VerificationAdmin
from erp_backup.core import manifest as manifests
from erp_backup.core.signing import create_key
from erp_backup.models import Backup, BackupStatus, Copy, CopyState, Event, Finding, Outcome, Verification
from tests.support.samples import NOON, sample_manifest

pytestmark = pytest.mark.django_db

MODELS = {"backup": Backup, "verification": Verification, "event": Event}
EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True)
class History:
    """One row of each kind."""

    backup: Backup
    verification: Verification
    event: Event


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A backup with a copy and a manifest, its verification with a finding, and an event."""
    manifest = sample_manifest()
    raw = manifests.write(manifest, create_key(tmp_path / "signing.key"))
    backup = Backup.objects.create(
        name=manifest.id,
        database="default",
        kind="full",
        status=BackupStatus.COMPLETE,
        started_at=NOON,
        taken_at=NOON,
        finished_at=NOON + timedelta(seconds=125),
        archive=manifest.archive.name,
        size=1_234_567,
        rows=8_000_000,
        tables=2,
        manifest=raw.decode(),
    )
    Copy.objects.create(backup=backup, location="offsite", state=CopyState.VERIFIED, stored_at=NOON, read_back_at=NOON)
    return History(backup=backup, verification=verification_of(backup), event=event(1))


def verification_of(backup: Backup) -> Verification:
    """A verification that found something."""
    row = Verification.objects.create(
        backup=backup,
        backup_name=backup.name,
        level="models",
        reached="models",
        outcome=Outcome.FAILED,
        started_at=NOON,
        finished_at=NOON + timedelta(minutes=2),
        restore_seconds=63.0,
        size=backup.size,
        exit_code=6,
        actor="night watch",
        environment={"host": "drill-1"},
    )
    Finding.objects.create(
        verification=row, severity="failed", kind="table", subject="public.erp_item", expected="3 rows", found="2 rows"
    )
    return row


def event(number: int) -> Event:
    """Something that happened."""
    return Event.objects.create(
        at=NOON, kind="deleted", subject=f"b{number}", message="too old", data={"level": "models"}
    )


MakeClient = Callable[..., Client]


@pytest.fixture
def client_with() -> MakeClient:
    """Log somebody in who has these permissions."""

    def make(*permissions: str, is_staff: bool = True) -> Client:
        user = get_user_model().objects.create_user(
            email=f"{'-'.join(permissions) or 'nobody'}@example.com", password="x"
        )
        user.is_staff = is_staff
        user.save()
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def viewer(client_with: MakeClient) -> Client:
    """Staff who may view all of the history, and nothing else."""
    return client_with("view_backup", "view_verification", "view_event")


def listed(model: str) -> str:
    """The address of a list."""
    return reverse(f"admin:erp_backup_{model}_changelist")


def shown(row: Any) -> str:
    """The address of a row."""
    return reverse(f"admin:erp_backup_{type(row).__name__.lower()}_change", args=[row.pk])


def text(client: Client, url: str) -> str:
    """The page, which must be there."""
    response = client.get(url)
    assert 200 == response.status_code, response.status_code
    return response.content.decode()


class TestReading:
    """Staff with the permission to view."""

    @pytest.mark.parametrize("model", MODELS)
    def test_list_and_page__shown(self, viewer: Client, history: History, model: str) -> None:
        """Each list and each row has its page."""
        assert text(viewer, listed(model))
        assert text(viewer, shown(getattr(history, model)))

    def test_backups__sizes_and_durations_as_people_read_them(self, viewer: Client, history: History) -> None:
        """No one counts digits at three in the morning."""
        page = text(viewer, listed("backup"))

        assert history.backup.name in page
        for said in ("1.2 MB", "8,000,000", "2 min 5 s", "failed (models)"):
            assert said in page

    def test_backup__copies_verifications_and_manifest(self, viewer: Client, history: History) -> None:
        """Everything that is known of a backup is on its page."""
        page = text(viewer, shown(history.backup))

        for said in ("offsite", "read back", "night watch", "1 min 3 s"):
            assert said in page
        assert "&quot;dump_format&quot;: &quot;sqlite3&quot;" in page
        assert "böhm&#x27;s.db" in page
        assert shown(history.verification) in page

    def test_backup_that_failed__why(self, viewer: Client) -> None:
        """One without a manifest, a size or an end is shown as well."""
        row = Backup.objects.create(
            name="b9",
            database="default",
            kind="full",
            status=BackupStatus.FAILED,
            started_at=NOON,
            error="No space left.",
        )

        assert "No space left." in text(viewer, shown(row))
        assert "b9" in text(viewer, listed("backup"))

    def test_verification__its_findings(self, viewer: Client, history: History) -> None:
        """What was expected stands beside what was found, with a link to the backup."""
        page = text(viewer, shown(history.verification))

        for said in ("public.erp_item", "3 rows", "2 rows", "1 min 3 s", "2 min 0 s", "drill-1", "night watch"):
            assert said in page
        assert shown(history.backup) in page

    def test_verification_of_an_unknown_backup__shown(self, viewer: Client, history: History) -> None:
        """A backup that is gone leaves its verifications."""
        history.backup.delete()

        assert history.verification.backup_name in text(viewer, shown(history.verification))
        assert history.verification.backup_name in text(viewer, listed("verification"))

    def test_event__its_data(self, viewer: Client, history: History) -> None:
        """What belongs to an event is shown indented."""
        assert "&quot;level&quot;: &quot;models&quot;" in text(viewer, shown(history.event))

    @pytest.mark.parametrize(
        ("model", "query", "count"),
        [
            ("backup", "q=abc123", 1),
            ("backup", "q=nothing", 0),
            ("backup", "status__exact=failed", 0),
            ("backup", "database=default&kind=full", 1),
            ("backup", "started_at__year=2026", 1),
            ("backup", "started_at__year=2025", 0),
            ("verification", "q=night", 1),
            ("verification", "outcome__exact=passed", 0),
            ("verification", "started_at__year=2026&level=models", 1),
            ("event", "q=too+old", 1),
            ("event", "kind=backup", 0),
            ("event", "at__year=2026", 1),
        ],
    )
    @pytest.mark.usefixtures("history")
    def test_search_and_filters__narrow_the_list(self, viewer: Client, model: str, query: str, count: int) -> None:
        """Lists are searched, filtered and walked by date."""
        page = text(viewer, f"{listed(model)}?{query}")

        assert count == len(re.findall(r'<tr>\s*<t[hd] class="field-', page))

    @pytest.mark.parametrize("column", range(1, 11))
    @pytest.mark.usefixtures("history")
    def test_any_order__shown(self, viewer: Client, column: int) -> None:
        """Every column that can be sorted by can be sorted by, both ways."""
        for model in MODELS:
            for sign in ("", "-"):
                assert text(viewer, f"{listed(model)}?o={sign}{column}")


class TestPermissions:
    """Who may not."""

    @pytest.mark.parametrize("model", MODELS)
    def test_staff_without_permission__forbidden(self, client_with: MakeClient, history: History, model: str) -> None:
        """Other staff see neither lists nor rows, nor that there are any."""
        client = client_with("view_item")

        assert 403 == client.get(listed(model)).status_code
        assert 403 == client.get(shown(getattr(history, model))).status_code
        assert "erp_backup" not in client.get(reverse("admin:index")).content.decode()

    @pytest.mark.parametrize("model", MODELS)
    def test_one_permission__one_kind_of_row(self, client_with: MakeClient, history: History, model: str) -> None:
        """Each kind has a permission of its own."""
        client = client_with(f"view_{model}")

        assert {model} == {name for name in MODELS if client.get(listed(name)).status_code == 200}
        assert text(client, shown(getattr(history, model)))

    @pytest.mark.parametrize("is_known", [True, False])
    def test_no_staff__sent_to_log_in(self, client_with: MakeClient, history: History, is_known: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """Users and strangers come no further than the login."""
        client = client_with("view_backup", is_staff=False) if is_known else Client()
        response = client.get(shown(history.backup))

        assert 302 == response.status_code
        assert response.headers["Location"].startswith(reverse("admin:login"))

    def test_backup_page__shows_copies_to_whoever_sees_backups(self, client_with: MakeClient, history: History) -> None:
        """What belongs to a row needs no permission of its own."""
        assert "offsite" in text(client_with("view_backup"), shown(history.backup))
        assert "public.erp_item" in text(client_with("view_verification"), shown(history.verification))


@pytest.mark.parametrize("model", MODELS)
class TestWriting:
    """Nobody writes history by hand: not even with every permission there is."""

    @pytest.fixture
    def powerful(self, admin_client: Client) -> Client:
        """A superuser."""
        return admin_client

    def test_add__refused(self, powerful: Client, model: str) -> None:
        """There is no form, and none is accepted."""
        url = reverse(f"admin:erp_backup_{model}_add")

        assert [403, 403] == [powerful.get(url).status_code, powerful.post(url, {"name": "x"}).status_code]
        assert not MODELS[model].objects.exists()

    def test_change__refused(self, powerful: Client, history: History, model: str) -> None:
        """The page has nothing to fill in or to send, and takes nothing."""
        row = getattr(history, model)
        before = MODELS[model].objects.values().get()
        page = text(powerful, shown(row))
        form = {key: value for key, value in before.items() if value is not None}
        response = powerful.post(shown(row), {**form, "_save": "1", "error": EVIL, "message": EVIL, "actor": EVIL})

        assert 403 == response.status_code
        assert before == MODELS[model].objects.values().get()
        assert 'name="_save"' not in page
        assert not re.findall(
            r"<(?:input|textarea|select)(?![^>]*type=\"hidden\")[^>]*name=\"(?!csrf|q)", _content(page)
        )

    def test_delete__refused(self, powerful: Client, history: History, model: str) -> None:
        """Neither by its page nor from the list."""
        row = getattr(history, model)
        url = reverse(f"admin:erp_backup_{model}_delete", args=[row.pk])
        action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}

        assert [403, 403] == [powerful.get(url).status_code, powerful.post(url, {"post": "yes"}).status_code]
        powerful.post(listed(model), action)
        assert MODELS[model].objects.filter(pk=row.pk).exists()
        assert "delete_selected" not in text(powerful, listed(model))


def _content(page: str) -> str:
    """The part of a page between its head line and its end: what belongs to the row."""
    start = page.index('id="content"')
    return page[start : page.index("</main>", start) if "</main>" in page else None]


class TestQueries:
    """Many rows cost as much as few."""

    @pytest.mark.parametrize("model", MODELS)
    def test_lists__constant(self, viewer: Client, history: History, model: str) -> None:
        """Forty rows more take no query more."""
        few = _queries(viewer, listed(model))
        for number in range(40):
            backup = Backup.objects.create(name=f"b{number}", database="default", kind="full", started_at=NOON)
            verification_of(backup)
            event(number)

        assert few == _queries(viewer, listed(model))
        assert few <= 15

    def test_backup_page__constant(self, viewer: Client, history: History) -> None:
        """So it is with copies and verifications on a backup's page."""
        few = _queries(viewer, shown(history.backup))
        for number in range(20):
            Copy.objects.create(backup=history.backup, location=f"l{number}", stored_at=NOON)
            verification_of(history.backup)

        assert few == _queries(viewer, shown(history.backup))

    def test_verification_page__constant(self, viewer: Client, history: History) -> None:
        """And with findings."""
        few = _queries(viewer, shown(history.verification))
        for number in range(40):
            Finding.objects.create(
                verification=history.verification, severity="note", kind="table", subject=f"t{number}"
            )

        assert few == _queries(viewer, shown(history.verification))

    def test_list_of_backups__without_the_manifests(self, viewer: Client, history: History) -> None:
        """Manifests are long: a list of fifty does not read them."""
        with _captured() as queries:
            text(viewer, listed("backup"))

        assert not [query["sql"] for query in queries if '"erp_backup_backup"."manifest",' in query["sql"]]


def _captured() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


def _queries(client: Client, url: str) -> int:
    text(client, url)  # content types are asked for once in a process
    with _captured() as queries:
        text(client, url)
    return len(queries)


class TestEscaping:
    """Names come from databases and file systems."""

    def test_html_in_any_text__escaped_everywhere(self, viewer: Client, history: History) -> None:
        """Whatever a table, a database or an error is called, no page runs it."""
        Backup.objects.update(
            name=EVIL, database=EVIL, database_name=EVIL, error=EVIL, actor=EVIL, archive=EVIL, manifest=EVIL
        )
        Copy.objects.update(location=EVIL)
        Verification.objects.update(backup_name=EVIL, error=EVIL, actor=EVIL, location=EVIL, environment={"host": EVIL})
        Finding.objects.update(subject=EVIL, expected=EVIL, found=EVIL, message=EVIL)
        Event.objects.update(subject=EVIL, message=EVIL, kind=EVIL, actor=EVIL, data={EVIL: EVIL})
        pages = [*map(listed, MODELS), *(shown(getattr(history, model)) for model in MODELS)]
        for url in pages:
            page = text(viewer, url)

            assert "<script>alert" not in page, url
            assert "&lt;script&gt;alert(1)" in page, url

    def test_html_within_the_manifest__escaped(self, viewer: Client, history: History, tmp_path: Path) -> None:
        """A genuine manifest may hold anything."""
        raw = manifests.write(sample_manifest(host=EVIL), create_key(tmp_path / "other.key"))
        Backup.objects.update(manifest=raw.decode())

        assert "<script>alert" not in text(viewer, shown(history.backup))

    def test_very_long_manifest__cut_and_said(self, viewer: Client, history: History) -> None:
        """A page stays a page; the rest is in the locations."""
        Backup.objects.update(manifest='{"long": "' + "x" * 600_000 + '"}')
        page = text(viewer, shown(history.backup))

        assert len(page) < 700_000
        assert "100,016 more characters are not shown here" in page


class TestSites:
    """Any admin site, any language."""

    def test_site_of_the_hosts_own__shows_them(self, viewer: Client, history: History) -> None:
        """The same classes work on another site, and their links stay on it."""
        site = AdminSite(name="backoffice")
        for model, admin_class in ((Backup, BackupAdmin), (Verification, VerificationAdmin), (Event, EventAdmin)):
            site.register(model, admin_class)
        with override_settings(ROOT_URLCONF=(path("backoffice/", site.urls),)):
            pages = [
                reverse("backoffice:erp_backup_backup_changelist"),
                reverse("backoffice:erp_backup_backup_change", args=[history.backup.pk]),
                reverse("backoffice:erp_backup_verification_change", args=[history.verification.pk]),
                reverse("backoffice:erp_backup_event_changelist"),
            ]
            shown_pages = [text(viewer, url) for url in pages]

        assert pages[2] in shown_pages[1]
        assert pages[1] in shown_pages[2]
        assert not [page for page in shown_pages if 'href="/admin/' in page]

    def test_default_site__has_them(self) -> None:
        """Nothing has to be registered by hand."""
        assert set(MODELS.values()) <= set(admin.site._registry)

    def test_declarations__pass_djangos_checks(self) -> None:
        """Fields, filters and columns exist."""
        assert [] == [message for message in checks.run_checks(tags=["admin"]) if "erp_backup" in str(message.obj)]

    def test_texts__are_translatable(self) -> None:
        """Headings of our own columns are translated when they are shown, and not when they are imported."""
        headings = [
            getattr(admin_class, name).short_description
            for admin_class in (BackupAdmin, VerificationAdmin, EventAdmin)
            for name in vars(admin_class)
            if hasattr(getattr(admin_class, name), "short_description")
        ]

        assert len(headings) >= 10
        assert all(isinstance(heading, Promise) for heading in headings)
