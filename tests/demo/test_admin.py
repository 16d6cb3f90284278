"""The demo's admin, used as staff use it."""

from __future__ import annotations

import io
import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from project.erp.models import (
    Attachment,
    Item,
    Partner,
    SalesOrder,
    StockLedgerEntry,
    StockLevel,
    StockTransaction,
    User,
    Warehouse,
)

pytestmark = pytest.mark.django_db

MODELS = [model for model in admin.site._registry if model._meta.app_label == "erp"]
ADDABLE = [model for model in MODELS if model.__name__ not in {"Attachment", "StockLedgerEntry", "StockLevel"}]


@pytest.fixture
def staff(client: Client) -> Client:
    """The administrator's browser, on a seeded demo."""
    call_command("seed_demo", users=30, items=120, transactions=400, stdout=io.StringIO())
    client.force_login(User.objects.get(pk=1))
    return client


def address(model: Any, page: str, *args: Any) -> str:
    """Return the address of a model's page."""
    return reverse(f"admin:erp_{model._meta.model_name}_{page}", args=args)


def shown(response: Any) -> int:
    """Return how many rows a list shows."""
    return len(response.context["cl"].result_list)


def filled(response: Any) -> dict[str, Any]:
    """Return the data of a page's form and inlines as a browser would post it back."""
    forms = [response.context["adminform"].form]
    for inline in response.context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    pairs = {
        (form.add_prefix(name) if form.prefix else name): form[name].value() for form in forms for name in form.fields
    }
    return {name: "" if value is None else value for name, value in pairs.items() if value is not False}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
class TestLists:
    """The list of every model."""

    def test_list__shows_rows(self, model: Any, staff: Client) -> None:
        """It opens, with data, and its columns need no further query per row."""
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = staff.get(address(model, "changelist"))

        assert response.status_code == 200
        assert shown(response) > 0
        assert len(queries) <= 20

    def test_search__finds_by_what_people_know(self, model: Any, staff: Client) -> None:
        """A word nobody used finds nothing, an empty search everything, neither breaks."""
        nothing = staff.get(address(model, "changelist"), {"q": "no-such-thing"})
        everything = staff.get(address(model, "changelist"), {"q": ""})

        assert shown(nothing) == 0
        assert shown(everything) > 0

    def test_every_filter__opens(self, model: Any, staff: Client) -> None:
        """Each choice of each filter is a page that opens."""
        response = staff.get(address(model, "changelist"))
        choices = {
            choice["query_string"]
            for spec in response.context["cl"].filter_specs
            for choice in list(spec.choices(response.context["cl"]))[:4]
        }
        statuses = {staff.get(address(model, "changelist") + query).status_code for query in choices}

        assert statuses <= {200}

    def test_page_of_one__opens(self, model: Any, staff: Client) -> None:
        """The newest object's page opens."""
        newest = model._default_manager.order_by("pk").last()

        assert staff.get(address(model, "change", newest.pk)).status_code == 200


@pytest.mark.parametrize("model", ADDABLE, ids=lambda model: model.__name__)
def test_add_page__opens_with_its_defaults(model: Any, staff: Client) -> None:
    """An empty form opens and shows defaults, not expressions of the database."""
    response = staff.get(address(model, "add"))

    assert response.status_code == 200
    assert "DatabaseDefault" not in response.content.decode()


def test_lists__need_as_many_queries_for_many_rows_as_for_few(staff: Client) -> None:
    """The number of queries does not grow with the rows."""
    for model in (Item, Partner, SalesOrder, StockTransaction, StockLedgerEntry, StockLevel):
        counts = []
        for wanted in ({"id__lte": 2}, {}):
            with CaptureQueriesContext(connection) as queries:
                assert staff.get(address(model, "changelist"), wanted).status_code == 200
            counts.append(len(queries))

        assert counts[1] <= counts[0], model


@pytest.mark.parametrize(
    ("model", "field", "term"),
    [
        ("item", "category", "Kopi"),
        ("item", "tags", "halal"),
        ("salesorder", "partner", "P0000"),
        ("partner", "account_manager", "example.com"),
        ("stocktransaction", "sales_order", "SO-"),
        ("stockledgerentry", "warehouse", "München"),
    ],
)
def test_autocomplete__finds(model: str, field: str, term: str, staff: Client) -> None:
    """Large tables are picked from by typing."""
    query = {"app_label": "erp", "model_name": model, "field_name": field, "term": term}
    results = staff.get(reverse("admin:autocomplete"), query).json()["results"]

    assert results


def movement(kind: str, number: str, *rows: tuple[Item, Warehouse, str]) -> dict[str, Any]:
    """Return what the form for a new stock transaction posts."""
    data: dict[str, Any] = {"number": number, "kind": kind, "note": "", "details": "{}"}
    data |= {"entries-TOTAL_FORMS": len(rows), "entries-INITIAL_FORMS": 0}
    for index, (item, warehouse, change) in enumerate(rows):
        row = {"item": item.pk, "warehouse": warehouse.pk, "quantity_change": change, "unit_cost": "1"}
        data |= {f"entries-{index}-{name}": value for name, value in row.items()}
    return data


