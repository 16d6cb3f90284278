"""The history in the admin: everything can be read, nothing can be added, changed or deleted.

An admin site of the host's own registers the same classes: ``site.register(Backup, BackupAdmin)``.
"""

from __future__ import annotations

from erp_backup.admin.backups import BackupAdmin
from erp_backup.admin.events import EventAdmin
from erp_backup.admin.verifications import VerificationAdmin

__all__ = ["BackupAdmin", "EventAdmin", "VerificationAdmin"]
