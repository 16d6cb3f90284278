"""Environments of services for tests that run inside pytest's own process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from erp_backup.conf import LocationConfig, MaintenanceConfig, get_config
from erp_backup.core.process import Command, Completed, ProcessRunner
from erp_backup.services.environment import Environment, build_environment


def environment_in(folder: Path, **config: Any) -> Environment:
    """Return an environment whose state and one location are below `folder`; `config` replaces settings."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    own = {
        "state_dir": state,
        "locations": (LocationConfig(alias="local", folder=folder / "backups"),),
        "signing": replace(get_config().signing, key_file=state / "signing.key"),
        "maintenance": MaintenanceConfig(file=state / "maintenance.json"),
        "jobs": 2,
        "lock_timeout": 1.0,
    }
    return build_environment(config=replace(get_config(), **(own | config)), actor="tester")


class NoPrograms(ProcessRunner):
    """Fails the test that starts any program."""

    def stream(self, command: Command, **_: Any) -> Iterator[bytes]:
        """Start nothing."""
        raise AssertionError(f"{command.program} was started")

    def run(self, command: Command, **_: Any) -> Completed:
        """Start nothing."""
        raise AssertionError(f"{command.program} was started")
