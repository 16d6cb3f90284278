"""tools/system-packages installs what is missing where it may, and says what to run where it may not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.host import REPOSITORY

NEEDED = ["psql", "pg_dump", "pg_restore", "initdb", "postgres", "age", "zstd", "sqlite3", "strace", "pgbouncer"]
# An apt-get that notes what it is asked, and "installs" age by making the program.
APT_GET = """#!/bin/sh
echo "$@" >> "{folder}/asked"
if [ "$1" = install ] && [ -e "{folder}/works" ]; then cp "{folder}/bin/zstd" "{folder}/bin/age"; fi
"""


class Machine:
    """A machine with only the programs that a test puts into its `bin`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("sh", "dirname", "cp", "env"):
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.add("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        for name in NEEDED:
            self.add(name)
        self.is_root(False)

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        """Put a program into `bin`."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def remove(self, name: str) -> None:
        """Take a program away."""
        (self.bin / name).unlink()

    def is_root(self, root: bool) -> None:  # noqa: FBT001 - reads as a sentence
        """Say who runs things here."""
        self.add("id", f"#!/bin/sh\necho {0 if root else 1000}\n")

    def with_apt_get(self, *, works: bool = True) -> None:
        """Give it apt-get, which installs age, or nothing."""
        self.add("apt-get", APT_GET.format(folder=self.folder))
        if works:
            (self.folder / "works").touch()

    @property
    def asked(self) -> str:
        """What apt-get was asked."""
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the script with nothing else to be found."""
        return subprocess.run(
            [REPOSITORY / "tools" / "system-packages"],
            env={"PATH": str(self.bin), "ERP_BACKUP_TEST_PG_BIN": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has everything and is used by an ordinary user."""
    return Machine(tmp_path)


def test_nothing_missing__is_silent(machine: Machine) -> None:
    """Where everything is there, nothing is asked, said or changed."""
    machine.with_apt_get()

    result = machine.run()

    assert (0, "", "") == (result.returncode, result.stdout, result.stderr)
    assert "" == machine.asked


@pytest.mark.parametrize("program", ["age", "zstd", "sqlite3", "strace", "pg_restore"])
def test_missing_for_an_ordinary_user__prints_the_command_and_fails(machine: Machine, program: str) -> None:
    """Who may not install is told the exact command, with just what is missing."""
    machine.with_apt_get()
    machine.remove(program)

    result = machine.run()

    package = "postgresql-client" if program == "pg_restore" else program
    assert 1 == result.returncode
    assert f"sudo apt-get install --yes --no-install-recommends {package}\n" in result.stderr
    assert "" == machine.asked


def test_missing_for_root__is_installed(machine: Machine) -> None:
    """Root gets the lists updated and the package installed, without a question."""
    machine.with_apt_get()
    machine.is_root(True)
    machine.remove("age")

    result = machine.run()

    assert 0 == result.returncode, result.stderr
    assert "update -qq\ninstall --yes --no-install-recommends age -qq\n" == machine.asked


def test_installed_in_vain__fails(machine: Machine) -> None:
    """An installation that brings nothing is not taken for a success."""
    machine.with_apt_get(works=False)
    machine.is_root(True)
    machine.remove("age")

    result = machine.run()

    assert 1 == result.returncode
    assert "Still missing after the installation: age." in result.stderr


def test_no_apt_get__names_the_packages(machine: Machine) -> None:
    """Elsewhere than on Debian it says what is missing and fails."""
    machine.is_root(True)
    machine.remove("age")

    result = machine.run()

    assert 1 == result.returncode
    assert "Missing here: age" in result.stderr


def test_old_python__is_not_taken(machine: Machine) -> None:
    """A Python that cannot run this is as good as none."""
    machine.add("python3", "#!/bin/sh\nexit 1\n")

    result = machine.run()

    assert 1 == result.returncode
    assert "python3 python3-venv" in result.stderr
