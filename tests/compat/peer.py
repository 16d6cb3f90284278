"""django-dbbackup as it is installed: its options, its settings, the keys of its connectors, read from its code."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import dbbackup
from django.core.management.base import BaseCommand

from erp_backup.connectors import FORMATS

COMMANDS = ("dbbackup", "dbrestore", "listbackups")
_INTERNAL = {"MUTABLE_ATTRIBUTES", "SETTINGS"}  # attributes of its connectors that nobody sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of one of its commands, as it declares it."""

    command: str
    flags: tuple[str, ...]
    declared: dict[str, Any]

    @property
    def takes_value(self) -> bool:
        """Whether something has to follow it."""
        return self.declared.get("action", "store") in {"store", "append"}

    def __str__(self) -> str:
        return f"{self.command} {self.flags[-1]}"


def parser_of(package: str, command: str) -> ArgumentParser:
    """Return the argument parser of a package's command."""
    built: BaseCommand = import_module(f"{package}.management.commands.{command}").Command()
    return built.create_parser("manage.py", command)


def options() -> list[Option]:
    """Return every option that its commands declare."""
    return [
        Option(command=command, flags=tuple(flags), declared=declared)
        for command in COMMANDS
        for flags, declared in _unique(import_module(f"dbbackup.management.commands.{command}").Command().option_list)
    ]


def _unique(declared: Any) -> list[tuple[Any, Any]]:
    return list({flags: (flags, declaration) for flags, declaration in declared}.values())


def settings() -> set[str]:
    """Return the name of every setting that its code reads, or mentions as one that it once read."""
    sources = Path(dbbackup.__file__).parent.rglob("*.py")
    read = re.compile(r"""(?:getattr|hasattr)\(\s*settings,\s*"(DBBACKUP_[A-Z_]+)\"""")
    return {name for source in sources for name in read.findall(source.read_text(encoding="utf-8"))}


def connector_keys() -> set[str]:
    """Return every key that DBBACKUP_CONNECTORS may have for a connector that an engine here stands for."""
    found = {"CONNECTOR"}
    for path in FORMATS:
        module, _, name = path.rpartition(".")
        connector = getattr(import_module(module), name)
        for cls in connector.__mro__:
            found |= {
                key.upper()
                for key, value in vars(cls).items()
                if not key.startswith("_") and not callable(value) and not isinstance(value, property | staticmethod)
            }
    return found - _INTERNAL
