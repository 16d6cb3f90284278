"""What the code offers stands in the docs, and what the docs promise exists in the code."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from django.core.management.base import BaseCommand
from django.test import override_settings

import erp_backup
from erp_backup import checks, conf
from erp_backup.core import errors
from erp_backup.management import commands
from tests.support.host import REPOSITORY

DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
# The business's own paper, as it was handed over; it speaks of other tools.
FOREIGN = {DOCS / "runbook-of-the-business.md"}
PAGES = sorted({REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *DOCS.rglob("*.md")} - FOREIGN)
COMMANDS = sorted(module.name for module in iter_modules(commands.__path__) if not module.name.startswith("_"))

CODE = re.compile(r"`([^`]+)`")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of the tables in a page, their heads and rules left out."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in cells] for cells in lines if not set("".join(cells)) <= set("-|: ")]


def section(text: str, heading: str) -> str:
    """Return the part of a page below a heading, to the next heading of its level or above."""
    level = heading.partition(" ")[0]
    match = re.search(rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"there is no section {heading!r}"
    return match.group(1)


def blocks(language: str) -> list[tuple[Path, str]]:
    """Return the code blocks of one language, each with its page."""
    return [
        (page, code)
        for page in PAGES
        for found, code in BLOCK.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def name(page: Path) -> str:
    """Return a page's path as the test's id."""
    return str(page.relative_to(REPOSITORY))


def parser_of(command: str) -> ArgumentParser:
    """Return the argument parser of one of our commands."""
    built: BaseCommand = import_module(f"{commands.__name__}.{command}").Command()
    return built.create_parser("manage.py", command)


def options_of(parser: ArgumentParser) -> set[str]:
    """Return the options that a parser knows and Django's own commands do not."""
    django = BaseCommand().create_parser("manage.py", "any")
    ours = {option for action in parser._actions for option in action.option_strings}
    return ours - {option for action in django._actions for option in action.option_strings}


class TestExitCodes:
    """Each error's exit code is documented, with its class."""

    page = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")

    def documented(self) -> set[tuple[str, int]]:
        """Return (class, code) as the page has them."""
        found = [(CODE.search(cells[1]), cells[0]) for cells in rows(self.page) if cells[0].isdigit()]
        return {(match.group(1), int(code)) for match, code in found if match}

    def test_errors__stand_in_the_page_with_their_codes(self) -> None:
        """The page has exactly the classes of the code, each with the code it ends a command with."""
        ended = errors.InterruptedBySignal
        stopped = {(ended.__name__, ended(number, "").exit_code) for number in (1, 2, 15)}
        defined = {
            (found.__name__, found.exit_code)
            for found in vars(errors).values()
            if isinstance(found, type) and issubclass(found, errors.BackupError) and found is not ended
        }

        assert defined | stopped == self.documented()

    def test_success__is_zero(self) -> None:
        """The page says what 0 means."""
        assert "0" in {cells[0] for cells in rows(self.page)}


class TestCommands:
    """Each command and option is documented, and no other."""

    page = (REFERENCE / "commands.md").read_text(encoding="utf-8")

    def test_commands__have_a_section_each(self) -> None:
        """The page's sections are the package's commands."""
        sections = re.findall(r"^## `(\w+)`$", self.page, re.MULTILINE)

        assert COMMANDS
        assert COMMANDS == sorted(sections)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_options__stand_in_the_commands_section(self, command: str) -> None:
        """The section's table has exactly the options that the command takes beside Django's own."""
        documented = {
            option
            for cells in rows(section(self.page, f"## `{command}`"))
            for option in CODE.findall(cells[0])
            if option.startswith("-")
        }

        assert options_of(parser_of(command)) == documented


