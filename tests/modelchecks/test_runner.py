"""Running model checks: each by itself, in time, on the right database."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import QuerySet

from erp_backup import Count, Invariant, Measurement, model_check
from erp_backup.core.errors import InterruptedBySignal
from erp_backup.core.figures import MeasurementKind
from erp_backup.modelchecks.base import ModelCheck
from erp_backup.modelchecks.functions import FunctionCheck
from erp_backup.modelchecks.registry import Registry, register_temporarily
from project.erp.models import Item, Warehouse
from tests.modelchecks.erp import NOW, Erp

FOREVER_ON_SQLITE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


class TestResults:
    """What a function may return."""

    def measured(self, erp: Erp, returned: Any, **options: Any) -> Measurement:
        """Return the measurement of a function that returns that."""
        check = self.check(lambda using: returned, **options)
        [measurement] = erp.measure(check)
        return measurement

    def check(self, function: Callable[..., Any], **options: Any) -> ModelCheck:
        """Return the model check of a function."""
        with register_temporarily(empty=True):
            return FunctionCheck("returned", function, **options)

    @pytest.mark.parametrize(
        ("returned", "value"),
        [
            (3, "3"),
            (10**30, "1" + "0" * 30),
            (Decimal("1E+3"), "1000"),
            (Decimal("-0.00"), "0.00"),
            (0.1 + 0.2, "0.300000000000"),
        ],
    )
    def test_number__is_a_figure_without_exponent(self, erp: Erp, returned: Any, value: str) -> None:
        """Figures are decimals that people can read."""
        assert value == self.measured(erp, returned).value

    def test_dictionary__is_a_mapping(self, erp: Erp) -> None:
        """Keys of several parts stand as JSON, None has a word."""
        measured = self.measured(erp, {("a", 1): 2, None: Decimal("0.5")}, places=1, unit="EUR")

        assert {'["a", "1"]': "2.0", "(null)": "0.5"} == measured.rows
        assert ("2.5", 2, "EUR") == (measured.value, measured.count, measured.unit)

    def test_queryset__is_the_offending_rows(self, erp: Erp) -> None:
        """A lazy queryset is evaluated while the guard and the time limit hold."""
        bad = erp.item("bad", on_hand="-1")

        measured = self.measured(erp, Item.objects.using(erp.alias).filter(on_hand__lt=0))

        assert (MeasurementKind.INVARIANT, "1", 1) == (measured.kind, measured.value, measured.count)
        assert {str(bad.pk): "SKU-1 bad"} == measured.rows

    def test_many_offending_rows__are_counted_and_sampled(self, erp: Erp) -> None:
        """At most twenty are shown; the digest covers all."""
        items = [erp.item(f"i{number}") for number in range(25)]
        rows = Item.objects.using(erp.alias).all()
        all_of_them = self.measured(erp, Invariant(rows))
        last = Item.objects.using(erp.alias).exclude(pk=items[24].pk)

        assert ("25", 20) == (all_of_them.value, len(all_of_them.rows or {}))
        assert all_of_them.digest == self.measured(erp, rows.order_by("-pk")).digest
        assert all_of_them.digest != self.measured(erp, last).digest

    def test_other_rows__are_offending_rows_too(self, erp: Erp) -> None:
        """Text, tuples, sliced querysets."""
        item = erp.item("a")

        assert {"first": "", '["x", "1"]': ""} == self.measured(erp, Invariant(["first", ("x", 1)])).rows
        assert {str(item.pk): "SKU-1 a"} == self.measured(erp, Item.objects.using(erp.alias).all()[:5]).rows

    @pytest.mark.parametrize("returned", [True, None, "3", [1], {"a": True}])
    def test_anything_else__is_an_error_that_says_so(self, erp: Erp, returned: Any) -> None:
        """A yes is no figure, and neither is nothing."""
        assert self.measured(erp, returned).error.startswith("TypeError: ")

    def test_measurement__keeps_its_name(self, erp: Erp) -> None:
        """What a function measured itself is stored under its own name."""
        given = Measurement(check="mine", value="7")

        assert ("returned", "7") == (self.measured(erp, given).check, self.measured(erp, given).value)

    def test_now__is_the_snapshots_time(self, erp: Erp) -> None:
        """A function may ask for it."""
        check = self.check(lambda using, now: int(now == NOW))

        assert "1" == erp.measured(check).value


class TestFailures:
    """A model check that fails is a result, and the others run."""

    def test_one_that_raises__leaves_the_others(self, erp: Erp, registered: Registry) -> None:
        """Its error is one line; what follows is measured."""

        @model_check("a.raises")
        def raises(using: str) -> int:
            raise ValueError("two\nlines " + "x" * 400)

        broken, whole = erp.measure(*registered, Count("b.whole", "erp.Item"))

        assert broken.error.startswith("ValueError: two lines xxx")
        assert (300, False) == (len(broken.error), broken.timed_out)
        assert ("0", "") == (whole.value, whole.error)

    def test_error_of_the_database__does_not_abort_the_transaction_of_the_others(
        self, pg_erp: Erp, registered: Registry
    ) -> None:
        """Inside the snapshot's one transaction each has a savepoint."""

        @model_check("a.sql")
        def sql(using: str) -> int:
            connections[using].cursor().execute("SELECT 1 / 0")
            return 0

        with transaction.atomic(using=pg_erp.alias):
            broken, whole = pg_erp.measure(*registered, Count("b.whole", "erp.Item"))

        assert broken.error.startswith("DataError: division by zero")
        assert "0" == whole.value

    def test_error_of_the_database_without_autocommit__is_rolled_back_too(
        self, pg_erp: Erp, registered: Registry
    ) -> None:
        """A snapshot's alias may hold its transaction by `set_autocommit(False)`."""

        @model_check("a.sql")
        def sql(using: str) -> int:
            connections[using].cursor().execute("SELECT 1 / 0")
            return 0

        transaction.set_autocommit(False, using=pg_erp.alias)
        try:
            broken, whole = pg_erp.measure(*registered, Count("b.whole", "erp.Item"))
        finally:
            transaction.rollback(using=pg_erp.alias)
            transaction.set_autocommit(True, using=pg_erp.alias)

        assert ("", "0") == (whole.error, whole.value)
        assert "division" in broken.error

    def test_what_a_check_writes__does_not_stay(self, erp: Erp, registered: Registry) -> None:
        """Everything it did is rolled back."""

        @model_check("writes")
        def writes(using: str) -> int:
            Warehouse.objects.using(using).create(code="X", name="X", city="X", country="ID")
            return Warehouse.objects.using(using).count()

        [measured] = erp.measure(*registered)

        assert "1" == measured.value
        assert 0 == Warehouse.objects.using(erp.alias).count()

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedBySignal(15, "SIGTERM"), SystemExit(3)])
    def test_what_stops_the_run__is_passed_on(self, erp: Erp, error: BaseException, registered: Registry) -> None:
        """A signal is nobody's finding."""

        @model_check("stops")
        def stops(using: str) -> int:
            raise error

        with pytest.raises(type(error)):
            erp.measure(*registered)

    def test_without_a_process_of_its_own__says_so(self, erp: Erp, registered: Registry) -> None:
        """A function without `using` is never run here, where it would read the live database."""

        @model_check("alone")
        def alone() -> int:
            raise AssertionError("it ran")

        [measured] = erp.measure(*registered)

        assert "no process of its own" in measured.error


