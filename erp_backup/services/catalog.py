"""The list of backups, read from the manifests in the locations: they are the truth, the database rows are a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from erp_backup.core import manifest as manifests
from erp_backup.core.errors import BackupError, CorruptError, InterruptedBySignal, NoBackupError, UsageError
from erp_backup.core.manifest import Manifest
from erp_backup.core.names import MANIFEST_SUFFIX, is_manifest, manifest_name
from erp_backup.core.signing import Verifier
from erp_backup.locations.base import Location
from erp_backup.services.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One manifest found in one location; ``error`` says why it cannot be believed, then ``manifest`` is None."""

    location: Location
    name: str
    sha256: str = ""
    manifest: Manifest | None = None
    error: BackupError | None = None


def read_entry(location: Location, name: str, verifier: Verifier) -> Entry:
    """Read one manifest and prove its signature and that it is the one this name is for."""
    try:
        raw = _read_capped(location, name)
        manifest = manifests.read(raw, verifier)
        _require_own_name(manifest, name)
    except InterruptedBySignal:
        raise
    except BackupError as error:
        return Entry(location=location, name=name, error=_placed(error, location, name))
    return Entry(location=location, name=name, sha256=manifests.digest(raw), manifest=manifest)


def _read_capped(location: Location, name: str) -> bytes:
    raw = bytearray()
    for chunk in location.open(name):
        raw += chunk
        if len(raw) > manifests.MAX_SIZE or not raw.startswith(b"{"):
            break  # the reader of manifests refuses it for that; the rest of it is not worth its memory
    return bytes(raw)


def _require_own_name(manifest: Manifest, name: str) -> None:
    """A manifest under another's name is a replay of an older state, though every byte of it is genuine."""
    if manifest_name(manifest.archive.name) != name:
        raise CorruptError(f"It is the manifest of {manifest.archive.name}: it was put here in place of another.")


def _placed(error: BackupError, location: Location, name: str) -> BackupError:
    """The same kind of error, with the file's name and what to do."""
    message = error.message if name in error.message else f"{location.describe(name)}: {error.message}"
    remedy = error.remedy or "Do not use this backup; verify the copy in another location or an older backup."
    placed = type(error)(message, remedy=remedy)
    placed.__cause__ = error
    return placed


def read_location(location: Location, verifier: Verifier) -> Iterator[Entry]:
    """Yield every manifest of a location. Raises LocationError when it cannot be listed."""
    for name in location.names():
        if is_manifest(name):
            yield read_entry(location, name, verifier)


def read_all(
    environment: Environment, locations: Iterable[Location] | None = None, verifier: Verifier | None = None
) -> list[Entry]:
    """Return every manifest of ``locations``, newest first, unreadable ones at the end.

    By default these are all configured locations, and whoever the settings trust is trusted. Raises LocationError for a
    location that cannot be listed.
    """
    verifier = verifier or environment.verifier()
    found = [
        entry
        for location in (environment.locations if locations is None else locations)
        for entry in read_location(location, verifier)
    ]
    return sorted(found, key=_newest_first)


def _newest_first(entry: Entry) -> tuple[int, float, str]:
    if entry.manifest is None:
        return 1, 0.0, entry.name
    return 0, -entry.manifest.taken_at.timestamp(), entry.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One backup with all its copies; the manifest of each is the same, byte for byte."""

    manifest: Manifest
    sha256: str
    copies: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """The backup's identifier."""
        return self.manifest.id


def group(entries: Iterable[Entry]) -> list[Found]:
    """Return the readable entries as backups with their copies, newest first."""
    by_digest: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.manifest is not None:
            by_digest.setdefault(entry.sha256, []).append(entry)
    return [
        Found(manifest=copies[0].manifest, sha256=digest, copies=tuple(copies))
        for digest, copies in by_digest.items()
        if copies[0].manifest is not None
    ]


def find(found: Iterable[Found], wanted: str) -> Found:
    """Return the backup called ``wanted`` (its id, its archive or its manifest). Raises UsageError, never guesses."""
    name = wanted.rsplit("/", 1)[-1].removesuffix(MANIFEST_SUFFIX)
    matches = [backup for backup in found if name in {backup.manifest.id, backup.manifest.archive.name}]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f"{len(matches)} backups are called {wanted!r}.", remedy="Name the archive.")
    raise NoBackupError(f"There is no backup called {wanted!r}.", remedy="'listbackups' shows what there is.")


def newest_by_database(found: Iterable[Found]) -> dict[str, Found]:
    """Return the backup with the greatest number of each database alias; imported ones have no place in that order."""
    newest: dict[str, Found] = {}
    for backup in found:
        if backup.manifest.is_foreign:
            continue
        alias = backup.manifest.database.alias
        if alias not in newest or newest[alias].manifest.number < backup.manifest.number:
            newest[alias] = backup
    return newest
