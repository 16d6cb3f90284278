"""Where model checks are declared: in modules, in the settings, for a while."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.db.models import F, Sum

import erp_backup
from erp_backup import AtMost, Balance, Count, Equal, Recent, Same, Total, model_check
from erp_backup.exceptions import ConfigurationError
from erp_backup.modelchecks.declared import all_checks, checks_for, parse
from erp_backup.modelchecks.functions import FunctionCheck
from erp_backup.modelchecks.registry import Registry, current, register_temporarily, validate
from tests.modelchecks import host_functions
from tests.modelchecks.erp import Erp

BALANCE = {
    "kind": "balance",
    "name": "stock.balances",
    "model": "erp.StockLedgerEntry",
    "amount": "quantity_change",
    "by": ["item", "warehouse"],
}


class TestPublicApi:
    """What an ERP imports."""

    def test_all_names__are_there(self) -> None:
        """Each public name leads to what it says."""
        assert sorted(erp_backup.__all__) == [getattr(erp_backup, name).__name__ for name in sorted(erp_backup.__all__)]

    def test_import_of_the_package__needs_no_django(self) -> None:
        """The version is read by build tools, and Django imports the package before models may be imported."""
        program = (
            "import sys, erp_backup\n"
            "assert erp_backup.__version__\n"
            "assert not [name for name in sys.modules if name.startswith('django')]\n"
            "from erp_backup import Count, model_check\n"
            "Count('users.active', 'auth.User', is_active=True)\n"
        )

        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)

    def test_unknown_name__is_an_attribute_error(self) -> None:
        """As for every module."""
        with pytest.raises(AttributeError, match="has no attribute 'Cuont'"):
            getattr(erp_backup, "Cuont")  # noqa: B009 - the checker knows that it does not exist


class TestRegistry:
    """Declarations register themselves."""

    def test_two_of_one_name__are_refused_naming_both_places(self) -> None:
        """Whoever reads the message finds both lines."""
        Count("users", "erp.User")

        with pytest.raises(ConfigurationError) as caught:
            Count("users", "erp.Item")

        assert 2 == str(caught.value).count("tests.modelchecks.test_declarations, line ")
        assert "'users'" in str(caught.value)

    def test_temporary_registration__is_forgotten(self, registered: Registry) -> None:
        """The block's declarations end with it; what was there before is seen in it unless it is empty."""
        Count("before", "erp.User")
        with register_temporarily() as more:
            Count("within", "erp.User")
            names = [check.name for check in more]
        with register_temporarily(empty=True) as none:
            alone = len(none)

        assert (["before", "within"], 0) == (names, alone)
        assert ["before"] == [check.name for check in current()]
        assert current() is registered

    @pytest.mark.parametrize("name", ["", "two words", "x" * 101])
    def test_name_that_is_none__is_refused(self, name: str) -> None:
        """Names stand in reports, options and URLs."""
        with pytest.raises(ConfigurationError, match="is named"):
            Count(name, "erp.User")

    def test_decorated_function__stays_itself(self, registered: Registry) -> None:
        """The ERP can go on calling it."""

        @model_check("answer", unit="things")
        def answer(using: str) -> int:
            return 42

        assert 42 == answer("default")
        assert ["answer"] == [check.name for check in registered]

    def test_function_with_arguments_of_its_own__is_refused(self) -> None:
        """Nobody would give them."""
        with pytest.raises(ConfigurationError, match="an argument 'company'"):
            model_check("wrong")(lambda using, company: 1)

    def test_function_without_using__is_run_apart(self, registered: Registry) -> None:
        """It would read the live database here."""
        model_check("apart")(lambda: 1)
        model_check("here")(lambda using, company="all": 1)

        assert {"apart": True, "here": False} == {check.name: check.is_isolated for check in registered}

    def test_model_check_of_another_database__is_not_of_this_one(self) -> None:
        """Each belongs to the backups of one alias."""
        Count("here", "erp.User")
        Count("there", "erp.User", database="other")

        assert "here" in {check.name for check in checks_for("default")}
        assert ["there"] == [c.name for c in checks_for("other") if not c.name.startswith("erp_backup.")]


class TestValidation:
    """`validate` finds what would fail in the night."""

    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda: Count("x", "erp.Itm"), "There is no model 'erp.Itm'. Did you mean 'erp.Item'?"),
            (lambda: Count("x", "nothing"), "There is no model 'nothing'."),
            (lambda: Count("x", "erp.User", is_actve=True), "no field 'is_actve'. Did you mean 'is_active'?"),
            (lambda: Total("x", "erp.StockLedgerEntry", "quantity_chang"), "Did you mean 'quantity_change'?"),
            (lambda: Recent("x", "erp.StockTransaction", "creatd_at"), "Did you mean 'created_at'?"),
            (lambda: Balance("x", "erp.StockLedgerEntry", amount="unit_cost", by="itm__name"), "Did you mean 'item'?"),
            (lambda: Balance("x", "erp.StockLedgerEntry", amount="unit_cost", by=[]), "by names no key"),
            (lambda: Equal("x", "erp.Item", "on_hnd", Sum("ledger_entries__unit_cost")), "Did you mean 'on_hand'?"),
            (lambda: AtMost("x", "erp.Item", 0, "on_hnd"), "no field 'on_hnd'"),
            (lambda: Same("x", "erp.Item", "prize"), "Did you mean 'price'?"),
            (lambda: Same("x", "erp.Item"), "it names no field"),
            (lambda: Total("x", "erp.Item", object()), "neither a field's name nor a Django expression"),  # type: ignore[arg-type]  # on purpose
        ],
    )
    def test_wrong_declaration__is_a_sentence_that_names_it(self, make: Any, problem: str) -> None:
        """With its place and the nearest word; no database is read."""
        [message] = validate([make()])

        assert problem in message
        assert message.startswith("Model check 'x' (tests.modelchecks.test_declarations, line ")

    def test_right_declarations__have_no_problem(self) -> None:
        """Expressions, paths and built-in ones are fine."""
        Balance(
            "a", "erp.StockLedgerEntry", amount=F("quantity_change") * F("unit_cost"), by=["item", "warehouse__name"]
        )
        Recent("b", "erp.StockLedgerEntry", "transaction__created_at", item__status="ACTIVE")

        assert [] == validate(all_checks("default"))


