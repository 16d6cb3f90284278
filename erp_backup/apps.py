"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _


class ErpBackupConfig(AppConfig):
    """Registers the system checks and finds the ERP's model checks."""

    name = "erp_backup"
    verbose_name = _("Backups")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Bind what must be bound; nothing here touches a database, a network or a file."""
        from erp_backup import checks as our_checks  # noqa: PLC0415 - needs the app registry
        from erp_backup.modelchecks.registry import autodiscover  # noqa: PLC0415 - the same

        autodiscover()
        for check, tags in our_checks.CHECKS.items():
            checks.register(check, *tags)
        for check, tags in our_checks.DEPLOY_CHECKS.items():
            checks.register(check, *tags, deploy=True)
