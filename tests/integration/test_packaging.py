"""What is built is what is in the tree: every template, migration, catalogue and style sheet, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.host import REPOSITORY, write_host_project

IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def build(folder: Path, *what: str) -> Path:
    """Build into `folder` with the tools of this environment and return it."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", folder, REPOSITORY],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


def only(folder: Path, pattern: str) -> Path:
    """Return the one file in `folder` that matches."""
    (found,) = folder.glob(pattern)
    return found


def files_below(folder: Path) -> set[str]:
    """Return the names of all files below `folder`, relative to it, links to folders followed."""
    found: set[str] = set()
    for path in folder.iterdir():
        if path.name in IGNORED:
            continue
        found |= {f"{path.name}/{name}" for name in files_below(path)} if path.is_dir() else {path.name}
    return found


@pytest.fixture(scope="module")
def from_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built straight from the tree."""
    return only(build(tmp_path_factory.mktemp("tree"), "--wheel"), "*.whl")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that is built from that sdist."""
    return build(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(params=["tree", "sdist"])
def wheel(request: pytest.FixtureRequest, from_tree: Path, distributions: Path) -> Path:
    """Each of the two wheels."""
    return from_tree if request.param == "tree" else only(distributions, "*.whl")


class TestWheel:
    """A wheel is the package, whole, whichever way it was built."""

    def test_package__is_all_there(self, wheel: Path) -> None:
        """Each file of the package is in the wheel, and no file that is not one of its own."""
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if ".dist-info/" not in name]

        assert files_below(REPOSITORY / "erp_backup") == {name.removeprefix("erp_backup/") for name in names}
        assert len(set(names)) == len(names)

    def test_templates__are_in_the_package(self, wheel: Path) -> None:
        """Each template of the tree arrives where Django's app loader looks for it; there are some."""
        templates = files_below(REPOSITORY / "templates")
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if name.startswith("erp_backup/templates/")}

        assert templates
        assert {f"erp_backup/templates/{name}" for name in templates} == names

    def test_installed_alone__foreign_project_runs(self, wheel: Path, tmp_path: Path) -> None:
        """A project that has nothing but the wheel passes its checks and makes its tables."""
        target = tmp_path / "installed"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
        subprocess.run([*pip, "--disable-pip-version-check", "--target", target, wheel], check=True)
        host = write_host_project(tmp_path / "host", package=target)

        host.manage("check")
        host.migrate()
        code = "import erp_backup; print(erp_backup.__file__)"
        found = host.manage("shell", "--no-imports", "-c", code).stdout

        assert f"{target / 'erp_backup' / '__init__.py'}\n" == found


class TestSourceDistribution:
    """An sdist is what the wheel needs, and what people read."""

    def test_contents__package_and_papers(self, distributions: Path) -> None:
        """Licence, read-me, change log and package are in it; the demo and the tests are not."""
        with tarfile.open(only(distributions, "*.tar.gz")) as archive:
            names = {member.name.partition("/")[2] for member in archive.getmembers()}
            links = [member.name for member in archive.getmembers() if not member.isreg()]

        package = {f"erp_backup/{name}" for name in files_below(REPOSITORY / "erp_backup")}
        papers = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
        assert package | papers == names
        assert [] == links


def test_requirements__name_the_dependencies_of_the_package() -> None:
    """What the demo installs is what the package says it depends on."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    name = re.compile(r"[a-z0-9.-]+(\[[a-z,]+\])?", re.IGNORECASE)

    def names(requirements: list[str]) -> set[str]:
        return {found.group().lower() for found in map(name.match, requirements) if found}

    assert names(project["dependencies"]) == names(lines)


def test_editable_install__finds_the_templates_by_the_link() -> None:
    """The package's own folder leads to the templates, so an installation that points at the tree has them."""
    link = REPOSITORY / "erp_backup" / "templates"

    assert Path("../templates") == link.readlink()
    assert link.is_dir()