def test_posted_transaction__moves_stock(staff: Client) -> None:
    """A receipt typed in changes ledger, level and item, and notes who did it."""
    item, warehouse = Item.objects.get(pk=1), Warehouse.objects.get(pk=1)
    response = staff.post(address(StockTransaction, "add"), movement("RECEIPT", "GR-NEW", (item, warehouse, "2.5")))
    posted = StockTransaction.objects.get(number="GR-NEW")
    before = item.on_hand
    item.refresh_from_db()

    assert response.status_code == 302
    assert before + Decimal("2.5") == item.on_hand
    assert posted.created_by_id == 1
    assert posted.entries.get().created_at == posted.created_at


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ISSUE", "-999999", "has too little of"),
        ("ISSUE", "1", "only takes stock out"),
        ("TRANSFER", "1", "A transfer"),
    ],
)
def test_impossible_transaction__is_refused_with_a_reason(kind: str, change: str, message: str, staff: Client) -> None:
    """The form comes back with a sentence, and nothing is written."""
    item, warehouse = Item.objects.get(pk=1), Warehouse.objects.get(pk=1)
    response = staff.post(address(StockTransaction, "add"), movement(kind, "X-1", (item, warehouse, change)))

    assert response.status_code == 200
    assert message in response.content.decode()
    assert not StockTransaction.objects.filter(number="X-1").exists()


def test_posted_transaction__can_neither_be_changed_nor_deleted(staff: Client) -> None:
    """The ledger is only ever added to."""
    posted = StockTransaction.objects.order_by("pk").first()
    assert posted is not None
    changed = staff.post(address(StockTransaction, "change", posted.pk), {"number": "changed"})
    deleted = staff.post(address(StockTransaction, "delete", posted.pk), {"post": "yes"})

    assert (403, 403) == (changed.status_code, deleted.status_code)


def test_changed_order__has_its_new_total(staff: Client) -> None:
    """A line's new quantity changes the line's total and the order's."""
    order = SalesOrder.objects.filter(lines__isnull=False).order_by("pk").last()
    assert order is not None
    page = staff.get(address(SalesOrder, "change", order.pk))
    data = filled(page) | {"lines-0-quantity": "7", "lines-0-unit_price": "3.5", "lines-0-discount_percent": "10"}
    response = staff.post(address(SalesOrder, "change", order.pk), data)
    line = order.lines.get(pk=data["lines-0-id"])
    order.refresh_from_db()

    assert response.status_code == 302, response.context and response.context["errors"]
    assert line.line_total == Decimal("22.05")
    assert order.total == sum(line.line_total for line in order.lines.all())


def test_uploaded_attachment__is_measured(staff: Client) -> None:
    """A file added below a partner gets its size, checksum and owner."""
    partner = Partner.objects.filter(pk=3).get()
    page = staff.get(address(Partner, "change", partner.pk))
    prefix = next(inline.formset.prefix for inline in page.context["inline_admin_formsets"])
    upload = SimpleUploadedFile("Übersicht.txt", b"content", content_type="text/plain")
    count = int(re.search(rf'name="{prefix}-TOTAL_FORMS" value="(\d+)"', page.content.decode())[1])  # type: ignore[index]
    data = filled(page) | {
        f"{prefix}-TOTAL_FORMS": count + 1,
        f"{prefix}-{count}-title": "Übersicht",
        f"{prefix}-{count}-file": upload,
        "address": "{}",
    }
    data = {name: value for name, value in data.items() if not name.startswith(f"{prefix}-__")}
    response = staff.post(address(Partner, "change", partner.pk), data)
    attachment = Attachment.objects.get(title="Übersicht")

    assert response.status_code == 302
    assert (7, "text/plain", 1) == (attachment.size, attachment.media_type, attachment.uploaded_by_id)
    assert attachment.sha256.startswith("ed7002b439e9ac845f22357d822bac14")


def test_new_user__can_be_added_by_address(staff: Client) -> None:
    """The form asks for an address and a password, not for a user name."""
    data = {
        "email": "neu@example.com",
        "full_name": "Zoë Groß",
        "role": "sales",
        "usable_password": "true",
        "password1": "correct horse battery",
        "password2": "correct horse battery",
    }
    response = staff.post(address(User, "add"), data)

    assert response.status_code == 302
    assert User.objects.get(email="neu@example.com").check_password("correct horse battery")


def test_action__puts_items_on_hold(staff: Client) -> None:
    """Several items change their status at once."""
    data = {"action": "put_on_hold", "_selected_action": [1, 2]}
    response = staff.post(address(Item, "changelist"), data, follow=True)

    assert "2 items are on hold now." in response.content.decode()
    assert {"ON_HOLD"} == set(Item.objects.filter(pk__in=[1, 2]).values_list("status", flat=True))
