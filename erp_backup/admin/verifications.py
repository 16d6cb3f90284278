"""Verifications in the admin: the log of what was proven, by whom, and what was found."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from erp_backup.admin.base import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    shown_count,
    shown_duration,
    shown_seconds,
    shown_size,
)
from erp_backup.models import Finding, Verification


class FindingInline(ReadOnlyInline):
    """What was expected and what was found."""

    model = Finding
    permission = "erp_backup.view_verification"
    fields = ("severity", "kind", "subject", "expected", "found", "message")
    ordering = ("id",)


@admin.register(Verification)
class VerificationAdmin(ReadOnlyAdmin):
    """Every verification there was, with its findings."""

    list_display = (
        "backup_name",
        "level",
        "reached",
        "outcome",
        "started_at",
        "restored_in",
        "shown_size",
        "findings_count",
        "actor",
    )
    list_filter = ("outcome", "level", "location")
    search_fields = ("backup_name", "actor", "error")
    date_hierarchy = "started_at"
    inlines = (FindingInline,)
    fieldsets = (
        (None, {"fields": ("backup_name", "backup", "outcome", "error", "exit_code", "actor")}),
        (_("How deep"), {"fields": ("level", "reached", "tables", "shown_rows", "model_checks")}),
        (_("When"), {"fields": ("started_at", "finished_at", "shown_duration", "restored_in")}),
        (_("Where"), {"fields": ("location", "shown_size", "environment")}),
    )
    readonly_fields = ("shown_rows", "shown_duration", "restored_in", "shown_size")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Verification]:
        """Bring the number of findings along."""
        rows: QuerySet[Verification] = super().get_queryset(request)
        findings = Finding.objects.filter(verification=OuterRef("pk")).order_by().values("verification")
        count = Subquery(findings.annotate(count=Count("pk")).values("count"))
        return rows.annotate(findings_count=Coalesce(count, 0))

    @admin.display(description=_("restored in"), ordering="restore_seconds")
    def restored_in(self, verification: Verification) -> str | None:
        """How long the restore took."""
        return shown_seconds(verification.restore_seconds)

    @admin.display(description=_("size"), ordering="size")
    def shown_size(self, verification: Verification) -> str | None:
        """The archive's size."""
        return shown_size(verification.size)

    @admin.display(description=_("rows compared"))
    def shown_rows(self, verification: Verification) -> str | None:
        """The rows of all tables that were compared."""
        return shown_count(verification.rows)

    @admin.display(description=_("duration"))
    def shown_duration(self, verification: Verification) -> str | None:
        """From its start to its end."""
        return shown_duration(verification.started_at, verification.finished_at)

    @admin.display(description=_("findings"))
    def findings_count(self, verification: Verification) -> int:
        """How many findings there are."""
        return int(getattr(verification, "findings_count", 0))
