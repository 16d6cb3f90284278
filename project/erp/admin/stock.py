"""Warehouses, stock transactions and the ledger in the admin."""

# ruff: noqa: ARG002  Django calls these methods with its own signatures

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.contrib import admin

from project.erp.admin.base import BaseInlineFormSet, ModelAdmin, TabularInline
from project.erp.models import StockLedgerEntry, StockLevel, StockTransaction, Warehouse
from project.erp.stock import Movement, check_available, check_movements, post

if TYPE_CHECKING:
    from django import forms
    from django.db.models import QuerySet
    from django.http import HttpRequest


@admin.register(Warehouse)
class WarehouseAdmin(ModelAdmin[Warehouse]):
    """Warehouses."""

    list_display = ["code", "name", "city", "country", "time_zone", "opens_at", "closes_at", "is_active"]
    list_display_links = ["code", "name"]
    list_filter = ["is_active", "country"]
    search_fields = ["code", "name", "city"]


class MovementFormSet(BaseInlineFormSet[StockLedgerEntry, StockTransaction, Any]):
    """The movements typed in for a new transaction."""

    def movements(self) -> list[Movement]:
        """Return what was typed, without empty rows."""
        return [
            Movement(
                item=row["item"],
                warehouse=row["warehouse"],
                quantity_change=row["quantity_change"],
                unit_cost=row.get("unit_cost") or Decimal(0),
            )
            for row in self.cleaned_data
            if row and not row.get("DELETE")
        ]

    def clean(self) -> None:
        """Refuse movements that make no sense or that a warehouse has too little for."""
        super().clean()
        if any(self.errors):
            return
        movements = self.movements()
        check_movements(self.instance.kind, movements)
        check_available(movements)


class LedgerEntryInline(TabularInline[StockLedgerEntry, StockTransaction]):
    """What a transaction moves: typed in once, only read afterwards."""

    model = StockLedgerEntry
    formset = MovementFormSet
    extra = 1
    can_delete = False
    fields = ["item", "warehouse", "quantity_change", "unit_cost"]
    autocomplete_fields = ["item", "warehouse"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[StockLedgerEntry]:
        """Fetch the names shown in the same query."""
        return super().get_queryset(request).select_related("item", "warehouse")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the ledger is only ever added to."""
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it for a new transaction only."""
        return obj is None and super().has_add_permission(request, obj)


class AppendOnly:
    """Mixed into the admin of what is never changed or deleted once it was written."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False


@admin.register(StockTransaction)
class StockTransactionAdmin(AppendOnly, ModelAdmin[StockTransaction]):
    """Stock transactions: posted once with their movements, never changed."""

    list_display = ["number", "kind", "created_at", "order", "created_by", "note"]
    list_filter = ["kind", "created_at"]
    list_select_related = ["purchase_order", "sales_order", "created_by"]
    search_fields = ["number", "note", "purchase_order__number", "sales_order__number"]
    autocomplete_fields = ["purchase_order", "sales_order"]
    readonly_fields = ["created_by", "created_at"]
    date_hierarchy = "created_at"
    show_full_result_count = False
    inlines = [LedgerEntryInline]

    @admin.display(description="order")
    def order(self, transaction: StockTransaction) -> str:
        """Return the number of the order behind the transaction, if there is one."""
        return str(transaction.purchase_order or transaction.sales_order or "")

    def save_model(
        self,
        request: HttpRequest,
        obj: StockTransaction,
        form: forms.ModelForm[Any],
        change: bool,  # noqa: FBT001  Django's signature
    ) -> None:
        """Note who posted the transaction."""
        obj.created_by = request.user  # type: ignore[assignment]  # staff are never anonymous
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001  Django's signature
        """Post the movements, which also brings the balances up to date."""
        if not isinstance(formset, MovementFormSet):
            super().save_formset(request, form, formset, change)
            return
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        post(form.instance, formset.movements())


@admin.register(StockLedgerEntry)
class StockLedgerEntryAdmin(AppendOnly, ModelAdmin[StockLedgerEntry]):
    """The ledger, to look things up in."""

    list_display = ["id", "created_at", "transaction", "item", "warehouse", "quantity_change", "unit_cost"]
    list_filter = ["warehouse", "transaction__kind", "created_at"]
    list_select_related = ["transaction", "item", "warehouse"]
    search_fields = ["transaction__number", "item__sku", "item__name"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: entries come with their transaction."""
        return False


@admin.register(StockLevel)
class StockLevelAdmin(AppendOnly, ModelAdmin[StockLevel]):
    """What lies where, to look things up in."""

    list_display = ["item", "warehouse", "quantity"]
    list_filter = ["warehouse", "item__status"]
    list_select_related = ["item", "warehouse"]
    search_fields = ["item__sku", "item__name"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: levels follow the ledger."""
        return False
