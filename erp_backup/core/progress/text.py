"""Text from anywhere, made safe for a terminal and as wide as it looks there."""

from __future__ import annotations

import unicodedata
from typing import TextIO

_WIDE = {"W", "F"}
_WITHOUT_WIDTH = {"Mn", "Me", "Cf"}


def printable(text: str) -> str:
    """Return one line without control characters: names and messages of others could steer the terminal."""
    joined = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in joined)


def width_of(text: str) -> int:
    """Return how many columns a terminal gives the text."""
    return sum(_width_of_character(character) for character in text)


def fitted(text: str, width: int) -> str:
    """Return the beginning of the text that fits into that many columns."""
    used = 0
    for position, character in enumerate(text):
        used += _width_of_character(character)
        if used > width:
            return text[:position]
    return text


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with ``?`` for what the stream cannot write: a name with an accent must not end a backup."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in _WITHOUT_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