class TestGuard:
    """A check that reads another database has measured nothing."""

    def test_default_read__is_an_error_and_no_figure(self, erp: Erp, registered: Registry) -> None:
        """It forgot `using`, which would read the live database."""

        @model_check("forgets")
        def forgets(using: str) -> int:
            return Item.objects.count()

        [measured] = erp.measure(*registered)

        assert "It read the database 'default' instead of the one in `using`" in measured.error
        assert "" == measured.value

    def test_lazy_queryset_of_default__is_an_error(self, erp: Erp, registered: Registry) -> None:
        """It is read only after the function has returned."""

        @model_check("forgets")
        def forgets(using: str) -> QuerySet[Item]:
            return Item.objects.all()

        assert "'default'" in erp.measure(*registered)[0].error

    def test_refusal_swallowed__is_an_error_all_the_same(self, erp: Erp, registered: Registry) -> None:
        """A figure that was made up afterwards does not count."""

        @model_check("swallows")
        def swallows(using: str) -> int:
            with suppress(Exception):
                return Item.objects.count()
            return 42

        assert "'default'" in erp.measure(*registered)[0].error

    def test_raw_cursor_of_default__is_an_error(self, erp: Erp, registered: Registry) -> None:
        """Plain SQL does not slip through."""

        @model_check("raw")
        def raw(using: str) -> int:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            return 1

        assert "'default'" in erp.measure(*registered)[0].error

    def test_after_the_run__default_is_readable_again(self, erp: Erp) -> None:
        """The refusal ends with the check."""
        erp.measured(Count("items", "erp.Item"))

        with connection.cursor() as cursor:
            assert (1,) == cursor.execute("SELECT 1").fetchone()
        connection.close()


