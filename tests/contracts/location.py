"""What every location must do, written once: subclass :class:`LocationContract` and give it the fixtures it asks for.

Locations whose files have owners and modes subclass :class:`PrivateLocationContract` as well.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from erp_backup.core.errors import (
    BackupError,
    CorruptError,
    InterruptedBySignal,
    LocationError,
    MissingError,
    NoSpaceError,
    UsageError,
)
from erp_backup.locations.base import Location

NAME = "erp_full_20260105_120000_abc123.dump.zst"
CONTENT = b"all of it\0\xff" * 1000
ROOM = 64 * 1024  # bytes that fit into the location that is nearly full
UNSAFE = ["../x", "a/b", "/etc/passwd", ".hidden", "a\nb", "a\0b", "a\x1b[2J", "", ".", "..", "-rf", "x" * 300, "a b"]

Everything = Callable[[], list[str]]


class Torn(Exception):  # noqa: N818 - what happened to the stream
    """Somebody else's error in the middle of a stream."""


def torn(error: BaseException) -> Iterator[bytes]:
    """A stream that gives a part and then raises."""
    yield CONTENT
    raise error


class LocationContract:
    """Subclasses provide the fixtures that raise ``NotImplementedError`` here."""

    @pytest.fixture
    def location(self) -> Location:
        """A location in which nothing was ever stored."""
        raise NotImplementedError

    @pytest.fixture
    def everything(self, location: Location) -> Everything:
        """A function that returns the names of all that really lies there, unfinished and hidden files included."""
        raise NotImplementedError

    @pytest.fixture
    def saving(self, location: Location) -> list[str]:
        """A command that saves ``NAME`` in ``location``, says a word when a part is written, and then never ends."""
        raise NotImplementedError

    @pytest.fixture
    def full(self) -> Location:
        """A location with room for less than ``2 * ROOM`` bytes."""
        raise NotImplementedError

    @pytest.fixture
    def unreachable(self) -> Location:
        """A location that cannot be reached, or is something else than a place for files."""
        raise NotImplementedError

    @pytest.fixture
    def read_only(self) -> Location:
        """A location that holds ``NAME`` with ``CONTENT`` and takes nothing any more."""
        raise NotImplementedError

    # Storing and reading

    @pytest.mark.parametrize(
        "chunks",
        [[CONTENT], [CONTENT[:1], b"", CONTENT[1:]], [], [b""], [b"x" * 3_000_001] * 2, [memoryview(CONTENT)]],
        ids=["one", "pieces", "none", "empty", "large", "view"],
    )
    def test_saved__read_back_as_it_was(self, location: Location, everything: Everything, chunks: list[bytes]) -> None:
        """Whatever is stored, in whatever pieces, is read as it was; its size is told and right."""
        whole = b"".join(chunks)
        size = location.save(NAME, iter(chunks))

        assert whole == b"".join(location.open(NAME))
        assert len(whole) == size == location.size(NAME)
        assert [NAME] == location.names() == everything()
        assert location.exists(NAME)

    def test_large__read_in_small_pieces(self, location: Location) -> None:
        """Memory stays flat: no piece is as large as the file."""
        location.save(NAME, [bytes(9_000_000)])

        assert max(len(chunk) for chunk in location.open(NAME)) <= 4 * 1024 * 1024

    def test_several__names_sorted(self, location: Location) -> None:
        """The list does not depend on the order of storing."""
        for name in ("b.dump", "c.dump", "a.dump"):
            location.save(name, [CONTENT])

        assert ["a.dump", "b.dump", "c.dump"] == location.names()

    def test_nothing_stored_yet__no_names(self, location: Location) -> None:
        """A new location is empty, and asking is no error."""
        assert [] == location.names()
        assert not location.exists(NAME)

    def test_reading_given_up__no_harm(self, location: Location) -> None:
        """Who reads only the head leaves nothing open, and others read all of it."""
        location.save(NAME, [CONTENT])
        chunks = location.open(NAME)
        next(chunks)
        del chunks

        assert CONTENT == b"".join(location.open(NAME))

    def test_described__its_name_and_where(self, location: Location) -> None:
        """People are told where to look."""
        assert location.describe(NAME).endswith(NAME)
        assert location.describe(NAME) != NAME

    # Interrupted

    @pytest.mark.parametrize(
        "error",
        [
            Torn("a"),
            BackupError("b"),
            InterruptedBySignal(15, "SIGTERM"),
            KeyboardInterrupt(),
            OSError(5, "not the location's"),
            FileNotFoundError(2, "not the location's either"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_stream_fails__raised_as_it_is_and_nothing_left(
        self, location: Location, everything: Everything, error: BaseException
    ) -> None:
        """The stream's own error comes through, not blamed on the location, and nothing stays."""
        with pytest.raises(type(error)) as caught:
            location.save(NAME, torn(error))

        assert error is caught.value
        assert [] == everything()
        assert not location.exists(NAME)

    def test_stream_lies_about_its_type__nothing_left(self, location: Location, everything: Everything) -> None:
        """What is not bytes is not stored as something else."""
        with pytest.raises((TypeError, AttributeError)):
            location.save(NAME, [CONTENT, "text"])  # type: ignore[list-item]  # the lie

        assert [] == everything()

    def test_unfinished__no_command_sees_it(self, location: Location) -> None:
        """While it is being written, a file is not there."""

        def looking() -> Iterator[bytes]:
            yield CONTENT
            seen.append((location.names(), location.exists(NAME)))
            with pytest.raises(MissingError):
                location.size(NAME)
            yield CONTENT

        seen: list[tuple[list[str], bool]] = []
        location.save(NAME, looking())

        assert [([], False)] == seen

    def test_killed_midway__nothing_that_names_shows(
        self, location: Location, saving: list[str], everything: Everything
    ) -> None:
        """A process killed in the middle leaves nothing under the name, and its rest can be cleaned up."""
        with subprocess.Popen(saving, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)

        assert [] == location.names()
        assert not location.exists(NAME)
        location.remove_unfinished(NAME)
        assert [] == everything()

    def test_killed_midway__same_name_still_to_be_had(self, location: Location, saving: list[str]) -> None:
        """What a dead process left does not stand in the way of the next one."""
        with subprocess.Popen(saving, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        location.save(NAME, [CONTENT])

        assert CONTENT == b"".join(location.open(NAME))

    def test_unfinished_of_another__left_alone(
        self, location: Location, saving: list[str], everything: Everything
    ) -> None:
        """Cleaning up after one name touches no other, finished or not."""
        with subprocess.Popen(saving, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            location.save("other.dump", [CONTENT])
            before = sorted(everything())
            for name in ("other.dump", "erp_full", NAME + ".manifest.json", NAME[:-4], "x"):
                location.remove_unfinished(name)
            after = sorted(everything())
            process.kill()

        assert 2 == len(before)
        assert before == after

    def test_nothing_unfinished__no_error(self, location: Location) -> None:
        """Cleaning up twice, or a location that was never used, is no error."""
        location.remove_unfinished(NAME)
        location.save(NAME, [CONTENT])
        location.remove_unfinished(NAME)

        assert [NAME] == location.names()

    # Clashes

    def test_name_taken__what_was_there_stays(self, location: Location, everything: Everything) -> None:
        """A name is given once: the older file is not touched, nor read from the new stream."""
        location.save(NAME, [CONTENT])
        with pytest.raises(LocationError, match=NAME) as caught:
            location.save(NAME, [b"newer"])

        assert CONTENT == b"".join(location.open(NAME))
        assert [NAME] == everything()
        assert caught.value.remedy

    def test_name_taken_while_writing__the_first_one_stays(self, location: Location, everything: Everything) -> None:
        """Two that want one name at the same time: the one that ends first has it, whole, and the other is told."""

        def overtaken() -> Iterator[bytes]:
            yield b"slow"
            location.save(NAME, [CONTENT])
            yield b"slow"

        with pytest.raises(LocationError, match=NAME):
            location.save(NAME, overtaken())

        assert CONTENT == b"".join(location.open(NAME))
        assert [NAME] == everything()

    def test_name_taken_while_writing_that_fails__the_first_one_stays(self, location: Location) -> None:
        """A failing save takes back what it made, and nothing that has its name."""

        def overtaken() -> Iterator[bytes]:
            yield b"slow"
            location.save(NAME, [CONTENT])
            raise Torn

        with pytest.raises(Torn):
            location.save(NAME, overtaken())

        assert CONTENT == b"".join(location.open(NAME))

    # Deleting, vanishing

    def test_deleted__gone_and_no_error_twice(self, location: Location, everything: Everything) -> None:
        """Deleting is done when it is gone, however often it is asked for."""
        location.save(NAME, [CONTENT])
        location.save("other.dump", [CONTENT])
        for _ in range(2):
            location.delete(NAME)

        assert ["other.dump"] == everything() == location.names()

    def test_deleted_where_nothing_was__no_error(self, location: Location) -> None:
        """Nor is it one in a location that was never used."""
        location.delete(NAME)

        assert [] == location.names()

    def test_deleted__its_name_can_be_given_again(self, location: Location) -> None:
        """A deleted name is free."""
        location.save(NAME, [b"older"])
        location.delete(NAME)
        location.save(NAME, [CONTENT])

        assert CONTENT == b"".join(location.open(NAME))

    @pytest.mark.parametrize("is_used", [True, False])
    def test_vanished__missing(self, location: Location, is_used: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """What is gone is said to be gone, with its name: that is corruption, not a location out of order."""
        if is_used:
            location.save("other.dump", [CONTENT])
        with pytest.raises(MissingError, match=NAME) as caught:
            next(location.open(NAME))
        with pytest.raises(MissingError, match=NAME):
            location.size(NAME)

        assert isinstance(caught.value, CorruptError)
        assert caught.value.remedy

    # Names

    @pytest.mark.parametrize("name", UNSAFE, ids=ascii)
    def test_unsafe_name__refused_everywhere(self, location: Location, everything: Everything, name: str) -> None:
        """No name leads out of the location, whatever is to be done with it; the stream is not even begun."""
        stream = iter([CONTENT])
        actions: list[Callable[[], object]] = [
            lambda: location.save(name, stream),
            lambda: next(location.open(name)),
            lambda: location.size(name),
            lambda: location.exists(name),
            lambda: location.delete(name),
            lambda: location.remove_unfinished(name),
            lambda: location.describe(name),
        ]
        for action in actions:
            with pytest.raises(UsageError):
                action()

        assert [CONTENT] == list(stream)
        assert [] == everything()

    # Out of order

    def test_full__no_space_and_nothing_left(self, full: Location) -> None:
        """A full disk is told apart from every other failure; what was stored before is whole."""
        full.save("older.dump", [CONTENT])
        with pytest.raises(NoSpaceError) as caught:
            full.save(NAME, [bytes(4096)] * (2 * ROOM // 4096))

        assert ["older.dump"] == full.names()
        assert CONTENT == b"".join(full.open("older.dump"))
        assert caught.value.remedy

    def test_full__room_again(self, full: Location) -> None:
        """What could not be stored takes no room any more."""
        with pytest.raises(NoSpaceError):
            full.save(NAME, [bytes(4096)] * (2 * ROOM // 4096))
        full.save(NAME, [bytes(ROOM // 2)])

        assert ROOM // 2 == full.size(NAME)

    @pytest.mark.parametrize("action", ["save", "open", "size", "names", "exists", "delete", "remove_unfinished"])
    def test_unreachable__location_error(self, unreachable: Location, action: str) -> None:
        """A location that is out of order says so: it is never taken for an empty one."""
        actions: dict[str, Callable[[], object]] = {
            "save": lambda: unreachable.save(NAME, [CONTENT]),
            "open": lambda: next(unreachable.open(NAME)),
            "size": lambda: unreachable.size(NAME),
            "names": unreachable.names,
            "exists": lambda: unreachable.exists(NAME),
            "delete": lambda: unreachable.delete(NAME),
            "remove_unfinished": lambda: unreachable.remove_unfinished(NAME),
        }
        with pytest.raises(LocationError, match=unreachable.alias) as caught:
            actions[action]()

        assert 30 == caught.value.exit_code
        assert caught.value.remedy

    def test_read_only__refuses_in_words_and_still_reads(self, read_only: Location) -> None:
        """Rights that are refused are the location's error; what it has can still be restored from."""
        for action in (
            lambda: read_only.save("new.dump", [CONTENT]),
            lambda: read_only.delete(NAME),
        ):
            with pytest.raises(LocationError, match=read_only.alias):
                action()

        assert [NAME] == read_only.names()
        assert CONTENT == b"".join(read_only.open(NAME))


class PrivateLocationContract:
    """For locations whose files have modes. ``location`` and ``folder`` are fixtures of the subclass."""

    @pytest.fixture
    def folder(self, location: Location) -> Path:
        """Where the location keeps its files; it does not exist yet, nor does its parent."""
        raise NotImplementedError

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
    def test_stored__private_whatever_the_umask(self, location: Location, folder: Path, umask: int) -> None:
        """Files are 0600 and folders 0700, those above it that had to be made included."""
        before = os.umask(umask)
        try:
            location.save(NAME, [CONTENT])
        finally:
            os.umask(before)

        assert 0o600 == stat.S_IMODE((folder / NAME).stat().st_mode)
        assert [0o700, 0o700] == [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)]

    def test_being_written__private_too(self, location: Location, folder: Path) -> None:
        """Nobody reads along."""

        def looking() -> Iterator[bytes]:
            yield CONTENT
            modes.extend(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())

        modes: list[int] = []
        before = os.umask(0)
        try:
            location.save(NAME, looking())
        finally:
            os.umask(before)

        assert [0o600] == modes
