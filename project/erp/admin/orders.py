"""Purchase and sales orders in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import DecimalField, Sum
from django.db.models.functions import Coalesce

from project.erp.admin.attachments import AttachmentInline, WithAttachments
from project.erp.admin.base import TabularInline
from project.erp.models import PurchaseOrder, PurchaseOrderLine, SalesOrder, SalesOrderLine

if TYPE_CHECKING:
    from django import forms
    from django.http import HttpRequest


class PurchaseOrderLineInline(TabularInline[PurchaseOrderLine, PurchaseOrder]):
    """The positions of a purchase order."""

    model = PurchaseOrderLine
    extra = 0
    autocomplete_fields = ["item"]
    readonly_fields = ["line_total"]


class SalesOrderLineInline(TabularInline[SalesOrderLine, SalesOrder]):
    """The positions of a sales order."""

    model = SalesOrderLine
    extra = 0
    autocomplete_fields = ["item"]
    readonly_fields = ["line_total"]


class OrderAdmin(WithAttachments):
    """What the pages of both kinds of order have in common; the total follows the lines."""

    list_display = ["number", "partner", "status", "ordered_on", "due_on", "total", "currency", "created_by"]
    list_filter = ["status", "currency", "ordered_on", "due_on"]
    list_select_related = ["partner", "created_by"]
    search_fields = ["number", "partner__name", "partner__code"]
    autocomplete_fields = ["partner"]
    readonly_fields = ["total", "public_id", "created_by", "created_at"]
    date_hierarchy = "ordered_on"
    show_full_result_count = False

    def save_model(self, request: HttpRequest, obj: Any, form: forms.ModelForm[Any], change: bool) -> None:  # noqa: FBT001  Django's signature
        """Note who made the order."""
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001  Django's signature
        """Save the lines, then the order's total."""
        super().save_related(request, form, formsets, change)
        order = form.instance
        zero: Any = Coalesce(Sum("line_total"), 0, output_field=DecimalField(max_digits=16, decimal_places=2))
        order.total = order.lines.aggregate(total=zero)["total"]
        order.save(update_fields=["total"])


@admin.register(PurchaseOrder)
class PurchaseOrderAdmin(OrderAdmin):
    """What we order."""

    inlines = [PurchaseOrderLineInline, AttachmentInline]


@admin.register(SalesOrder)
class SalesOrderAdmin(OrderAdmin):
    """What customers order."""

    inlines = [SalesOrderLineInline, AttachmentInline]
    search_fields = [*OrderAdmin.search_fields, "customer_reference"]
