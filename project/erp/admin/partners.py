"""Partners in the admin."""

from __future__ import annotations

from django.contrib import admin

from project.erp.admin.attachments import AttachmentInline, WithAttachments
from project.erp.models import Partner


@admin.register(Partner)
class PartnerAdmin(WithAttachments):
    """Customers and suppliers."""

    list_display = ["code", "name", "kind", "country", "currency", "credit_limit", "account_manager", "is_active"]
    list_display_links = ["code", "name"]
    list_filter = ["kind", "is_active", "country", "currency"]
    list_select_related = ["account_manager"]
    search_fields = ["code", "name", "email", "tax_number"]
    autocomplete_fields = ["account_manager"]
    readonly_fields = ["public_id", "created_at"]
    inlines = [AttachmentInline]
    fieldsets = [
        (None, {"fields": ["code", "name", "kind", "is_active", "account_manager"]}),
        ("Contact", {"fields": ["email", "phone", "country", "address"]}),
        ("Money", {"fields": ["currency", "credit_limit", "tax_number", "customer_since"]}),
        ("Record", {"fields": ["public_id", "created_at"], "classes": ["collapse"]}),
    ]
