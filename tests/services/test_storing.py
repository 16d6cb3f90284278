"""Archives and manifests on their way into locations: whole, equal, and taken back when they are not."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from erp_backup.conf import LocationConfig
from erp_backup.core.codecs import Zstd
from erp_backup.core.errors import CorruptError, InterruptedBySignal, LocationError, MissingError, ProgramError
from erp_backup.core.manifest import ArchiveFacts
from erp_backup.core.names import manifest_name
from erp_backup.core.progress import NullReporter
from erp_backup.locations.filesystem import FileSystemLocation
from erp_backup.services.storing import (
    Archive,
    StoppedError,
    copy_archive,
    read_back,
    store_archive,
    store_manifest,
)

DUMP = [b"one " * 1000, b"two " * 1000]
WHOLE = b"".join(DUMP)
NAME = "erp.sqlite3.zst"


class FaultyLocation(FileSystemLocation):
    """A folder that fails to read what it is told to, in the way it is told to."""

    fault: BaseException | bytes | None = None

    def open(self, name: str) -> Iterator[bytes]:
        """Yield the stored bytes, or others, or fail."""
        if isinstance(self.fault, BaseException):
            raise self.fault
        yield from super().open(name) if self.fault is None else [self.fault]


def at(folder: Path) -> FaultyLocation:
    """The location of a folder."""
    return FaultyLocation(LocationConfig(alias=folder.name), FileSystemStorage(folder))


@pytest.fixture
def local(tmp_path: Path) -> FaultyLocation:
    """Where archives go first."""
    return at(tmp_path / "local")


@pytest.fixture
def away(tmp_path: Path) -> FaultyLocation:
    """Where copies go."""
    return at(tmp_path / "away")


def store(
    location: FileSystemLocation, dump: Iterable[bytes] = DUMP, stop: threading.Event | None = None
) -> ArchiveFacts:
    """Store a compressed archive."""
    archive = Archive(name=NAME, codecs=[Zstd()], location=location)
    return store_archive(archive, iter(dump), stop=stop or threading.Event(), reporter=NullReporter())


class TestStoreArchive:
    """From a dump to a location."""

    def test_stored__facts_of_both_forms(self, local: FaultyLocation) -> None:
        """Sizes and hashes of what was dumped and of what is stored are both told."""
        facts = store(local)
        stored = b"".join(local.open(NAME))

        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (facts.size, facts.sha256)
        assert (len(WHOLE), hashlib.sha256(WHOLE).hexdigest()) == (facts.uncompressed_size, facts.uncompressed_sha256)
        assert ("zstd",) == facts.codecs
        assert WHOLE == b"".join(Zstd().decode([stored]))

    @pytest.mark.parametrize("dump", [[], [b"", b""]])
    def test_empty_dump__failure_and_nothing_stored(self, local: FaultyLocation, dump: list[bytes]) -> None:
        """An unreachable server's dump is no backup, though codecs make some bytes of nothing."""
        with pytest.raises(ProgramError, match="The dump is empty"):
            store(local, dump)

        assert [] == local.names()

    def test_dump_that_fails__nothing_stored(self, local: FaultyLocation) -> None:
        """Nothing is stored of half a dump."""

        def dying() -> Iterator[bytes]:
            yield WHOLE
            raise ProgramError("pg_dump died.", program="pg_dump", status=1)

        with pytest.raises(ProgramError, match="died"):
            store(local, dying())

        assert [] == local.names()

    @pytest.mark.parametrize("when", ["before", "amid", "after"])
    def test_stopped__nothing_stored(self, local: FaultyLocation, when: str) -> None:
        """When another part of the run has failed, the archive ends with it, at whatever moment."""
        stop = threading.Event()

        def stopping() -> Iterator[bytes]:
            yield DUMP[0]
            if when == "amid":
                stop.set()
            yield DUMP[1]
            if when == "after":
                stop.set()

        if when == "before":
            stop.set()
        with pytest.raises(StoppedError):
            store(local, stopping(), stop)

        assert [] == local.names()


class TestCopies:
    """From one location to another, and back."""

    def test_copied__the_same(self, local: FaultyLocation, away: FaultyLocation) -> None:
        """A copy has every byte."""
        facts = store(local)
        copy_archive(facts, local, away)
        read_back(facts, away)

        assert b"".join(local.open(NAME)) == b"".join(away.open(NAME))

    @pytest.mark.parametrize("damage", [b"", b"x"], ids=["cut", "other"])
    def test_source_damaged__no_copy(self, local: FaultyLocation, away: FaultyLocation, damage: bytes) -> None:
        """A damaged archive is not spread."""
        facts = store(local)
        local.fault = damage
        with pytest.raises(CorruptError, match="local"):
            copy_archive(facts, local, away)

        assert [] == away.names()

    def test_same_size_other_bytes__corrupt(self, local: FaultyLocation) -> None:
        """The hash tells what the size does not; the message names the file."""
        facts = store(local)
        local.fault = bytes(facts.size)
        with pytest.raises(CorruptError, match=f"{NAME} has the SHA-256"):
            read_back(facts, local)

    def test_other_size__corrupt_with_both(self, local: FaultyLocation) -> None:
        """Both sizes are told."""
        facts = store(local)
        local.fault = b"x"
        with pytest.raises(CorruptError, match=f"has 1 bytes instead of {facts.size}"):
            read_back(facts, local)

    def test_vanished__missing(self, local: FaultyLocation) -> None:
        """A copy that is gone is told apart from a damaged one."""
        facts = store(local)
        local.delete(NAME)
        with pytest.raises(MissingError):
            read_back(facts, local)


class TestStoreManifest:
    """The last step, which makes a backup."""

    @pytest.fixture
    def facts(self, local: FaultyLocation) -> ArchiveFacts:
        """A stored archive."""
        return store(local)

    @pytest.mark.parametrize("check", [True, False])
    def test_stored__beside_its_archive(self, local: FaultyLocation, facts: ArchiveFacts, check: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """Its name follows from the archive's."""
        store_manifest(b"{}", facts, local, check=check)

        assert b"{}" == b"".join(local.open(manifest_name(NAME)))

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (b"other", CorruptError),
            (LocationError("The location is away."), LocationError),
            (InterruptedBySignal(15, "SIGTERM"), InterruptedBySignal),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
        ids=["other bytes", "away", "signal", "interrupt"],
    )
    def test_not_read_back__taken_back(
        self, local: FaultyLocation, facts: ArchiveFacts, fault: BaseException | bytes, error: type[BaseException]
    ) -> None:
        """A manifest that was not read back, for whatever reason, makes no backup of a run that failed."""
        local.fault = fault
        with pytest.raises(error):
            store_manifest(b"{}", facts, local, check=True)

        assert [NAME] == local.names()

    def test_name_taken__what_was_there_stays(self, local: FaultyLocation, facts: ArchiveFacts) -> None:
        """Somebody else's manifest is neither replaced nor taken back."""
        local.save(manifest_name(NAME), [b"older"])
        with pytest.raises(LocationError):
            store_manifest(b"{}", facts, local, check=True)

        assert b"older" == b"".join(local.open(manifest_name(NAME)))
