"""seed_demo: plausible data that adds up, the same for the same arguments."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, Min, Sum
from django.test import Client
from django.utils import timezone

from project.erp.models import (
    Attachment,
    Category,
    Item,
    PurchaseOrder,
    SalesOrder,
    StockLedgerEntry,
    StockLevel,
    StockTransaction,
    User,
)
from project.erp.models.orders import line_total
from project.erp.seed.orders import line_hundredths
from tests.support.host import Host

UNTIL = "2026-03-01T12:00:00Z"
THOUSANDTH = Decimal("0.001")


def seed(**options: Any) -> str:
    """Run seed_demo with small numbers and return what it printed."""
    output = io.StringIO()
    numbers = {"users": 12, "items": 40, "transactions": 400}
    call_command("seed_demo", stdout=output, **(numbers | options))
    return output.getvalue()


def rounded(figures: dict[Any, Decimal]) -> dict[Any, Decimal]:
    """Return the figures to a thousandth: SQLite adds decimals up as floating point numbers."""
    return {key: Decimal(value).quantize(THOUSANDTH) for key, value in figures.items()}


@pytest.mark.django_db
class TestData:
    """What a seeded demo holds."""

    @pytest.fixture(autouse=True)
    def _seeded(self) -> None:
        seed()

    def test_numbers__are_those_asked_for(self) -> None:
        """As many users, items and transactions as the arguments say, and about three movements each."""
        movements = StockLedgerEntry.objects.count()

        assert (12, 40, 400) == (User.objects.count(), Item.objects.count(), StockTransaction.objects.count())
        assert 800 < movements < 1600

    def test_on_hand__is_the_sum_of_the_ledger(self) -> None:
        """Each item's stored stock equals its movements, added up."""
        ledger = StockLedgerEntry.objects.order_by().values_list("item").annotate(Sum("quantity_change"))
        items = dict(Item.objects.filter(ledger_entries__isnull=False).values_list("pk", "on_hand"))

        assert rounded(dict(ledger)) == rounded(items)
        assert not Item.objects.filter(ledger_entries__isnull=True).exclude(on_hand=0).exists()

    def test_levels__are_the_sums_of_the_ledger_by_warehouse(self) -> None:
        """What lies in each warehouse equals the movements there, and nothing is ever below zero."""
        sums = StockLedgerEntry.objects.order_by().values_list("item", "warehouse").annotate(Sum("quantity_change"))
        ledger = rounded({(item, warehouse): total for item, warehouse, total in sums})
        levels = {(level.item_id, level.warehouse_id): level.quantity for level in StockLevel.objects.all()}

        assert {key: total for key, total in ledger.items() if total} == rounded(levels)
        assert min(levels.values()) > 0

    def test_history__never_goes_below_zero(self) -> None:
        """At no time did a warehouse give away what it did not have."""
        stock: Counter[tuple[int, int]] = Counter()
        for entry in StockLedgerEntry.objects.order_by("transaction__created_at", "pk"):
            key = entry.item_id, entry.warehouse_id
            stock[key] += int(entry.quantity_change * 1000)

            assert stock[key] >= 0

    def test_transfers__sum_to_zero(self) -> None:
        """What a transfer takes out of one warehouse it brings into another, item by item."""
        moved = StockLedgerEntry.objects.filter(transaction__kind=StockTransaction.Kind.TRANSFER).order_by()
        sums = {
            (t, i): total for t, i, total in moved.values_list("transaction", "item").annotate(Sum("quantity_change"))
        }

        assert sums
        assert {Decimal("0.000")} == set(rounded(sums).values())

    def test_kinds__move_in_their_direction(self) -> None:
        """Receipts and returns come in, issues leave; every kind occurs."""
        signs = StockLedgerEntry.objects.order_by().values_list("transaction__kind")
        extremes = {
            kind: (low, high) for kind, low, high in signs.annotate(Min("quantity_change"), Max("quantity_change"))
        }

        assert set(StockTransaction.Kind.values) == set(extremes)
        assert extremes["RECEIPT"][0] > 0
        assert extremes["RETURN"][0] > 0
        assert extremes["ISSUE"][1] < 0

    def test_order_totals__are_the_sums_of_their_lines(self) -> None:
        """Each line is what quantity, price and discount make, each order what its lines make."""
        for model in (PurchaseOrder, SalesOrder):
            orders = model.objects.prefetch_related("lines").all()

            assert orders
            for order in orders:
                lines = list(order.lines.all())
                assert [line_total(x.quantity, x.unit_price, x.discount_percent) for x in lines] == [
                    x.line_total for x in lines
                ]
                assert order.total == sum(x.line_total for x in lines)

    def test_dates__end_at_the_anchor(self) -> None:
        """By default the data reaches up to now, so that the last seven days have transactions."""
        now = timezone.now()
        recent = StockTransaction.objects.filter(created_at__gte=now - timedelta(days=7), created_at__lte=now)

        assert recent.count() > 10
        assert not StockTransaction.objects.filter(created_at__gt=now).exists()
        assert StockTransaction.objects.filter(created_at__lt=now - timedelta(days=700)).exists()

    def test_tree_of_categories__has_three_levels(self) -> None:
        """Items hang on leaves, leaves on branches, branches on one root."""
        [root] = Category.objects.filter(parent=None)
        depth_two = Category.objects.filter(parent__parent=root)

        assert Item.objects.count() == Item.objects.filter(category__in=depth_two).count()

    def test_attachments__are_files_with_the_checksum_in_their_row(self) -> None:
        """Each row's file can be opened and is what the row says."""
        attachments = list(Attachment.objects.all())

        assert attachments
        for attachment in attachments:
            assert attachment.size == default_storage.size(attachment.file.name)
            assert attachment.subject is not None
        assert any(attachment.preview for attachment in attachments)

    def test_next_rows__get_free_keys(self) -> None:
        """A row added afterwards does not collide with a seeded one."""
        user = User.objects.create_user("new@example.com")

        assert user.pk == 13

    def test_foreign_keys__hold(self) -> None:
        """No row refers to one that is not there."""
        connection.check_constraints()


