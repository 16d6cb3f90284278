"""Deleting old backups after a new one was made, as the retention policy says and for the reasons it gives."""

from __future__ import annotations

from erp_backup.core.names import manifest_name
from erp_backup.core.retention import Candidate, Decision, RetentionPolicy, plan_retention
from erp_backup.services import catalog
from erp_backup.services.catalog import Found
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.proofs import proofs


def plan(environment: Environment, alias: str) -> list[tuple[Found, Decision]]:
    """Return what would happen to each backup of a database, kind by kind, and why. Only what is signed by us is looked at."""
    found = [b for b in catalog.group(catalog.read_all(environment)) if b.manifest.database.alias == alias]
    policy = RetentionPolicy(keep_last=environment.config.keep_last)
    planned: list[tuple[Found, Decision]] = []
    for kind in sorted({backup.manifest.kind for backup in found}):
        of_kind = {backup.name: backup for backup in found if backup.manifest.kind == kind}
        proven = proofs(of_kind)
        candidates = [
            Candidate(name=name, taken_at=backup.manifest.taken_at, number=backup.manifest.number, proof=proven[name])
            for name, backup in of_kind.items()
        ]
        decisions = plan_retention(candidates, policy, environment.clock.now())
        planned += [(of_kind[decision.name], decision) for decision in decisions]
    return planned


def prune(environment: Environment, alias: str) -> list[Decision]:
    """Delete what the plan lets go, each with its written reason. Raises LocationError; what was deleted stays deleted.

    The archive goes first and the manifest last: whatever happens in between, no archive is left without a manifest that says whose
    it is, and verification tells of a manifest without its archive.
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
