"""The catalog and the history in the host's database: a readable copy of what the manifests in the locations say.

There is no foreign key to users, and names instead of references wherever a restored database might not have the other
end.
"""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    _DateTimeField = models.DateTimeField[Any, Any]
else:
    _DateTimeField = models.DateTimeField


class MomentField(_DateTimeField):
    """A moment, aware of its time zone in Python also where the host has ``USE_TZ = False``.

    There it is stored as the host's own times are: naive, in the host's time zone, which SQLite and MySQL insist on.
    """

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's
        """Take the zone away where the connection has none."""
        if isinstance(value, datetime) and connection.timezone is None and timezone.is_aware(value):
            value = timezone.make_naive(value, timezone.get_default_timezone())
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, *_: Any) -> Any:
        """Give it back."""
        if isinstance(value, datetime) and timezone.is_naive(value):
            return timezone.make_aware(value, timezone.get_default_timezone())
        return value

    def deconstruct(self) -> Any:
        """Be an ordinary DateTimeField to migrations: the column is one."""
        name, _path, arguments, keywords = super().deconstruct()
        return name, "django.db.models.DateTimeField", arguments, keywords


class BackupStatus(models.TextChoices):
    """How an attempt to make a backup went."""

    RUNNING = "running", _("running")  # from its start until it ends; a dead one is marked failed by the next run
    COMPLETE = "complete", _("complete")  # its manifest is in every location that was asked for
    PARTIAL = "partial", _("partial")  # its manifest is in some location, but not in all
    FAILED = "failed", _("failed")  # there is no backup of that name
    DELETED = "deleted", _("deleted")  # retention has let it go, for a reason that an event gives


class Backup(models.Model):
    """One attempt at a backup, and what its manifest says when there is one."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    database = models.CharField(_("database"), max_length=100, db_index=True)
    database_name = models.CharField(_("name at the server"), max_length=500, blank=True)
    engine = models.CharField(_("engine"), max_length=50, blank=True)
    kind = models.CharField(_("kind"), max_length=20)
    format = models.CharField(_("format"), max_length=20, blank=True)
    status = models.CharField(_("status"), max_length=20, choices=BackupStatus, default=BackupStatus.RUNNING)
    number = models.PositiveBigIntegerField(_("number"), null=True, blank=True)
    started_at = MomentField(_("started"), db_index=True)
    taken_at = MomentField(_("state of"), null=True, blank=True, db_index=True)
    finished_at = MomentField(_("finished"), null=True, blank=True)
    archive = models.CharField(_("archive"), max_length=250, blank=True)
    size = models.PositiveBigIntegerField(_("size in bytes"), null=True, blank=True)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    tables = models.PositiveIntegerField(_("tables"), null=True, blank=True)
    rows = models.PositiveBigIntegerField(_("rows"), null=True, blank=True)
    manifest = models.TextField(_("manifest"), blank=True)
    manifest_sha256 = models.CharField(_("SHA-256 of the manifest"), max_length=64, blank=True)
    exit_code = models.SmallIntegerField(_("exit code"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    actor = models.CharField(_("made by"), max_length=200, blank=True)
    host = models.CharField(_("host"), max_length=255, blank=True)
    release = models.CharField(_("release"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        ordering = ("-started_at", "-id")
        get_latest_by = "started_at"

    def __str__(self) -> str:
        return self.name


class CopyState(models.TextChoices):
    """What is known about one copy."""

    STORED = "stored", _("stored")  # written, and not read back yet
    VERIFIED = "verified", _("read back")  # its size and SHA-256 were read back and are right
    MISSING = "missing", _("missing")  # it was not there when it was last looked for
    DAMAGED = "damaged", _("damaged")  # its bytes are not those that were stored


class Copy(models.Model):
    """One backup's archive and manifest in one location."""

    backup = models.ForeignKey(Backup, models.CASCADE, related_name="copies", verbose_name=_("backup"))
    location = models.CharField(_("location"), max_length=100)
    state = models.CharField(_("state"), max_length=20, choices=CopyState, default=CopyState.STORED)
    stored_at = MomentField(_("stored"))
    read_back_at = MomentField(_("read back"), null=True, blank=True)

    class Meta:
        verbose_name = _("copy")
        verbose_name_plural = _("copies")
        constraints = (models.UniqueConstraint(fields=("backup", "location"), name="erp_backup_one_copy_per_location"),)

    def __str__(self) -> str:
        return self.location


class Outcome(models.TextChoices):
    """The three outcomes of a verification."""

    PASSED = "passed", _("passed")  # everything asked for was compared and equal
    FAILED = "failed", _("failed")  # at least one comparison found a difference
    UNVERIFIED = "could not verify", _("could not verify")  # something could not be compared; never a pass


