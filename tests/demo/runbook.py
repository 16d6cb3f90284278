"""The business's runbook, read as what it asks people to type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import sqlparse

PATH = Path(__file__).resolve().parents[2] / "docs" / "runbook-of-the-business.md"

_HEADING = re.compile(r"^(#+) (.+)$")
_FENCE = re.compile(r"^```(\w*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block, its language and the headings it stands below, outermost first."""

    headings: tuple[str, ...]
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """What is typed line by line: no comments, no blank lines."""
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]

    @property
    def statements(self) -> list[str]:
        """The SQL statements."""
        return sqlparse.split(self.text)


def blocks() -> list[Block]:
    """Return all fenced blocks in their order."""
    found: list[Block] = []
    headings: list[str] = []
    opened: tuple[str, list[str]] | None = None
    for line in PATH.read_text().splitlines():
        fence = _FENCE.match(line)
        if opened is not None and line == "```":
            found.append(Block(headings=tuple(headings), language=opened[0], text="\n".join(opened[1]) + "\n"))
            opened = None
        elif opened is not None:
            opened[1].append(line)
        elif fence:
            opened = fence[1], []
        elif heading := _HEADING.match(line):
            headings[len(heading[1]) - 1 :] = [heading[2]]
    return found


def block(*headings: str, language: str = "bash") -> Block:
    """Return the one block of this language whose headings contain all of these texts."""
    matching = [
        candidate
        for candidate in blocks()
        if candidate.language == language
        and all(any(text in heading for heading in candidate.headings) for text in headings)
    ]
    assert len(matching) == 1, (headings, matching)
    return matching[0]
