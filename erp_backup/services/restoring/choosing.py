"""Which backup is restored: the one named, or the newest that fits; never one that was found bad."""

from __future__ import annotations

from pathlib import Path

from erp_backup.core.errors import BackupError, MissingError, NoBackupError, RefusedError
from erp_backup.core.names import MANIFEST_SUFFIX, manifest_name, slug
from erp_backup.core.retention import Proof
from erp_backup.locations.base import Location
from erp_backup.services import catalog
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment, folder_location
from erp_backup.services.proofs import proofs
from erp_backup.services.restoring.request import RestoreRequest


def choose(environment: Environment, request: RestoreRequest) -> Found:
    """Return the backup to restore. Raises NoBackupError, UsageError, CorruptError; never guesses.

    Without a name: the newest full backup of the database, before the time given, whose last verification did not
    fail. Safety backups hold states that somebody wanted to be rid of, and of imported ones
    nobody knows what they should hold: both are taken by name only.
    """
    if request.path is not None:
        return from_path(environment, request.path)
    locations = [environment.location(alias) for alias in request.locations] or list(environment.locations)
    entries = _readable(environment, locations)
    found = catalog.group(entries)
    if request.backup:
        return _named(environment, _find(found, entries, request.backup), request.database)
    candidates = [backup for backup in found if _fits(backup, request)]
    proven = proofs(backup.name for backup in candidates)
    good = [backup for backup in candidates if proven[backup.name] is not Proof.FAILED]
    if not good:
        raise _nothing(request, candidates)
    return max(good, key=lambda backup: (backup.manifest.taken_at, backup.manifest.number))


def _readable(environment: Environment, locations: list[Location]) -> list[catalog.Entry]:
    """All manifests that can be had: a location that is away costs a warning, unless it is the only one."""
    entries: list[catalog.Entry] = []
    errors: list[BackupError] = []
    for location in locations:
        try:
            entries += catalog.read_all(environment, [location])
        except BackupError as error:
            errors.append(error)
            environment.reporter.warning(f"{location.alias}: {error}")
    for entry in entries:
        if entry.error is not None:
            environment.reporter.warning(str(entry.error))
    if errors and not entries:
        raise errors[0]
    return sorted(entries, key=lambda entry: entry.manifest is None)


def _find(found: list[Found], entries: list[catalog.Entry], name: str) -> Found:
    """The backup of that name; one that is there, but cannot be believed, is not said to be missing."""
    stem = name.rsplit("/", 1)[-1].removesuffix(MANIFEST_SUFFIX)
    try:
        return catalog.find(found, name)
    except NoBackupError:
        for entry in entries:
            if entry.error is not None and entry.name.startswith(f"{stem}."):
                raise entry.error from None
        raise


def _fits(backup: Found, request: RestoreRequest) -> bool:
    manifest = backup.manifest
    return (
        manifest.database.alias == request.database
        and manifest.kind == "full"
        and not manifest.schemas
        and not manifest.purpose
        and not manifest.is_foreign
        and (request.before is None or manifest.taken_at < request.before)
        and (not request.server_name or slug(request.server_name) in manifest.id)
    )


def _named(environment: Environment, backup: Found, alias: str) -> Found:
    """A backup that was named is taken as it is; another database's is refused, a failed one is warned of."""
    if backup.manifest.database.alias != alias:
        raise RefusedError(
            f"{backup.name} is a backup of the database {backup.manifest.database.alias!r}, not of {alias!r}.",
            remedy=f"If that is meant, name the database it goes to: --database {backup.manifest.database.alias}.",
        )
    if proofs([backup.name])[backup.name] is Proof.FAILED:
        environment.reporter.warning(f"The last verification of {backup.name} failed; it is verified again now.")
    return backup


def _nothing(request: RestoreRequest, candidates: list[Found]) -> NoBackupError:
    when = f" from before {request.before:%Y-%m-%d %H:%M:%S %Z}" if request.before else ""
    why = f" ({len(candidates)} failed their last verification)" if candidates else ""
    return NoBackupError(
        f"There is no good full backup of {request.database!r}{when}{why}.",
        remedy="'listbackups' shows what there is; name one to insist on it.",
    )


def from_path(environment: Environment, path: Path) -> Found:
    """Return the backup whose archive (or manifest) is the file at ``path``. Raises UsageError, RefusedError."""
    archive = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))
    if not archive.is_file():
        raise MissingError(f"There is no file {archive}.", remedy="Name the archive; its manifest stands beside it.")
    location = folder_location(archive.parent)
    if not location.exists(manifest_name(archive.name)):
        raise RefusedError(
            f"{archive} has no manifest beside it: nothing says what it should hold.",
            remedy=f"Import it first: manage.py importbackup {archive}",
        )
    entry = catalog.read_entry(location, manifest_name(archive.name), environment.verifier())
    if entry.error is not None:
        raise entry.error
    (backup,) = catalog.group([entry])
    return backup
