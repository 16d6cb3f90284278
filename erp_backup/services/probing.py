"""The deepest level: the ERP itself, started on the restored copy, answers its health page."""

from __future__ import annotations

from erp_backup.core.errors import UsageError
from erp_backup.core.figures import Finding
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import Scratch
from erp_backup.modelchecks import isolated
from erp_backup.services.environment import Environment


def probe(environment: Environment, scratch: Scratch, manifest: Manifest) -> list[Finding]:
    """Start the ERP in a process of its own on ``scratch`` and ask its health page. Raises UsageError without one."""
    url = environment.config.probe
    if not url:
        raise UsageError(
            "There is no health page to ask.", remedy="Name its path in ERP_BACKUP['PROBE'], for example '/health'."
        )
    answer = isolated.probe(
        environment.runner,
        scratch.process_settings(),
        url,
        alias=manifest.database.alias,
        now=manifest.taken_at,
        settings_module=environment.config.settings_module,
    )
    if answer.is_healthy:
        return []
    found = str(answer.status) if answer.status else "no answer"
    return [Finding(kind="application", subject=url, expected="200", found=found, message=answer.problem)]
