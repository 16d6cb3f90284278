"""What clusters need of this machine: the server's programs, a user to run it as, a free port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest

BIN_DIR_VARIABLE = "ERP_BACKUP_TEST_PG_BIN"
HOST = "127.0.0.1"
# Below the range the kernel takes ports of outgoing connections from: a stopped cluster finds its port free again.
_PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user that servers run as; None means: whoever runs the tests."""

    name: str | None = None

    @classmethod
    def for_servers(cls) -> Account:
        """Return ourselves, or `postgres` when we are root, as whom PostgreSQL refuses to run."""
        if os.geteuid() != 0:
            return cls()
        try:
            return cls(name=pwd.getpwnam("postgres").pw_name)
        except KeyError:
            pytest.fail("Tests run as root need a system user 'postgres' to run PostgreSQL as: useradd -r postgres")

    def own(self, path: Path) -> None:
        """Make `path` belong to this account."""
        if self.name is not None:
            shutil.chown(path, self.name, pwd.getpwnam(self.name).pw_gid)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make `subprocess` start a program as this account."""
        if self.name is None:
            return {}
        return {"user": self.name, "group": pwd.getpwnam(self.name).pw_gid, "extra_groups": []}


def find_bin_dir() -> Path:
    """Return the folder of the newest PostgreSQL server here, or the one the environment names.

    A missing server fails the test: skipping would call untested code tested.
    """
    chosen = os.environ.get(BIN_DIR_VARIABLE)
    if chosen:
        folders = [Path(chosen)]
    else:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        folders += [Path(found).parent for found in [shutil.which("postgres")] if found]
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    looked = ", ".join(map(str, folders)) or "/usr/lib/postgresql/*/bin and PATH"
    pytest.fail(
        f"PostgreSQL's server programs are missing (looked in {looked}). Run tools/system-packages, "
        f"or name their folder in {BIN_DIR_VARIABLE}."
    )


def _version(bin_dir: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in bin_dir.parent.name.split(".") if part.isdigit())


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    for port in SystemRandom().sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    pytest.fail("200 ports in a row are taken: something here leaks servers.")
