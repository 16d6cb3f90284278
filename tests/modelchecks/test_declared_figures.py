"""Declared figures: counts, totals, balances, rules."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import models
from django.db.models import Case, F, Q, Sum, Value, When

from erp_backup import AtMost, Balance, Count, Equal, Recent, Same, Total
from erp_backup.core.comparison import compare_measurements
from erp_backup.core.figures import MeasurementKind, Severity
from project.erp.models import Item, StockLedgerEntry, User
from tests.modelchecks.erp import Erp


class TestCount:
    """`Count`."""

    def test_filters_and_q__count_the_rows_that_match(self, erp: Erp) -> None:
        """Keyword filters and Q objects both select."""
        for number, active in enumerate([True, True, False]):
            User.objects.using(erp.alias).create(email=f"u{number}@example.org", is_active=active)
        check = Count("users", "erp.User", ~Q(email="u0@example.org"), is_active=True)

        assert "1" == erp.measured(check).value

    def test_no_rows__is_zero(self, erp: Erp) -> None:
        """An empty table is counted, not skipped."""
        assert "0" == erp.measured(Count("items", Item)).value


class TestRecent:
    """`Recent`."""

    @pytest.mark.parametrize(
        ("zone", "created_at", "expected"),
        [
            ("UTC", datetime(2026, 3, 3, 0, 0, tzinfo=UTC), "1"),
            ("UTC", datetime(2026, 3, 2, 23, 59, 59, 999999, tzinfo=UTC), "0"),
            # Midnight in Kathmandu, 5:45 ahead.
            ("Asia/Kathmandu", datetime(2026, 3, 2, 18, 15, tzinfo=UTC), "1"),
            ("Asia/Kathmandu", datetime(2026, 3, 2, 18, 14, 59, tzinfo=UTC), "0"),
        ],
    )
    def test_moment_at_the_cut_off__counts_from_the_projects_midnight(
        self, erp: Erp, settings: Any, zone: str, created_at: datetime, expected: str
    ) -> None:
        """Seven days begin at midnight of the project's time zone, as in the runbook's CURRENT_DATE."""
        settings.TIME_ZONE = zone
        erp.transaction(created_at)

        assert expected == erp.measured(Recent("recent", "erp.StockTransaction", "created_at")).value

    def test_evening_elsewhere__is_the_next_day_there(self, erp: Erp, settings: Any) -> None:
        """The snapshot's day is the project's, too."""
        settings.TIME_ZONE = "Asia/Kathmandu"
        erp.transaction(datetime(2026, 3, 10, 18, 14, tzinfo=UTC))
        check = Recent("recent", "erp.StockTransaction", "created_at", days=0)

        assert "1" == erp.measured(check, now=datetime(2026, 3, 10, 18, 14, tzinfo=UTC)).value
        assert "0" == erp.measured(check, now=datetime(2026, 3, 10, 18, 15, tzinfo=UTC)).value

    def test_later_drill__counts_what_the_backup_counted(self, erp: Erp) -> None:
        """The snapshot's time decides, not the drill's."""
        erp.transaction(datetime(2026, 3, 9, tzinfo=UTC))
        check = Recent("recent", "erp.StockTransaction", "created_at", days=2)

        assert "1" == erp.measured(check, now=datetime(2026, 3, 10, tzinfo=UTC)).value
        assert "0" == erp.measured(check, now=datetime(2026, 4, 10, tzinfo=UTC)).value

    def test_date_field__counts_whole_days(self, erp: Erp) -> None:
        """A date is compared with the day."""
        erp.item("new", launched_on="2026-03-08")
        erp.item("old", launched_on="2026-03-07")

        assert "1" == erp.measured(Recent("launched", "erp.Item", "launched_on", days=2)).value


class TestTotal:
    """`Total`."""

    def test_decimals_on_sqlite__are_exact_at_the_fields_places(self, erp: Erp) -> None:
        """A sum of tenths, which floating point gets wrong, is right."""
        erp.move(erp.item("a"), "0.1", "0.2", "0.3")
        check = Total("total", "erp.StockLedgerEntry", "quantity_change")

        assert "0.600" == erp.measured(check).value

    def test_no_rows__is_zero_at_the_fields_places(self, erp: Erp) -> None:
        """NULL, the sum of nothing, is a figure."""
        assert "0.000" == erp.measured(Total("total", "erp.StockLedgerEntry", "quantity_change")).value

    def test_product_of_decimals__has_the_places_of_both(self, erp: Erp) -> None:
        """Three places times four are seven."""
        erp.move(erp.item("a"), "0.001", "1.5")
        check = Total("value", "erp.StockLedgerEntry", F("quantity_change") * F("unit_cost"))

        assert "3.7525000" == erp.measured(check).value

    def test_places_given__round_to_them(self, erp: Erp) -> None:
        """`places` overrides the fields."""
        erp.move(erp.item("a"), "1.234")

        assert "1.2" == erp.measured(Total("t", "erp.StockLedgerEntry", "quantity_change", places=1)).value

    def test_negative_zero__has_no_sign(self, erp: Erp) -> None:
        """A sum that is a little below zero in floating point is 0."""
        erp.move(erp.item("a"), "0.3", "-0.1", "-0.2")

        assert "0.000" == erp.measured(Total("t", "erp.StockLedgerEntry", "quantity_change")).value

    def test_aggregate_with_filter__is_used_as_it_is(self, erp: Erp) -> None:
        """An amount may be an aggregate already."""
        erp.move(erp.item("a"), "5", "-2")
        amount = Sum("quantity_change", filter=Q(quantity_change__gt=0))

        assert "5.000" == erp.measured(Total("in", "erp.StockLedgerEntry", amount)).value


def _balances(**options: Any) -> Balance:
    given = {"amount": "quantity_change", "by": "item__name", **options}
    return Balance("stock.balances", "erp.StockLedgerEntry", **given)


class TestBalance:
    """`Balance`."""

    def test_two_items_of_one_name__stay_two(self, erp: Erp) -> None:
        """The row is grouped by, its text is only shown."""
        first, second = erp.item("Bolt"), erp.item("Bolt")
        erp.move(first, "1", "2")
        erp.move(second, "10")

        measured = erp.measured(_balances())

        assert {str(first.pk): "3.000", str(second.pk): "10.000"} == measured.rows
        assert {str(first.pk): "Bolt", str(second.pk): "Bolt"} == measured.labels
        assert (2, "13.000", MeasurementKind.MAPPING) == (measured.count, measured.value, measured.kind)

    def test_expression__groups_by_the_text_itself(self, erp: Erp) -> None:
        """`F` says that the text is meant."""
        erp.move(erp.item("Bolt"), "1")
        erp.move(erp.item("Bolt"), "10")

        assert {"Bolt": "11.000"} == erp.measured(_balances(by=F("item__name"))).rows

    def test_text_with_choices__is_grouped_by(self, erp: Erp) -> None:
        """A status of a related row is a key, not a name."""
        erp.move(erp.item("a", status="DRAFT"), "1")
        erp.move(erp.item("b", status="DRAFT"), "2")
        erp.move(erp.item("c", status="ACTIVE"), "4")

        assert {"ACTIVE": "4.000", "DRAFT": "3.000"} == erp.measured(_balances(by="item__status")).rows

    def test_several_keys__name_each_combination(self, erp: Erp) -> None:
        """Item and warehouse together are the key, and the label."""
        item = erp.item("Bolt")
        erp.move(item, "1", warehouse="W1")
        erp.move(item, "2", warehouse="W2")
        one, two = erp.warehouse("W1"), erp.warehouse("W2")

        measured = erp.measured(_balances(by=["item__name", "warehouse"]))

        keys = [f'["{item.pk}", "{warehouse.pk}"]' for warehouse in (one, two)]
        assert {keys[0]: "1.000", keys[1]: "2.000"} == measured.rows
        assert {keys[0]: "Bolt / W1 Warehouse W1", keys[1]: "Bolt / W2 Warehouse W2"} == measured.labels

    def test_zero_balance__is_left_out_unless_asked_for(self, erp: Erp) -> None:
        """Also one that is 0 only at the field's places, as floating point leaves it."""
        item = erp.item("a")
        erp.move(item, "0.1", "0.2", "-0.3")

        assert {} == erp.measured(_balances()).rows
        assert {str(item.pk): "0.000"} == erp.measured(_other_name(nonzero=False)).rows

    def test_sign_in_another_column__is_an_expression(self, erp: Erp) -> None:
        """The ERP's own way to say which direction an entry has."""
        item = erp.item("a")
        erp.move(item, "5", "-2")
        sign = Case(When(quantity_change__gt=5, then=Value(Decimal(-1))), default=Value(Decimal(1)))
        amount = sign * F("quantity_change")

        assert {str(item.pk): "3.000"} == erp.measured(_balances(amount=amount)).rows

    def test_amount_that_is_null__counts_as_zero(self, erp: Erp) -> None:
        """A filtered sum over nothing is 0, not missing."""
        item = erp.item("a")
        erp.move(item, "-5")
        amount = Sum("quantity_change", filter=Q(quantity_change__gt=0))

        assert {str(item.pk): "0.000"} == erp.measured(_balances(amount=amount, nonzero=False)).rows

    def test_two_balances_swapped__are_two_findings_while_the_total_agrees(self, erp: Erp, other_erp: Erp) -> None:
        """The comparison names both items."""
        for side, amounts in (erp, ("10", "20")), (other_erp, ("20", "10")):
            for name, amount in zip(("Bolt", "Nut"), amounts, strict=True):
                side.move(side.item(name), amount)
        check = _balances()
        before, after = erp.measured(check), other_erp.measured(check)

        findings = compare_measurements([before], [after])

        assert before.value == after.value
        assert ["stock.balances [Bolt]", "stock.balances [Nut]"] == [finding.subject for finding in findings]
        assert [("10.000", "20.000"), ("20.000", "10.000")] == [(f.expected, f.found) for f in findings]

    def test_more_keys_than_are_kept__differ_by_digest(self, erp: Erp, other_erp: Erp) -> None:
        """A swap among 501 keys is found although no row is kept."""
        for side in (erp, other_erp):
            items = [side.item(f"i{number}") for number in range(501)]
            amounts = list(range(1, 502))
            if side is other_erp:
                amounts[0], amounts[1] = amounts[1], amounts[0]
            transaction, warehouse = side.transaction(), side.warehouse()
            StockLedgerEntry.objects.using(side.alias).bulk_create(
                StockLedgerEntry(
                    transaction=transaction, warehouse=warehouse, item=item, quantity_change=amount, unit_cost=1
                )
                for item, amount in zip(items, amounts, strict=True)
            )
        check = _balances()
        before, after = erp.measured(check), other_erp.measured(check)

        assert (None, 501, {}) == (before.rows, before.count, before.labels)
        assert (before.value, before.count) == (after.value, after.count)
        assert [] == compare_measurements([before], [erp.measured(check)])
        assert ["stock.balances"] == [finding.subject for finding in compare_measurements([before], [after])]

    def test_item_whose_text_cannot_be_made__is_shown_by_its_key(
        self, erp: Erp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ERP's own __str__ may raise; the figures stand."""
        item = erp.item("a")
        erp.move(item, "1")
        monkeypatch.setattr(Item, "__str__", lambda self: self.nothing)

        measured = erp.measured(_balances(by="item"))

        assert ({str(item.pk): "1.000"}, {}) == (measured.rows, measured.labels)

    def test_hidden_by_a_manager__is_measured_all_the_same(self, erp: Erp, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the ERP hides from its users is data too."""
        erp.move(erp.item("a"), "1")
        monkeypatch.setattr(models.Manager, "get_queryset", lambda self: models.QuerySet(self.model).none())

        assert 0 == StockLedgerEntry.objects.using(erp.alias).count()
        assert 1 == erp.measured(_balances()).count


def _other_name(**options: Any) -> Balance:
    given = {"amount": "quantity_change", "by": "item__name", **options}
    return Balance("stock.all_balances", "erp.StockLedgerEntry", **given)


class TestRules:
    """`Equal` and `AtMost`."""

    def test_decimals_on_sqlite__make_no_false_findings(self, erp: Erp) -> None:
        """800 items whose ledgers add up exactly, which a sum of floating-point numbers denies for many."""
        transaction, warehouse = erp.transaction(), erp.warehouse()
        template = erp.item("first")
        items = Item.objects.using(erp.alias).bulk_create(
            Item(sku=f"S{n}", name=f"n{n}", category_id=template.category_id, on_hand=Decimal(n * 7) / 1000)
            for n in range(1, 801)
        )
        parts = [Decimal(n) / 1000 for n in (1, 2, 4)]
        StockLedgerEntry.objects.using(erp.alias).bulk_create(
            StockLedgerEntry(
                transaction=transaction, warehouse=warehouse, item=item, quantity_change=n * part, unit_cost=0
            )
            for n, item in enumerate(items, start=1)
            for part in parts
        )
        total = Sum("ledger_entries__quantity_change")
        naive = Item.objects.using(erp.alias).annotate(total=total).filter(~Q(on_hand=F("total")))

        assert naive.count() > 100
        assert "0" == erp.measured(Equal("on_hand", "erp.Item", "on_hand", total)).value

    def test_off_by_the_last_place__is_found_and_shown(self, erp: Erp) -> None:
        """A thousandth is a difference."""
        good, bad = erp.item("good", on_hand="3.000"), erp.item("bad", on_hand="3.001")
        erp.move(good, "1", "2")
        erp.move(bad, "1", "2")

        measured = erp.measured(Equal("on_hand", "erp.Item", "on_hand", Sum("ledger_entries__quantity_change")))

        assert ("1", MeasurementKind.INVARIANT) == (measured.value, measured.kind)
        assert {str(bad.pk): "on_hand 3.001 ≠ 3.000"} == measured.rows

    def test_rows_without_related_rows__count_as_zero(self, erp: Erp) -> None:
        """No ledger means nothing on hand."""
        erp.item("empty", on_hand="0")
        wrong = erp.item("wrong", on_hand="1")

        measured = erp.measured(Equal("on_hand", "erp.Item", "on_hand", Sum("ledger_entries__quantity_change")))

        assert {str(wrong.pk): "on_hand 1.000 ≠ 0.000"} == measured.rows

    def test_filters__select_the_rows_that_must_keep_the_rule(self, erp: Erp) -> None:
        """Drafts need not add up."""
        erp.item("draft", on_hand="1", status="DRAFT")
        total = Sum("ledger_entries__quantity_change")

        assert "0" == erp.measured(Equal("on_hand", "erp.Item", "on_hand", total, status="ACTIVE")).value

    def test_moments__are_compared_as_they_are(self, erp: Erp) -> None:
        """What is no number is equal or not; two NULLs are."""
        moment = datetime(2026, 3, 1, tzinfo=UTC)
        dated, bare, off = erp.item("dated"), erp.item("bare"), erp.item("off")
        for item, at in (dated, moment), (bare, None), (off, NOW_LATER):
            Item.objects.using(erp.alias).filter(pk=item.pk).update(launched_on=at)
        erp.move(dated, "1")
        erp.move(off, "1")
        latest = models.Max("ledger_entries__transaction__created_at__date")
        StockLedgerEntry.objects.using(erp.alias).update(created_at=moment)
        for entry in StockLedgerEntry.objects.using(erp.alias):
            type(entry.transaction).objects.using(erp.alias).filter(pk=entry.transaction_id).update(created_at=moment)

        measured = erp.measured(Equal("launched", "erp.Item", "launched_on", latest))

        assert [str(off.pk)] == list(measured.rows or {})

    def test_at_most__names_the_rows_that_pass(self, erp: Erp) -> None:
        """The limit itself is allowed."""
        at, over = erp.item("at", reorder_level="5"), erp.item("over", reorder_level="5")
        erp.move(at, "2.5", "2.5")
        erp.move(over, "2.5", "2.501")
        check = AtMost("limit", "erp.Item", Sum("ledger_entries__quantity_change"), "reorder_level")

        assert {str(over.pk): "5.001 > reorder_level 5.000"} == erp.measured(check).rows

    def test_number__bounds_a_field(self, erp: Erp) -> None:
        """Never negative."""
        erp.item("good", on_hand="0")
        bad = erp.item("bad", on_hand="-0.001")

        assert [str(bad.pk)] == list(erp.measured(AtMost("stock", "erp.Item", 0, "on_hand")).rows or {})

    def test_broken_in_the_source_too__is_not_blamed_on_the_restore(self, erp: Erp) -> None:
        """The same offending rows are the source's; others are the restore's."""
        erp.item("bad", on_hand="-1")
        check = AtMost("stock", "erp.Item", 0, "on_hand")
        before = erp.measured(check)
        same = compare_measurements([before], [erp.measured(check)])
        erp.item("worse", on_hand="-2")
        worse = compare_measurements([before], [erp.measured(check)])

        assert [Severity.SOURCE] == [finding.severity for finding in same]
        assert [Severity.FAILED] == [finding.severity for finding in worse]


NOW_LATER = datetime(2026, 3, 2, tzinfo=UTC)


class TestSame:
    """`Same`."""

    def test_changed_field__names_the_row(self, erp: Erp) -> None:
        """One digest for each key."""
        erp.item("a", price="1.00")
        erp.item("b", price="2.00")
        check = Same("prices", "erp.Item", "price", "unit", by="sku")
        before = erp.measured(check)
        Item.objects.using(erp.alias).filter(name="b").update(price="2.01")

        findings = compare_measurements([before], [erp.measured(check)])

        assert ["prices [SKU-2]"] == [finding.subject for finding in findings]
        assert ("2", 2) == (before.value, before.count)

    def test_other_field__does_not_matter(self, erp: Erp) -> None:
        """Only what was named must be as it was."""
        erp.item("a", price="1.00")
        check = Same("prices", "erp.Item", "price")
        before = erp.measured(check)
        Item.objects.using(erp.alias).update(name="renamed")

        assert [] == compare_measurements([before], [erp.measured(check)])


class TestOnPostgresql:
    """The same declarations on the other database."""

    def test_every_kind__gives_the_figures_that_sqlite_gives(self, erp: Erp, pg_erp: Erp) -> None:
        """Digests too, so that a figure does not depend on how a database stores decimals."""
        for side in (erp, pg_erp):
            for name, changes in {"a": ("0.1", "0.2", "-0.3"), "b": ("0.7", "0.1"), "c": ("12345678.125",)}.items():
                side.move(side.item(name, on_hand="0.8"), *changes)
            side.move(Item.objects.using(side.alias).get(name="b"), "4", warehouse="W2")
        entries, total = "erp.StockLedgerEntry", Sum("ledger_entries__quantity_change")
        checks = [
            Count("count", "erp.Item", name__in=["a", "b"]),
            Total("total", entries, F("quantity_change") * F("unit_cost")),
            Recent("recent", "erp.StockTransaction", "created_at"),
            Balance("balance", entries, amount="quantity_change", by=[F("item__name"), F("warehouse__code")]),
            Same("same", "erp.Item", "on_hand", "attributes", "launched_on", by="name"),
        ]
        rules = [Equal("equal", "erp.Item", "on_hand", total), AtMost("most", "erp.Item", total, "on_hand")]
        ours = [erp.measured(check) for check in checks]
        theirs = [pg_erp.measured(check) for check in checks]

        assert [] == compare_measurements(ours, theirs)
        assert [m.digest for m in ours] == [m.digest for m in theirs]
        for rule in rules:
            broken = {tuple((erp_.measured(rule).rows or {}).values()) for erp_ in (erp, pg_erp)}
            assert 1 == len(broken), broken

    def test_sum_beyond_floating_point__is_exact(self, pg_erp: Erp) -> None:
        """Fourteen digits many times over."""
        item = pg_erp.item("a")
        pg_erp.move(item, *["99999999999.999"] * 20)

        measured = pg_erp.measured(Total("t", "erp.StockLedgerEntry", F("quantity_change") * F("quantity_change")))

        assert "199999999999996000000000.000020" == measured.value