class TestSettings:
    """Each key of ERP_BACKUP is documented, and no other."""

    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")

    def test_keys__have_a_section_each(self) -> None:
        """The page's sections are the known keys."""
        assert set(conf.KEYS) == set(re.findall(r"^### `(\w+)`$", self.page, re.MULTILINE))

    @pytest.mark.parametrize(
        ("key", "options"),
        [
            *((key, options) for key, options in conf.KEYS.items() if options),
            ("DATABASES", conf.DATABASE_KEYS),
            ("LOCATIONS", conf.LOCATION_KEYS),
        ],
    )
    def test_options__stand_in_the_keys_section(self, key: str, options: frozenset[str]) -> None:
        """A key that is a dictionary has a table of exactly the keys in it."""
        first_cells = [cells[0] for cells in rows(section(self.page, f"### `{key}`"))]

        assert options == {option for cell in first_cells for option in CODE.findall(cell)}

    @pytest.mark.parametrize("key", [key for key, options in conf.KEYS.items() if not options])
    def test_plain_keys__say_their_default(self, key: str) -> None:
        """The section of every other key begins with its default."""
        assert section(self.page, f"### `{key}`").lstrip().startswith("Default: ")


class TestSystemChecks:
    """Each id is documented, and no other."""

    def test_ids__stand_in_the_page(self) -> None:
        """The page has exactly the ids that the code gives its messages."""
        given = re.findall(r'"(erp_backup\.[EWI]\d{3})"', Path(checks.__file__).read_text(encoding="utf-8"))
        page = (REFERENCE / "checks.md").read_text(encoding="utf-8")

        assert given
        assert set(given) == {CODE.findall(cells[0])[0] for cells in rows(page) if CODE.match(cells[0])}


class TestExamples:
    """What people copy works."""

    @pytest.mark.parametrize(
        ("page", "code"),
        [pytest.param(*found, id=f"{number} {name(found[0])}") for number, found in enumerate(blocks("python"))],
    )
    def test_python__compiles_and_its_settings_are_valid(self, page: Path, code: str) -> None:
        """Every Python block can be run as it stands, and the settings in it pass the checks of settings."""
        compiled = compile(code, str(page), "exec")
        if "ERP_BACKUP =" not in code:
            return
        namespace: dict[str, Any] = {}
        exec(compiled, namespace)  # our own page

        storages = namespace.get("STORAGES") or {
            alias: {"BACKEND": "django.core.files.storage.InMemoryStorage"}
            for alias in ("default", "staticfiles", "backups")
        }
        with override_settings(ERP_BACKUP=namespace["ERP_BACKUP"], STORAGES=storages):
            assert [] == [str(problem) for problem in conf.current_problems()]

    @pytest.mark.parametrize("declared", ["how-to/model-checks.md", "quickstart.md"])
    def test_imports__are_the_public_names(self, declared: str) -> None:
        """What the pages import from the package is what the package offers."""
        text = (DOCS / declared).read_text(encoding="utf-8")
        found = [names.split(", ") for names in re.findall(r"^from erp_backup import (.+)$", text, re.MULTILINE)]

        assert found
        assert {imported for names in found for imported in names} <= set(erp_backup.__all__)

    def test_commands__are_understood(self) -> None:
        """Each of our commands in the pages takes the arguments it is shown with."""
        lines = [line for _, code in blocks("console") for line in code.splitlines() if " manage.py " in line]
        shown = [shlex.split(line.partition(" manage.py ")[2]) for line in lines]
        ours = [words for words in shown if words[0] in COMMANDS]

        for command, *arguments in ours:
            parser_of(command).parse_args(arguments)
        assert set(COMMANDS) == {words[0] for words in ours}

    def test_make_targets__exist(self) -> None:
        """Each `make` target that the pages name is one of the Makefile's."""
        targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        shown = {found for page in PAGES for found in re.findall(r"(?:`|\$ )make (\w+)", page.read_text("utf-8"))}

        assert {"demo", "test"} <= shown <= targets


class TestLinks:
    """No link leads nowhere."""

    @pytest.mark.parametrize("page", PAGES, ids=name)
    def test_links__lead_to_files_and_headings(self, page: Path) -> None:
        """Every relative link of a page has its file, and its heading in it."""
        broken = []
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if "://" not in target and not (file.exists() and (not anchor or anchor in self.anchors(file))):
                broken.append(target)

        assert [] == broken

    def test_pages__are_reached_from_the_index(self) -> None:
        """The index leads to every other page."""
        index = DOCS / "index.md"
        linked = {(DOCS / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text("utf-8"))}

        assert set(PAGES) - {index, REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"} <= linked

    @staticmethod
    def anchors(file: Path) -> set[str]:
        """Return the anchors of a page's headings."""
        headings = HEADING.findall(file.read_text(encoding="utf-8"))
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