class Verification(models.Model):
    """One comparison of a backup with its manifest: who, when, which copy, how deep, and what came out."""

    backup = models.ForeignKey(
        Backup, models.SET_NULL, null=True, related_name="verifications", verbose_name=_("backup")
    )
    backup_name = models.CharField(_("backup"), max_length=250)
    location = models.CharField(_("location"), max_length=100, blank=True)
    level = models.CharField(_("level asked for"), max_length=20)
    reached = models.CharField(_("level reached"), max_length=20, blank=True)
    outcome = models.CharField(_("outcome"), max_length=20, choices=Outcome)
    started_at = MomentField(_("started"), db_index=True)
    finished_at = MomentField(_("finished"))
    restore_seconds = models.FloatField(_("seconds to restore"), null=True, blank=True)
    size = models.PositiveBigIntegerField(_("size in bytes"), null=True, blank=True)
    tables = models.PositiveIntegerField(_("tables compared"), null=True, blank=True)
    rows = models.PositiveBigIntegerField(_("rows compared"), null=True, blank=True)
    model_checks = models.PositiveIntegerField(_("model checks compared"), null=True, blank=True)
    exit_code = models.SmallIntegerField(_("exit code"))
    error = models.TextField(_("error"), blank=True)
    actor = models.CharField(_("tester"), max_length=200, blank=True)
    environment = models.JSONField(_("environment"), default=dict, blank=True)

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        ordering = ("-started_at", "-id")
        get_latest_by = "started_at"

    def __str__(self) -> str:
        return f"{self.backup_name}: {self.outcome}"


class Finding(models.Model):
    """One difference that a verification found."""

    verification = models.ForeignKey(
        Verification, models.CASCADE, related_name="findings", verbose_name=_("verification")
    )
    severity = models.CharField(_("severity"), max_length=20)
    kind = models.CharField(_("kind"), max_length=50)
    subject = models.TextField(_("subject"))
    expected = models.TextField(_("expected"), blank=True)
    found = models.TextField(_("found"), blank=True)
    message = models.TextField(_("message"), blank=True)

    class Meta:
        verbose_name = _("finding")
        verbose_name_plural = _("findings")
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.expected} / {self.found}"


class RestoreTarget(models.TextChoices):
    """Where the restored state goes."""

    SWITCH = "switch", _("in the live database's place")
    INTO = "into", _("a new database")
    TABLES = "tables", _("some tables of the live database")
    IN_PLACE = "in place", _("into the live database, in one transaction")
    ROLLBACK = "rollback", _("the replaced database, back in its place")
    ROWS = "rows", _("missing rows of the live database")


class RestoreStatus(models.TextChoices):
    """How a restore went."""

    RUNNING = "running", _("running")  # a dead one is completed or undone by the next run
    COMPLETE = "complete", _("complete")
    FAILED = "failed", _("failed")  # the live database is as it was


class Restore(models.Model):
    """One restore: what was put where, by whom, what it replaced, and what came out."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    backup_name = models.CharField(_("backup"), max_length=250, blank=True)
    database = models.CharField(_("database"), max_length=100, db_index=True)
    target = models.CharField(_("target"), max_length=20, choices=RestoreTarget)
    destination = models.CharField(_("destination"), max_length=500, blank=True)
    status = models.CharField(_("status"), max_length=20, choices=RestoreStatus, default=RestoreStatus.RUNNING)
    started_at = MomentField(_("started"), db_index=True)
    finished_at = MomentField(_("finished"), null=True, blank=True)
    replaced = models.CharField(_("replaced database"), max_length=500, blank=True)
    safety_backup = models.CharField(_("safety backup"), max_length=250, blank=True)
    exit_code = models.SmallIntegerField(_("exit code"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    actor = models.CharField(_("made by"), max_length=200, blank=True)
    host = models.CharField(_("host"), max_length=255, blank=True)
    report: models.JSONField[dict[str, Any]] = models.JSONField(_("report"), default=dict, blank=True)

    class Meta:
        verbose_name = _("restore")
        verbose_name_plural = _("restores")
        ordering = ("-started_at", "-id")
        get_latest_by = "started_at"

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """Something that happened, in order: the audit log."""

    at = MomentField(_("at"), db_index=True)
    kind = models.CharField(_("kind"), max_length=50)
    subject = models.CharField(_("subject"), max_length=250, blank=True)
    message = models.TextField(_("message"), blank=True)
    actor = models.CharField(_("by"), max_length=200, blank=True)
    data: models.JSONField[dict[str, Any]] = models.JSONField(_("data"), default=dict, blank=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind} {self.subject}"
