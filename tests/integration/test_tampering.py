"""Whatever is done to stored bytes is found before any tool sees them, and said with the file's name."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from erp_backup.core import jsondata, signing
from erp_backup.core.clock import SystemClock
from erp_backup.core.figures import Outcome
from erp_backup.services.environment import Environment
from erp_backup.services.verification import VerificationResult, VerifyRequest, worst_exit_code
from erp_backup.services.verify import verify_backups
from tests.support.environments import NoPrograms, environment_in
from tests.support.host import Host
from tests.support.postgres import Cluster, temporary_database

FLIPS = 200
TRUNCATIONS = 100


@dataclass(frozen=True)
class Stored:
    """Two backups made by real commands, and a folder to damage copies of them in."""

    original: Path
    folder: Path
    state: Path
    older: str
    newer: str

    def reset(self) -> None:
        """Put the undamaged files back."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.original, self.folder)

    def archive(self, name: str) -> Path:
        """The archive of a backup."""
        return next(p for p in self.folder.iterdir() if p.name.startswith(name) and p.suffix != ".json")

    def manifest(self, name: str) -> Path:
        """The manifest of a backup."""
        return next(p for p in self.folder.iterdir() if p.name.startswith(name) and p.suffix == ".json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[tuple[Host, list[str]]]:
    """A PostgreSQL demo with two backups."""
    with temporary_database(postgres, owner="erp_owner") as entry:
        host = Host(tmp_path_factory.mktemp("tampering"), databases={"default": entry})
        host.migrate()
        host.seed()
        names = [host.manage("dbbackup", "--json").json()["backups"][0]["id"] for _ in range(2)]
        yield host, names
        host.close()


@pytest.fixture
def stored(made: tuple[Host, list[str]], tmp_path: Path) -> Stored:
    """Copies to damage; the head and the keys are those of the real run."""
    host, (older, newer) = made
    state = tmp_path / "state"
    shutil.copytree(host.state_dir, state)
    found = Stored(original=host.backups_dir, folder=tmp_path / "backups", state=state, older=older, newer=newer)
    found.reset()
    return found


@pytest.fixture
def environment(stored: Stored, tmp_path: Path) -> Environment:
    """An environment in which every program is forbidden."""
    return replace(environment_in(tmp_path), runner=NoPrograms(SystemClock()))


def verify(environment: Environment, **request: object) -> list[VerificationResult]:
    """Verify as the command does; at the lowest level, unless said otherwise."""
    return list(verify_backups(environment, VerifyRequest(**{"level": "stored", **request})))


def assert_found(results: list[VerificationResult], path: Path, codes: set[int]) -> None:
    """Assert that something is wrong, with the right code, and that the message names the file."""
    wrong = [result for result in results if result.outcome is not Outcome.PASSED]
    told = " ".join(f"{result.error} {result.findings}" for result in wrong)

    assert worst_exit_code(results) in codes, f"{path.name}: {worst_exit_code(results)}: {told}"
    assert path.name in told


@pytest.mark.django_db
class TestTampering:
    """Damage, and what is said of it."""

    def test_undamaged__passes(self, stored: Stored, environment: Environment) -> None:
        """The stored level passes on what was really stored: the tests below can fail."""
        results = verify(environment, everything=True)

        assert [Outcome.PASSED] * 2 == [result.outcome for result in results]

    @pytest.mark.parametrize("kind", ["archive", "manifest"])
    def test_bit_flips__all_found(self, stored: Stored, environment: Environment, kind: str) -> None:
        """One flipped bit anywhere is found, with exit 5 or 8."""
        path = getattr(stored, kind)(stored.newer)
        whole = path.read_bytes()
        chance = random.Random(f"flips {kind}")
        for _ in range(FLIPS // 2):
            damaged = bytearray(whole)
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)

            # An archive is asked for at the deepest level: it is refused before any tool is started.
            level = "stored" if kind == "manifest" else "models"
            assert_found(verify(environment, level=level), path, {5, 8} if kind == "manifest" else {5})

    @pytest.mark.parametrize("kind", ["archive", "manifest"])
    def test_truncations__all_found(self, stored: Stored, environment: Environment, kind: str) -> None:
        """A file that is cut anywhere, down to nothing, is found."""
        path = getattr(stored, kind)(stored.newer)
        whole = path.read_bytes()
        chance = random.Random(f"truncations {kind}")
        for length in [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(TRUNCATIONS // 2 - 3))]:
            path.write_bytes(whole[:length])

            assert_found(verify(environment), path, {5})

    def test_swapped_archives__found(self, stored: Stored, environment: Environment) -> None:
        """Another genuine archive in the place of this one is found."""
        older, newer = stored.archive(stored.older), stored.archive(stored.newer)
        shutil.copy(older, newer)

        assert_found(verify(environment), newer, {5})

    def test_replayed_manifest__found(self, stored: Stored, environment: Environment) -> None:
        """An older genuine manifest in the place of the newest is found."""
        newer = stored.manifest(stored.newer)
        shutil.copy(stored.manifest(stored.older), newer)

        assert_found(verify(environment), newer, {5})

    def test_location_rolled_back__found(self, stored: Stored, environment: Environment) -> None:
        """A location that was put back to an older state, every byte genuine, is found by the head kept elsewhere."""
        stored.archive(stored.newer).unlink()
        stored.manifest(stored.newer).unlink()

        results = verify(environment)

        assert 5 == worst_exit_code(results)
        assert any(stored.newer in str(result.error) for result in results)

    def test_edited_and_rehashed_manifest__found(self, stored: Stored, environment: Environment) -> None:
        """A manifest edited and signed anew with another key is found: that key is not trusted."""
        path = stored.manifest(stored.newer)
        payload = json.loads(path.read_bytes())
        del payload["signature"]
        payload["figures"]["tables"][0]["rows"] += 1
        forged = signing.create_key(stored.folder.parent / "forger.key")
        payload["signature"] = forged.sign(jsondata.canonical(payload))
        path.write_bytes(jsondata.canonical(payload))

        assert_found(verify(environment), path, {8})

    def test_edited_manifest_with_old_signature__found(self, stored: Stored, environment: Environment) -> None:
        """A manifest edited under its old signature is found."""
        path = stored.manifest(stored.newer)
        payload = json.loads(path.read_bytes())
        payload["archive"]["sha256"] = "0" * 64
        path.write_bytes(jsondata.canonical(payload))

        assert_found(verify(environment), path, {5})

    def test_manifest_without_signature__found(self, stored: Stored, environment: Environment) -> None:
        """A manifest whose signature was taken off is none."""
        path = stored.manifest(stored.newer)
        payload = json.loads(path.read_bytes())
        del payload["signature"]
        path.write_bytes(jsondata.canonical(payload))

        assert_found(verify(environment), path, {5})

    def test_wrong_key__exit_8(self, stored: Stored, environment: Environment) -> None:
        """Another installation's key does not verify these manifests."""
        (stored.state / "signing.key").unlink()
        signing.create_key(stored.state / "signing.key")

        assert_found(verify(environment), stored.manifest(stored.newer), {8})

    def test_deleted_archive__exit_5(self, stored: Stored, environment: Environment) -> None:
        """A manifest without its archive is no backup."""
        path = stored.archive(stored.newer)
        path.unlink()

        assert_found(verify(environment), path, {5})

    def test_every_message__says_what_to_do(self, stored: Stored, environment: Environment) -> None:
        """The error has a remedy, not only a complaint."""
        stored.archive(stored.newer).write_bytes(b"nothing of ours")

        (result,) = verify(environment)

        assert result.error is not None
        assert result.error.remedy