@pytest.mark.django_db
class TestCommand:
    """How the command behaves."""

    def test_data_already_there__is_refused(self) -> None:
        """Without --flush nothing that exists is touched, not even a single user."""
        User.objects.create_user("someone@example.com")
        with pytest.raises(CommandError, match="--flush"):
            seed()

        assert User.objects.get().email == "someone@example.com"

    def test_flush_without_a_terminal__is_refused(self) -> None:
        """Nobody can be asked, so nothing is deleted."""
        User.objects.create_user("someone@example.com")
        with pytest.raises(CommandError, match="--noinput"):
            seed(flush=True)

        assert User.objects.count() == 1

    def test_flush__starts_afresh(self, django_capture_on_commit_callbacks: Any) -> None:
        """All data of the ERP goes; keys begin at 1 again; files of the first demo go with it."""
        seed(seed=1)
        with django_capture_on_commit_callbacks(execute=True):
            seed(seed=2, items=10, flush=True, interactive=False)
        _folders, stored = default_storage.listdir("attachments/demo")

        assert (12, 10) == (User.objects.count(), Item.objects.count())
        assert StockTransaction.objects.aggregate(Min("pk"), Max("pk")) == {"pk__min": 1, "pk__max": 400}
        assert {Path(name).name for name in Attachment.objects.values_list("file", flat=True)} == {
            name for name in stored if name.startswith(("datasheet-1-", "datasheet-2-"))
        }

    def test_administrator__can_log_in(self, client: Client) -> None:
        """The address and password that the command prints open the admin."""
        output = seed()

        assert "admin@example.com" in output
        assert "demo only" in output
        assert client.login(email="admin@example.com", password="admin")
        assert client.get("/admin/").status_code == 200

    def test_administrator_with_a_password_of_ones_own__can_log_in(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The password comes from the environment and is not printed."""
        monkeypatch.setenv("DEMO_PASSWORD", "correct horse")
        output = seed(admin_password_env="DEMO_PASSWORD")

        assert "correct horse" not in output
        assert client.login(email="admin@example.com", password="correct horse")
        assert not client.login(email="admin@example.com", password="admin")

    def test_missing_password_variable__is_refused(self) -> None:
        """A demo without the password that was asked for is not made."""
        with pytest.raises(CommandError, match="DEMO_PASSWORD is empty"):
            seed(admin_password_env="DEMO_PASSWORD")

    def test_until__ends_the_data_there(self) -> None:
        """A fixed end makes a fixed history."""
        seed(until=datetime(2026, 3, 1, 12, tzinfo=UTC))
        newest = StockTransaction.objects.latest("created_at").created_at

        assert datetime(2026, 2, 25, tzinfo=UTC) < newest < datetime(2026, 3, 1, 12, tzinfo=UTC)

    @pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-02-30T00:00:00"])
    def test_wrong_until__is_refused(self, text: str) -> None:
        """What is no date is told so."""
        with pytest.raises(CommandError, match="until"):
            call_command("seed_demo", f"--until={text}")

    def test_smallest_demo__is_whole(self) -> None:
        """One of each is enough."""
        seed(users=1, items=1, transactions=1)

        assert (1, 1, 1) == (User.objects.count(), Item.objects.count(), StockTransaction.objects.count())
        assert Item.objects.get().on_hand > 0

    def test_other_seed__makes_other_data(self) -> None:
        """The number decides."""
        seed(seed=1, until=datetime(2026, 3, 1, tzinfo=UTC))
        first = list(Item.objects.values_list("name", flat=True))
        seed(seed=2, until=datetime(2026, 3, 1, tzinfo=UTC), flush=True, interactive=False)

        assert first != list(Item.objects.values_list("name", flat=True))


def content(host: Host) -> list[Any]:
    """Return every row of the ERP, in the order of models and keys."""
    rows = host.manage("dumpdata", "erp", "--format=jsonl", "--natural-foreign").stdout
    return [json.loads(line) for line in rows.splitlines()]


@pytest.fixture
def make_seeded() -> Callable[[Host], list[Any]]:
    """Return a function that seeds a host with fixed arguments and returns its content."""

    def make(host: Host) -> list[Any]:
        host.migrate()
        host.manage("seed_demo", "--items=30", "--transactions=300", f"--until={UNTIL}", "--seed=7")
        return content(host)

    return make


def test_same_arguments__make_the_same_data_on_both_databases(
    host: Host, pg_host: Host, make_seeded: Callable[[Host], list[Any]]
) -> None:
    """PostgreSQL and SQLite get equal rows, in every column of every table."""
    on_sqlite, on_postgresql = make_seeded(host), make_seeded(pg_host)

    assert len(on_sqlite) > 1000
    assert on_sqlite == on_postgresql


def test_second_run__writes_the_same_file_content(host: Host) -> None:
    """The same arguments make the same data again, down to the administrator's password hash."""
    host.migrate()
    options = ["--items=30", "--transactions=300", f"--until={UNTIL}", "--noinput", "--flush"]
    contents = []
    for _ in range(2):
        host.manage("seed_demo", *options)
        contents.append(content(host))

    assert contents[0] == contents[1]


def test_schema__is_the_same_after_seeding_postgresql(pg_host: Host) -> None:
    """What the bulk load drops it puts back: indexes, foreign keys and sequences."""
    inspect = (
        "from django.db import connection; cursor = connection.cursor();"
        "cursor.execute('SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1');"
        "print(cursor.fetchall());"
        "cursor.execute('SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid), convalidated"
        " FROM pg_constraint ORDER BY 1, 2'); print(cursor.fetchall())"
    )
    pg_host.migrate()
    before = pg_host.manage("shell", "--no-imports", "-c", inspect).stdout
    pg_host.seed()
    after = pg_host.manage("shell", "--no-imports", "-c", inspect).stdout

    assert "stock_ledger_item_id" in before
    assert before == after


def test_user_after_seeding_postgresql__gets_a_free_key(pg_host: Host) -> None:
    """The sequences stand behind the seeded rows."""
    pg_host.migrate()
    pg_host.seed(users=5)
    script = "from project.erp.models import User; print(User.objects.create_user('new@example.com').pk)"

    assert pg_host.manage("shell", "--no-imports", "-c", script).stdout == "6\n"


@pytest.mark.parametrize(
    ("quantity", "unit_price", "discount", "expected"),
    [(1000, 10000, 0, 100), (1500, 12345, 0, 185), (1, 50000, 0, 1), (1, 49999, 0, 0), (3000, 99999, 1000, 2700)],
)
def test_line_total__is_the_same_in_the_seed_and_in_the_model(
    quantity: int, unit_price: int, discount: int, expected: int
) -> None:
    """Integers and decimals round alike."""
    places = Decimal(quantity).scaleb(-3), Decimal(unit_price).scaleb(-4), Decimal(discount).scaleb(-2)

    assert expected == line_hundredths(quantity, unit_price, discount)
    assert Decimal(expected).scaleb(-2) == line_total(*places)


@pytest.mark.django_db
def test_level_below_zero__is_refused_by_the_database() -> None:
    """The check constraints are there."""
    seed()
    with pytest.raises(IntegrityError), transaction.atomic():
        StockLevel.objects.update(quantity=-1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Category.objects.exclude(parent=None).update(parent=F("pk"))

    assert not StockLevel.objects.filter(quantity__lt=0).exists()
    assert not Category.objects.filter(parent=F("pk")).exists()
