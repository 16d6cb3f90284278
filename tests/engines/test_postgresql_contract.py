"""The PostgreSQL engine keeps the contract of all engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.workspace import Workspace
from erp_backup.engines.base import Engine
from tests.contracts.engine import EngineContract, Execute
from tests.support.pg_engine import engine_of, job, run
from tests.support.postgres import Cluster


class TestContract(EngineContract):
    """PostgreSQL keeps the contract."""

    @pytest.fixture
    def engine(self, pg_database: dict[str, Any], postgres: Cluster) -> Iterator[Engine]:
        """The engine of an empty database that an ordinary role owns; what a test keeps goes with it."""
        yield engine_of(pg_database)
        for name in postgres.databases():
            if name.startswith("erp_backup_scratch_"):
                postgres.drop_database(name)

    @pytest.fixture
    def execute(self) -> Execute:
        """A function that runs a statement in a session of its own."""
        return lambda engine, statement: run(engine.database.settings, statement)

    @pytest.fixture
    def missing_engine(self, engine: Engine) -> Engine:
        """The engine of a database that the server does not have."""
        return engine_of({**engine.database.settings, "NAME": "nowhere"})

    @pytest.fixture
    def exists(self, postgres: Cluster) -> Callable[[str], bool]:
        """Whether the server has a database of that name."""
        return lambda name: name in postgres.databases()

    @pytest.fixture
    def abandoned(self, engine: Engine, workspace: Workspace, tmp_path: Path) -> str:
        """A scratch database of a process that was killed."""
        script = """
            with engine.scratch(engine.facts(), folder) as scratch:
                print(scratch.name, flush=True)
                threading.Event().wait()
        """
        with job(engine.database.settings, tmp_path / "state", script) as process:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            process.kill()
            process.wait()
            assert name.startswith("erp_backup_scratch_"), process.stderr
        return name
