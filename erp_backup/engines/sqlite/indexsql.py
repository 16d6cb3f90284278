"""What an index is made of, read from its SQL: SQLite tells the columns of an index, and not its expressions."""

from __future__ import annotations

import re

# A quoted piece or a comment, in which nothing counts; a parenthesis; a comma; anything else.
_PIECE = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|[(),]|[^'"`\[(),/-]+|.""", re.DOTALL)
_ORDER = re.compile(r"\s+(ASC|DESC)\s*$", re.IGNORECASE)
_WHERE = re.compile(r"^\s*WHERE\s+", re.IGNORECASE)


def parts_of(definition: str) -> tuple[tuple[str, ...], str]:
    """Return the indexed expressions and the condition of ``CREATE INDEX … ON table (a, b) WHERE c``."""
    depth = 0
    expressions = [""]
    rest = ""
    is_over = False
    for piece in _PIECE.findall(definition):
        if is_over:
            rest += piece
            continue
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == ")" and depth == 0:
            is_over = True
        elif piece == "," and depth == 1:
            expressions.append("")
        elif depth > 1 or (depth == 1 and piece != "("):
            expressions[-1] += piece
    return tuple(_ORDER.sub("", text).strip() for text in expressions), _WHERE.sub("", rest).strip()
