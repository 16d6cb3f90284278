"""The page for those who come from django-dbbackup names every option, setting and key, once, and says what it does."""

from __future__ import annotations

import re

import pytest

from erp_backup import connectors
from tests.compat import peer
from tests.support.host import REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "migrate-from-django-dbbackup.md").read_text(encoding="utf-8")
# Of Django, and read by django-dbbackup; and what its code does not read any more, but refuses.
STORAGE = 'STORAGES["dbbackup"]'


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading: what stands in the first cell, and the other cells."""
    text = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    found: dict[str, list[str]] = {}
    for line in lines[1:]:
        first, *others = (cell.strip() for cell in line.strip("|").split("|"))
        names = ", ".join(re.findall(r"`([^`]+)`", first))
        assert names not in found, f"{names} stands there twice"
        found[names] = others
    return found


@pytest.mark.parametrize("command", peer.COMMANDS)
def test_options__stand_in_the_table(command: str) -> None:
    """Exactly those of the installed version, spelt in both ways."""
    declared = {", ".join(option.flags) for option in peer.options() if option.command == command}

    assert declared == set(table(f"Options of `{command}`"))


def test_settings__stand_in_the_table() -> None:
    """Exactly those that the installed version reads."""
    assert peer.settings() | {STORAGE} == set(table("Settings"))


def test_connectors__stand_in_the_table() -> None:
    """Exactly the keys that are known here, and among them all that the installed version's connectors have."""
    documented = set(table("`DBBACKUP_CONNECTORS`"))

    assert documented == connectors.KEYS
    assert peer.connector_keys() <= documented


@pytest.mark.parametrize("key", sorted(connectors.REFUSED))
def test_refused_keys__are_said_to_be(key: str) -> None:
    """The table says what the code does."""
    assert "Refused." == table("`DBBACKUP_CONNECTORS`")[key][0]


@pytest.mark.parametrize(
    "heading", [*(f"Options of `{command}`" for command in peer.COMMANDS), "Settings", "`DBBACKUP_CONNECTORS`"]
)
def test_rows__say_what_it_does(heading: str) -> None:
    """No row without a word; "the same" has something above it that it is the same as."""
    rows = table(heading)

    assert all(cells[0] for cells in rows.values())
    assert "The same." != next(iter(rows.values()))[0]
