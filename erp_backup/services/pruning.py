"""Deleting old backups after a new one was made, as the retention policy says and for the reasons it gives."""

from __future__ import annotations

from collections.abc import Iterable

from erp_backup.core.names import manifest_name
from erp_backup.core.retention import Candidate, Decision, RetentionPolicy, plan_retention
from erp_backup.services import catalog
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.proofs import known_proofs

_UNKNOWN = "the history cannot be read: what is proven is not known"


def plan(environment: Environment, alias: str) -> list[tuple[Found, Decision]]:
    """Return what would happen to each backup of a database, kind by kind (imported ones by themselves), and why.

    Only what this installation has signed is looked at: whoever shares its locations, and is trusted for verifications,
    keeps what is his. Where the history cannot be read nobody knows what is proven, and nothing goes.
    """
    entries = catalog.read_all(environment, verifier=environment.own_verifier())
    ours = [backup for backup in catalog.group(entries) if backup.manifest.database.alias == alias]
    # Two backups of one name: whatever that is, it is not for retention to settle.
    found = {name: group[0] for name, group in _by_name(ours).items() if len(group) == 1}
    proven = known_proofs(found)
    if proven is None:
        return [(backup, Decision(name=name, keep=True, reason=_UNKNOWN)) for name, backup in found.items()]
    policy = RetentionPolicy(keep_last=environment.config.keep_last)
    planned: list[tuple[Found, Decision]] = []
    for kind in sorted({_kind(backup) for backup in found.values()}):
        candidates = [
            Candidate(name=name, taken_at=backup.manifest.taken_at, number=backup.manifest.number, proof=proven[name])
            for name, backup in found.items()
            if _kind(backup) == kind
        ]
        decisions = plan_retention(candidates, policy, environment.clock.now())
        planned += [(found[decision.name], decision) for decision in decisions]
    return planned


def _kind(backup: Found) -> tuple[str, bool]:
    """An imported archive, which nobody can prove, must not push out a backup, nor a backup it."""
    return backup.manifest.kind, backup.manifest.is_foreign


def _by_name(backups: Iterable[Found]) -> dict[str, list[Found]]:
    groups: dict[str, list[Found]] = {}
    for backup in backups:
        groups.setdefault(backup.name, []).append(backup)
    return groups


def prune(environment: Environment, alias: str) -> list[Decision]:
    """Delete what the plan lets go, each with its written reason. Raises LocationError; what was deleted stays deleted.

    The archive goes first and the manifest last: whatever happens in between, no archive is left without a manifest
    that says whose it is, and verification tells of a manifest without its archive.
    """
    history = History(environment.actor)
    deleted = []
    for backup, decision in plan(environment, alias):
        if decision.keep:
            continue
        for copy in backup.copies:
            copy.location.delete(backup.manifest.archive.name)
            copy.location.delete(manifest_name(backup.manifest.archive.name))
        history.delete(backup.name)
        history.event(environment.clock.now(), "deleted", backup.name, decision.reason)
        environment.reporter.note(f"Deleted {backup.name}: {decision.reason}.")
        deleted.append(decision)
    return deleted
