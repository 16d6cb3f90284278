"""Signals, for those who want to know: sent by the services, whoever started them.

django-dbbackup's own ``pre_backup``, ``post_backup``, ``pre_restore`` and ``post_restore`` are sent as well.
"""

from __future__ import annotations

from django.dispatch import Signal

# A backup exists. Arguments: ``result`` (a BackupResult).
backup_taken = Signal()
# A backup could not be made. Arguments: ``database`` (an alias), ``error`` (a BackupError).
backup_failed = Signal()
# A backup was verified, with whatever outcome. Arguments: ``result`` (a VerificationResult).
backup_verified = Signal()
# A state was restored. Arguments: ``result`` (a RestoreResult).
backup_restored = Signal()
