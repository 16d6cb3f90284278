"""Tables of text that fit any terminal, log file and pipe: no colour, no box drawing, nothing cut off in silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

_GAP = "  "
_ELLIPSIS = "..."


def terminal_width() -> int:
    """Return the columns of the terminal, or 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def plain(text: str) -> str:
    """Return one line without control characters: a table may be called anything, and no name moves the cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def render(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    whole: frozenset[int] = frozenset(),
    width: int,
) -> list[str]:
    """Return the lines of a table no wider than ``width``; columns in ``right`` are aligned to the right.

    Where it does not fit, the widest columns that hold text are shortened with ``...``; numbers never are, nor are the
    columns in ``whole``: a table of those may be wider.
    """
    body = [[plain(text) for text in row] for row in rows]
    cells = [list(headings), *body]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    _shrink(widths, right | whole, width - len(_GAP) * (len(headings) - 1))
    lines = [_line(headings, widths, right), _GAP.join("-" * w for w in widths)]
    return lines + [_line(row, widths, right) for row in body]


def _shrink(widths: list[int], fixed: frozenset[int], available: int) -> None:
    flexible = [column for column in range(len(widths)) if column not in fixed]
    while sum(widths) > available and flexible:
        widest = max(flexible, key=lambda column: widths[column])
        if widths[widest] <= len(_ELLIPSIS) + 5:
            return
        widths[widest] -= 1


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    parts = []
    for column, (text, width) in enumerate(zip(row, widths, strict=True)):
        short = text if len(text) <= width else text[: width - len(_ELLIPSIS)] + _ELLIPSIS
        parts.append(short.rjust(width) if column in right else short.ljust(width))
    return _GAP.join(parts).rstrip()
