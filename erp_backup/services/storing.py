"""Putting an archive and its manifest into locations: archive first, read back, manifest last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from erp_backup.core.codecs import Codec, Meter, encode_with
from erp_backup.core.errors import BackupError, CorruptError, LocationError, ProgramError
from erp_backup.core.manifest import ArchiveFacts
from erp_backup.core.names import manifest_name
from erp_backup.core.progress import Reporter
from erp_backup.core.units import format_size
from erp_backup.locations.base import Location
from erp_backup.services.environment import Environment


class StoppedError(BackupError):
    """The archive is not finished because another part of the run has failed; that part's error is the one to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What is about to be stored: its name, how it is encoded, where it goes first."""

    name: str
    codecs: Sequence[Codec]
    location: Location


def store_archive(
    archive: Archive, dump: Iterator[bytes], *, stop: threading.Event, reporter: Reporter
) -> ArchiveFacts:
    """Stream a dump through its codecs into its location and return what was stored.

    A dump that ends without a byte is a failure, whatever its program said. Raises StoppedError once ``stop`` is set.
    """
    raw, stored = Meter(reporter.advance), Meter()
    chunks = stored.through(encode_with(archive.codecs, raw.through(_until(stop, dump))))
    archive.location.save(archive.name, _never_empty(chunks, raw))
    return ArchiveFacts(
        name=archive.name,
        size=stored.size,
        sha256=stored.sha256,
        codecs=tuple(codec.name for codec in archive.codecs),
        uncompressed_size=raw.size,
        uncompressed_sha256=raw.sha256,
    )


def _until(stop: threading.Event, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if stop.is_set():
            raise StoppedError("The run was stopped.")
        yield chunk
    if stop.is_set():
        raise StoppedError("The run was stopped.")


def _never_empty(chunks: Iterator[bytes], raw: Meter) -> Iterator[bytes]:
    """Fail while the file is still unfinished: codecs make some bytes even out of nothing."""
    yield from chunks
    if raw.size == 0:
        raise ProgramError(
            "The dump is empty.", program="dump", remedy="See whether the database holds anything at all."
        )


def copy_archive(archive: ArchiveFacts, source: Location, target: Location) -> None:
    """Copy an archive from one location to another. Raises CorruptError when the source is not what was stored."""
    meter = Meter()
    target.save(archive.name, _checked(meter.through(source.open(archive.name)), meter, archive, source))


def _checked(chunks: Iterable[bytes], meter: Meter, archive: ArchiveFacts, source: Location) -> Iterator[bytes]:
    yield from chunks
    require_same(archive, meter.size, meter.sha256, source)


def read_back(archive: ArchiveFacts, location: Location, on_progress: Callable[[int], object] | None = None) -> None:
    """Read an archive to its end and compare size and SHA-256. Raises MissingError, CorruptError."""
    meter = Meter(on_progress)
    for _chunk in meter.through(location.open(archive.name)):
        pass
    require_same(archive, meter.size, meter.sha256, location)


def require_same(archive: ArchiveFacts, size: int, sha256: str, location: Location) -> None:
    """Raise CorruptError unless size and SHA-256 are the manifest's."""
    where = location.describe(archive.name)
    remedy = "Do not use this copy; use the one in another location, or an older backup."
    if size != archive.size:
        raise CorruptError(
            f"{where} has {size:,} bytes instead of {archive.size:,} ({format_size(archive.size)}).", remedy=remedy
        )
    if sha256 != archive.sha256:
        raise CorruptError(
            f"{where} has the SHA-256 {sha256[:16]}... instead of {archive.sha256[:16]}...", remedy=remedy
        )


def store_manifest(raw: bytes, archive: ArchiveFacts, location: Location, *, check: bool) -> None:
    """Store a manifest, the last step that makes a backup; read it back if ``check``.

    One that cannot be read back is taken back, whatever the reason: else there would be a backup of a run that failed.
    Raises CorruptError, LocationError, NoSpaceError.
    """
    name = manifest_name(archive.name)
    location.save(name, [raw])
    is_right = False
    try:
        is_right = not check or b"".join(location.open(name)) == raw
    finally:
        if not is_right:
            with contextlib.suppress(LocationError):
                location.delete(name)
    if not is_right:
        raise CorruptError(f"{location.describe(name)} does not read back as it was written.")


def copy_to_all(
    environment: Environment, archive: ArchiveFacts, targets: Sequence[Location], undo: contextlib.ExitStack
) -> tuple[list[Location], dict[str, str]]:
    """Bring an archive from its first location to all of ``targets`` and read each copy back.

    Return where it is, and what went wrong elsewhere: one that fails does not spoil the others. What was stored is
    noted in ``undo``. Raises the first failure when all fail.
    """
    stored: list[Location] = []
    problems: dict[str, str] = {}
    failures: list[BackupError] = []
    for target in targets:
        try:
            if target is not targets[0]:
                environment.reporter.phase(f"copy to {target.alias}")
                copy_archive(archive, targets[0], target)
                undo.callback(target.delete, archive.name)
            if environment.config.read_back:
                environment.reporter.phase(f"read back from {target.alias}")
                read_back(archive, target)
        except BackupError as error:
            problems[target.alias] = str(error)
            failures.append(error)
        else:
            stored.append(target)
    if not stored:
        raise failures[0]
    return stored, problems


def publish(
    environment: Environment,
    raw: bytes,
    archive: ArchiveFacts,
    stored: Sequence[Location],
    problems: dict[str, str],
    *,
    targets: Sequence[Location],
) -> list[Location]:
    """Write the manifest, the last step, wherever the archive is; remove the archive where that fails.

    Return where the backup now is; ``problems`` gets what went wrong. Raises the first failure when all fail.
    """
    environment.reporter.phase("manifest")
    failures: list[BackupError] = []
    published: list[Location] = []
    for location in stored:
        try:
            store_manifest(raw, archive, location, check=environment.config.read_back)
        except BackupError as error:
            problems[location.alias] = str(error)
            failures.append(error)
        else:
            published.append(location)
    if not published:
        raise failures[0]
    for location in set(targets) - set(published):
        # What a location that failed may still hold is taken back; the failure itself is already told.
        with contextlib.suppress(BackupError):
            location.delete(archive.name)
    return published
