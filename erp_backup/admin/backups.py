"""Backups in the admin."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from erp_backup.admin.base import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    shown_count,
    shown_duration,
    shown_json,
    shown_seconds,
    shown_size,
)
from erp_backup.models import Backup, Copy, Outcome, Verification


class CopyInline(ReadOnlyInline):
    """Where a backup is, and when each copy was last read back."""

    model = Copy
    permission = "erp_backup.view_backup"
    fields = ("location", "state", "stored_at", "read_back_at")
    ordering = ("location",)


class VerificationInline(ReadOnlyInline):
    """How a backup was proven; each links to its own page."""

    model = Verification
    permission = "erp_backup.view_backup"
    fields = ("started_at", "level", "reached", "outcome", "restored_in", "actor")
    readonly_fields = ("restored_in",)
    show_change_link = True

    @admin.display(description=_("restored in"))
    def restored_in(self, verification: Verification) -> str | None:
        """How long the restore took."""
        return shown_seconds(verification.restore_seconds)


@admin.register(Backup)
class BackupAdmin(ReadOnlyAdmin):
    """Attempts at backups, and everything that is in the manifest of those that succeeded."""

    list_display = (
        "name",
        "database",
        "kind",
        "status",
        "taken_at",
        "shown_size",
        "shown_rows",
        "shown_duration",
        "last_verification",
        "actor",
    )
    list_filter = ("status", "database", "kind", "host")
    search_fields = ("name", "archive", "database_name", "error")
    date_hierarchy = "started_at"
    inlines = (CopyInline, VerificationInline)
    fieldsets = (
        (None, {"fields": ("name", "status", "error", "exit_code", "actor")}),
        (_("What it holds"), {"fields": ("database", "database_name", "engine", "kind", "tables", "shown_rows")}),
        (_("When"), {"fields": ("taken_at", "started_at", "finished_at", "shown_duration")}),
        (_("Archive"), {"fields": ("archive", "format", "shown_size", "sha256", "host", "release")}),
        (_("Figures"), {"fields": ("shown_figures",)}),
        (_("Manifest"), {"fields": ("number", "manifest_sha256", "shown_manifest")}),
    )
    readonly_fields = ("shown_size", "shown_rows", "shown_duration", "shown_figures", "shown_manifest")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backup]:
        """Leave the manifests' text out, which is long, and bring each backup's last verification along."""
        last = Verification.objects.filter(backup=OuterRef("pk")).order_by("-started_at", "-pk")
        rows: QuerySet[Backup] = super().get_queryset(request)
        return rows.defer("manifest").annotate(
            last_outcome=Subquery(last.values("outcome")[:1]), last_level=Subquery(last.values("level")[:1])
        )

    @admin.display(description=_("size"), ordering="size")
    def shown_size(self, backup: Backup) -> str | None:
        """The archive's size."""
        return shown_size(backup.size)

    @admin.display(description=_("rows"), ordering="rows")
    def shown_rows(self, backup: Backup) -> str | None:
        """The rows of all tables."""
        return shown_count(backup.rows)

    @admin.display(description=_("duration"))
    def shown_duration(self, backup: Backup) -> str | None:
        """From its start to its end."""
        return shown_duration(backup.started_at, backup.finished_at)

    @admin.display(description=_("last verification"))
    def last_verification(self, backup: Backup) -> str | None:
        """What the last verification found, and how deep it was."""
        outcome, level = getattr(backup, "last_outcome", None), getattr(backup, "last_level", None)
        return f"{Outcome(outcome).label} ({level})" if outcome in Outcome.values else None

    @admin.display(description=_("measured in the snapshot"))
    def shown_figures(self, backup: Backup) -> SafeString | None:
        """Rows and fingerprint of each table, and the figure of each model check."""
        if not backup.manifest:
            return None
        return render_to_string("admin/erp_backup/figures.html", {"manifest": json.loads(backup.manifest)})

    @admin.display(description=_("manifest"))
    def shown_manifest(self, backup: Backup) -> SafeString | None:
        """The manifest, indented."""
        return shown_json(backup.manifest)