class TestSettings:
    """`ERP_BACKUP["MODEL_CHECKS"]`: no code in the ERP."""

    def test_count__counts(self, erp: Erp) -> None:
        """Filters are a dictionary."""
        erp.item("a", unit="kg")
        erp.item("b", unit="pcs")
        [check] = parse([{"kind": "count", "name": "kilograms", "model": "erp.Item", "filters": {"unit": "kg"}}])

        assert "1" == erp.measured(check).value
        assert "ERP_BACKUP['MODEL_CHECKS'][0]" == check.place

    def test_every_kind__measures(self, erp: Erp) -> None:
        """All that can be declared in code can be declared here."""
        item = erp.item("a", on_hand="2", reorder_level="1")
        erp.move(item, "2.5")
        entries, total = "erp.StockLedgerEntry", {"sum": "ledger_entries__quantity_change"}
        declared = parse(
            [
                BALANCE,
                {"kind": "total", "name": "t", "model": entries, "amount": "unit_cost", "unit": "EUR", "places": 1},
                {"kind": "recent", "name": "r", "model": "erp.StockTransaction", "field": "created_at", "days": 1},
                {"kind": "equal", "name": "e", "model": "erp.Item", "field": "on_hand", "aggregate": total},
                {"kind": "at_most", "name": "m", "model": "erp.Item", "smaller": "reorder_level", "greater": total},
                {"kind": "same", "name": "s", "model": "erp.Item", "fields": ["price", "name"], "by": "sku"},
            ]
        )

        measured = {check.name: erp.measured(check) for check in declared}

        key = f'["{item.pk}", "{erp.warehouse().pk}"]'
        assert {key: "2.500"} == measured["stock.balances"].rows
        assert ("2.5", "EUR") == (measured["t"].value, measured["t"].unit)
        assert ["1", "1", "0", "1"] == [measured[name].value for name in "rems"]
        assert {str(item.pk): "on_hand 2.000 ≠ 2.500"} == measured["e"].rows

    def test_dotted_path_of_a_function__is_named_by_its_path(self, erp: Erp) -> None:
        """A function of the ERP's own, which need not know of us."""
        path = "tests.modelchecks.host_functions.count_items"
        [check] = parse([path])

        assert isinstance(check, FunctionCheck)
        assert (path, True, host_functions.count_items) == (check.name, check.is_isolated, check.function)

    def test_dotted_path_of_a_declaration__is_that_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not declared twice."""
        declared = Count("users", "erp.User")
        monkeypatch.setattr(host_functions, "USERS", declared, raising=False)

        assert declared in checks_for("default", ["tests.modelchecks.host_functions.USERS"])

    def test_reading_twice__registers_nothing(self) -> None:
        """Settings may change; what they declared is nobody's registered declaration."""
        parse([BALANCE])
        parse([BALANCE])

        assert [] == list(current())

    def test_name_that_code_has_too__is_refused(self) -> None:
        """Both places are named."""
        Count("stock.balances", "erp.User")

        with pytest.raises(ConfigurationError, match=r"test_declarations, line .*ERP_BACKUP\['MODEL_CHECKS'\]\[0\]"):
            checks_for("default", [BALANCE])

    @pytest.mark.parametrize(
        ("declaration", "message"),
        [
            ({"kind": "cuont"}, r"\[0\] has the kind 'cuont'. Did you mean 'count'\?"),
            ({"name": "x"}, r"\[0\] has the kind None"),
            ({**BALANCE, "amout": 1}, r"\[0\] has an unknown key 'amout'. Did you mean 'amount'\?"),
            ({"kind": "count", "name": "x"}, r"\[0\] lacks 'model', which a 'count' needs"),
            ({"kind": "same", "name": "x", "model": "erp.Item"}, r"\[0\] lacks 'fields'"),
            ({"kind": "count", "name": "x", "model": "erp.Item", "filters": []}, "'filters' is no dictionary"),
            ({**BALANCE, "amount": {"smu": "unit_cost"}}, r"is no aggregate. Did you mean 'sum'\?"),
            ("tests.nowhere.at_all", r"\[0\] cannot be imported"),
            ("tests.modelchecks.erp.NOW", "neither a model check nor a function"),
            (7, r"\[0\] is int"),
        ],
    )
    def test_declaration_that_means_nothing__is_refused_in_words(self, declaration: object, message: str) -> None:
        """With its place in the settings."""
        with pytest.raises(ConfigurationError, match=message):
            parse([declaration])

    @pytest.mark.parametrize(
        ("declaration", "problem"),
        [
            ({**BALANCE, "model": "erp.StockLedgrEntry"}, "Did you mean 'erp.StockLedgerEntry'?"),
            ({**BALANCE, "amount": "quantity"}, "Did you mean 'quantity_change'?"),
            ({**BALANCE, "filters": {"itm": 1}}, "Did you mean 'item'?"),
        ],
    )
    def test_unknown_model_or_field__is_found_by_validation(self, declaration: Any, problem: str) -> None:
        """Apps may not be loaded yet when the settings are read."""
        [message] = validate(parse([declaration]))

        assert problem in message
        assert "ERP_BACKUP['MODEL_CHECKS'][0]" in message
