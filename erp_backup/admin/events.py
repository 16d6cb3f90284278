"""Events in the admin: the audit log."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from erp_backup.admin.base import ReadOnlyAdmin, shown_json
from erp_backup.models import Event


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What happened, newest first."""

    list_display = ("at", "kind", "subject", "message", "actor")
    list_filter = ("kind", "actor")
    search_fields = ("subject", "message", "actor")
    date_hierarchy = "at"
    fields = ("at", "kind", "subject", "message", "actor", "shown_data")
    readonly_fields = ("shown_data",)

    @admin.display(description=_("data"))
    def shown_data(self, event: Event) -> SafeString | None:
        """What belongs to it, indented."""
        return shown_json(json.dumps(event.data)) if event.data else None