class TestTimeLimit:
    """A model check ends when its time is over, whatever it does."""

    def measure_late(self, erp: Erp, registered: Registry, function: Callable[[str], int]) -> None:
        """Run a function that would take for ever, and one after it."""
        model_check("a.late", time_limit=0.3)(function)
        started = time.monotonic()
        with no_alarm_left():
            late, whole = erp.measure(*registered, Count("b.whole", "erp.Item"))

        assert (True, "", "It ran for longer than its time limit of 0.3 s.") == (late.timed_out, late.value, late.error)
        assert ("0", False) == (whole.value, whole.timed_out)
        assert time.monotonic() - started < 20

    def test_sleep_in_python__is_ended(self, erp: Erp, registered: Registry) -> None:
        """No statement runs that a database could end."""
        self.measure_late(erp, registered, sleep_long)

    def test_loop_in_python_that_catches_exceptions__is_ended(self, erp: Erp, registered: Registry) -> None:
        """`except Exception` does not catch it."""

        def loop(using: str) -> int:
            while True:
                with suppress(Exception):
                    time.sleep(0.01)

        self.measure_late(erp, registered, loop)

    def test_statement_of_sqlite__is_ended(self, erp: Erp, registered: Registry) -> None:
        """A recursion that never ends."""
        self.measure_late(
            erp, registered, lambda using: connections[using].cursor().execute(FOREVER_ON_SQLITE).fetchone()[0]
        )

    def test_statement_of_postgresql__is_ended(self, pg_erp: Erp, registered: Registry) -> None:
        """pg_sleep, at the server."""
        self.measure_late(
            pg_erp, registered, lambda using: connections[using].cursor().execute("SELECT pg_sleep(60)") or 0
        )

    def test_sleep_beside_a_transaction__leaves_the_connection_usable(self, pg_erp: Erp, registered: Registry) -> None:
        """The snapshot's transaction goes on."""
        with transaction.atomic(using=pg_erp.alias):
            self.measure_late(pg_erp, registered, sleep_long)
            with connections[pg_erp.alias].cursor() as cursor:
                cursor.execute("SHOW statement_timeout")
                assert ("0",) == cursor.fetchone()

    def test_statement_that_swallows_its_end__is_late(self, pg_erp: Erp, registered: Registry) -> None:
        """A value that was made up after the limit is none."""

        def swallow(using: str) -> int:
            with suppress(BaseException):
                connections[using].cursor().execute("SELECT pg_sleep(60)")
            return 42

        self.measure_late(pg_erp, registered, swallow)

    @pytest.mark.parametrize("kind", ["erp", "pg_erp"])
    def test_in_another_thread__statements_are_ended(
        self, request: pytest.FixtureRequest, kind: str, registered: Registry
    ) -> None:
        """Where Python hears no signals, the database and the next statement keep the limit."""
        erp: Erp = request.getfixturevalue(kind)
        endless = FOREVER_ON_SQLITE if kind == "erp" else "SELECT pg_sleep(60)"
        model_check("late", time_limit=0.3)(lambda using: connections[using].cursor().execute(endless).fetchone())
        checks = list(registered)
        results: list[Measurement] = []

        def run() -> None:
            results.extend(erp.measure(*checks))
            connections[erp.alias].close()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(60)

        assert [(True, "")] == [(result.timed_out, result.value) for result in results]

    def test_alarm_of_somebody_else__comes_back(self, erp: Erp) -> None:
        """The caller's own timer goes on, with what is left of it."""
        rung: list[int] = []

        def ring(number: int, frame: FrameType | None) -> None:
            rung.append(number)

        previous = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1000)
            erp.measured(Count("items", "erp.Item"))
            left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
            handler = signal.getsignal(signal.SIGALRM)
        finally:
            signal.signal(signal.SIGALRM, previous)

        assert (ring, []) == (handler, rung)
        assert 900 < left <= 1000


def sleep_long(using: str) -> int:
    """Do nothing, for longer than any limit."""
    time.sleep(60)
    return 0


@contextmanager
def no_alarm_left() -> Iterator[None]:
    """Assert that the block leaves handler and timer as they were."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert (before, (0.0, 0.0)) == (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL))
