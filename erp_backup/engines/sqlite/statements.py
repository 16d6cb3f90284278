"""Cutting a stream of SQL into statements, as SQLite itself would, with flat memory and in one pass."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import BinaryIO

_CHUNK = 1 << 20

# Everything up to a semicolon that stands outside quotes and comments. A doubled quote inside reads as two quoted
# pieces: the same. Possessive throughout: nothing is tried twice, whatever the text is.
_UNTIL_SEMICOLON = re.compile(
    rb"""(?:[^'"`\[/;-]++|'[^']*+'|"[^"]*+"|`[^`]*+`|\[[^\]]*+\]|--[^\n]*+\n|-(?!-)|/\*.*?\*/|/(?!\*))*+""", re.DOTALL
)
_SPACE_OR_COMMENT = rb"(?:\s++|--[^\n]*+\n|/\*.*?\*/)*+"
_TRIGGER = re.compile(_SPACE_OR_COMMENT + rb"CREATE\s+(?:TEMP\w*\s+)?TRIGGER\b", re.DOTALL | re.IGNORECASE)
_NOTHING = re.compile(_SPACE_OR_COMMENT + rb"(?:--[^\n]*+)?", re.DOTALL)


def statements(file: BinaryIO) -> Iterator[bytes]:
    """Yield each statement with its semicolon; what is left at the end, unless it is space and comment, as it is."""
    text = b""
    position = 0  # up to here there is no semicolon that ends the statement
    while chunk := file.read(max(_CHUNK, len(text))):  # doubling: a statement of any length is read in linear time
        text += chunk
        start = 0
        while (end := _semicolon(text, position)) >= 0:
            position = end + 1
            if _is_statement(text[start:position]):
                yield text[start:position]
                start = position
        position = max(start, _resume_at(text, position)) - start
        text = text[start:]
    if not _NOTHING.fullmatch(text):
        yield text


def _semicolon(text: bytes, position: int) -> int:
    """Return the place of the next semicolon outside quotes and comments, or -1."""
    end = _scan(text, position)
    return end if text[end : end + 1] == b";" else -1


def _scan(text: bytes, position: int) -> int:
    match = _UNTIL_SEMICOLON.match(text, position)
    return match.end() if match else position  # it matches nothing rather than not at all


def _is_statement(text: bytes) -> bool:
    """Whether a text that ends with a semicolon is whole: the body of a trigger has semicolons of its own."""
    return not _TRIGGER.match(text) or sqlite3.complete_statement(text.decode(errors="replace"))


def _resume_at(text: bytes, position: int) -> int:
    """Return where to go on when more text is there: at a quote or comment that is open, or may just begin."""
    end = _scan(text, position)
    return end - 1 if end == len(text) and text[-1:] in (b"-", b"/") and end > position else end
