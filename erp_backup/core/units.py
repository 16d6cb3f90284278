"""Sizes, counts, durations and ages as people read them, in the same form everywhere."""

from __future__ import annotations

from datetime import timedelta

_PREFIXES = ("kB", "MB", "GB", "TB", "PB", "EB")
_KILO = 1000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TENTHS_BELOW = 10  # seconds; from here on a tenth of a second tells nobody anything


def format_size(n: int) -> str:
    """Return bytes as ``"532 bytes"`` (exact) or ``"1.2 MB"`` (decimal units, one place, rounded)."""
    if n < 0:
        return f"-{format_size(-n)}"
    if n < _KILO:
        return "1 byte" if n == 1 else f"{n} bytes"
    unit = _KILO
    for prefix in _PREFIXES:
        tenths = (n * 10 + unit // 2) // unit  # integers: a float would lose the last digits of petabytes
        if tenths < 10 * _KILO or prefix == _PREFIXES[-1]:
            break
        unit *= _KILO
    return f"{tenths // 10}.{tenths % 10} {prefix}"


def format_duration(td: timedelta) -> str:
    """Return ``"0.4 s"``, ``"42 s"``, ``"2 min 5 s"``, ``"1 h 3 min"`` or ``"3 d 4 h"``."""
    if td < timedelta(0):
        return f"-{format_duration(-td)}"
    tenths = round(td / timedelta(seconds=0.1))
    if tenths < 10 * _TENTHS_BELOW:
        return f"{tenths // 10}.{tenths % 10} s"
    seconds = round(td / timedelta(seconds=1))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    minutes = round(td / timedelta(minutes=1))
    if minutes * 60 < _DAY:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(td / timedelta(hours=1))
    return f"{hours // 24} d {hours % 24} h"


def format_count(n: int) -> str:
    """Return a whole number with its thousands apart: ``"1,234"``."""
    return f"{n:,}"


def format_age(td: timedelta) -> str:
    """Return how long ago: ``"just now"``, ``"5 min ago"``, ``"26 h ago"``, ``"3 d ago"``.

    Rounded down. Hours are told up to two days, because promises are made in hours. A moment that is still to
    come reads ``"in 5 min"``.
    """
    seconds = int(abs(td).total_seconds())
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        text = f"{seconds // _MINUTE} min"
    elif seconds < 2 * _DAY:
        text = f"{seconds // _HOUR} h"
    else:
        text = f"{seconds // _DAY} d"
    return f"in {text}" if td < timedelta(0) else f"{text} ago"
