"""Naming the known word that is nearest to an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the nearest known word, or, when none is near, which there are."""
    folded = {name.lower(): name for name in sorted(known)}
    nearest = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.5)
    if nearest:
        return f"Did you mean {folded[nearest[0]]!r}?"
    return f"Known are: {', '.join(folded.values())}." if folded else "There are none."
