"""Sizes, counts, durations and ages as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_backup.core.units import format_age, format_count, format_duration, format_size


class TestFormatSize:
    """Bytes."""

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 bytes"),
            (1, "1 byte"),
            (532, "532 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (1_249_999, "1.2 MB"),
            (1_250_000, "1.3 MB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (999_949_999_999, "999.9 GB"),
            (999_950_000_000, "1.0 TB"),
            (9_007_199_254_740_993, "9.0 PB"),
            (5_000 * 10**18, "5000.0 EB"),
            (-1_500_000, "-1.5 MB"),
        ],
    )
    def test_size__decimal_unit_and_one_place(self, size: int, text: str) -> None:
        """Sizes are exact when small, rounded when large, and never show four digits where a larger unit exists."""
        assert text == format_size(size)

    @given(st.integers(min_value=1000, max_value=10**21 - 10**18))
    def test_any_size__within_half_of_the_last_place(self, size: int) -> None:
        """What people read is what it is, rounded."""
        number, unit = format_size(size).split()
        factor = 1000 ** (1 + ["kB", "MB", "GB", "TB", "PB", "EB"].index(unit))
        tenths = int(number.replace(".", ""))

        assert factor >= abs(20 * size - 2 * tenths * factor)


class TestFormatDuration:
    """Durations."""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0.0 s"),
            (0.44, "0.4 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (125, "2 min 5 s"),
            (3599.7, "1 h 0 min"),
            (3780, "1 h 3 min"),
            (86_399, "1 d 0 h"),
            (3 * 86_400 + 4 * 3600, "3 d 4 h"),
            (3 * 86_400 + 23.7 * 3600, "4 d 0 h"),
            (-125, "-2 min 5 s"),
        ],
    )
    def test_duration__two_units_at_most(self, seconds: float, text: str) -> None:
        """Durations round to what matters, and never to sixty of anything."""
        assert text == format_duration(timedelta(seconds=seconds))


class TestFormatCount:
    """Counts."""

    @pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1234, "1,234"), (8_000_000, "8,000,000")])
    def test_count__thousands_apart(self, count: int, text: str) -> None:
        """Large numbers can be read."""
        assert text == format_count(count)


class TestFormatAge:
    """Ages."""

    @pytest.mark.parametrize(
        ("age", "text"),
        [
            (timedelta(seconds=59), "just now"),
            (timedelta(minutes=59, seconds=59), "59 min ago"),
            (timedelta(hours=26, minutes=59), "26 h ago"),
            (timedelta(hours=47, minutes=59), "47 h ago"),
            (timedelta(hours=48), "2 d ago"),
            (timedelta(days=400), "400 d ago"),
            (timedelta(minutes=-5), "in 5 min"),
            (timedelta(seconds=-5), "just now"),
        ],
    )
    def test_age__largest_unit_rounded_down(self, age: timedelta, text: str) -> None:
        """An age is never told older than it is, and one day over the promise is seen in hours."""
        assert text == format_age(age)
