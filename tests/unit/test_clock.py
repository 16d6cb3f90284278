"""The machine's clock."""

from __future__ import annotations

from datetime import UTC, timedelta

from erp_backup.core.clock import Clock, SystemClock


class TestSystemClock:
    """What everything else relies on."""

    def test_now__aware_and_utc(self) -> None:
        """A moment can be compared with any other, wherever the machine stands."""
        now = SystemClock().now()

        assert UTC is now.tzinfo
        assert timedelta(0) == now.utcoffset()

    def test_monotonic__never_goes_back(self) -> None:
        """Durations are never negative."""
        clock = SystemClock()
        moments = [clock.monotonic() for _ in range(1000)]

        assert sorted(moments) == moments

    def test_sleep__lets_the_time_pass(self) -> None:
        """After a sleep at least that much time has passed."""
        clock: Clock = SystemClock()
        before = clock.monotonic()
        clock.sleep(0.01)

        assert 0.01 <= clock.monotonic() - before
