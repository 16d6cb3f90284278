"""Environments with a clock that stands, on folders of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from erp_backup.conf import LocationConfig
from erp_backup.core.progress import NullReporter
from erp_backup.services.environment import Environment
from tests.support.environments import environment_in
from tests.support.samples import FixedClock


@dataclass
class Listener(NullReporter):
    """A reporter that remembers what people would be told."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Remember a note."""
        self.notes.append(text)

    def warning(self, text: str) -> None:
        """Remember a warning."""
        self.warnings.append(text)


MakeEnvironment = Callable[..., Environment]


@pytest.fixture
def listener() -> Listener:
    """What the environment of the test tells."""
    return Listener()


@pytest.fixture
def make_environment(tmp_path: Path, listener: Listener) -> MakeEnvironment:
    """Make an environment with these locations, each a folder below the test's."""

    def make(*aliases: str, **config: Any) -> Environment:
        locations = tuple(LocationConfig(alias=alias, folder=tmp_path / alias) for alias in aliases or ("local",))
        return replace(environment_in(tmp_path, locations=locations, **config), clock=FixedClock(), reporter=listener)

    return make


@pytest.fixture
def environment(make_environment: MakeEnvironment) -> Environment:
    """An environment with one location."""
    return make_environment()
