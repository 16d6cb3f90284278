"""Items and what sorts them, in the admin."""

# ruff: noqa: ARG002  Django calls these methods with its own signatures

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, F, QuerySet

from project.erp.admin.attachments import AttachmentInline, WithAttachments
from project.erp.admin.base import ModelAdmin, TabularInline
from project.erp.models import Category, Item, ItemSupplier, StockLevel, Tag

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(Category)
class CategoryAdmin(ModelAdmin[Category]):
    """The tree of categories, with the number of items directly in each."""

    # Said here too: counting the items makes Django forget the model's own order.
    ordering = ["code"]
    list_display = ["code", "name", "parent", "item_count"]
    list_display_links = ["code", "name"]
    list_select_related = ["parent"]
    search_fields = ["code", "name"]
    autocomplete_fields = ["parent"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Category]:
        """Count the items in the same query."""
        return super().get_queryset(request).annotate(_items=Count("items"))

    @admin.display(description="items", ordering="_items")
    def item_count(self, category: Any) -> int:
        """Return how many items stand directly in this category."""
        return int(category._items)  # noqa: SLF001  annotated above


@admin.register(Tag)
class TagAdmin(ModelAdmin[Tag]):
    """Tags."""

    list_display = ["name", "colour"]
    search_fields = ["name"]


class ItemSupplierInline(TabularInline[ItemSupplier, Item]):
    """Who delivers the item."""

    model = ItemSupplier
    extra = 0
    autocomplete_fields = ["partner"]


class StockLevelInline(TabularInline[StockLevel, Item]):
    """What each warehouse has; only stock transactions change it."""

    model = StockLevel
    extra = 0
    can_delete = False
    fields = ["warehouse", "quantity"]
    readonly_fields = ["warehouse", "quantity"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[StockLevel]:
        """Fetch the warehouses' names in the same query."""
        return super().get_queryset(request).select_related("warehouse")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: levels follow the ledger."""
        return False


class ReorderFilter(admin.SimpleListFilter):
    """Items that should be ordered again."""

    title = "stock"
    parameter_name = "stock"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the three situations."""
        return [("none", "None on hand"), ("low", "At or below reorder level"), ("good", "Above reorder level")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the items in the chosen situation."""
        match self.value():
            case "none":
                return queryset.filter(on_hand=0)
            case "low":
                return queryset.filter(on_hand__lte=F("reorder_level"))
            case "good":
                return queryset.filter(on_hand__gt=F("reorder_level"))
        return queryset


@admin.register(Item)
class ItemAdmin(WithAttachments):
    """Items with their stock, suppliers and files."""

    list_display = ["sku", "name", "category", "status", "on_hand", "unit", "reorder_level", "price", "cost"]
    list_display_links = ["sku", "name"]
    list_filter = ["status", ReorderFilter, "unit", "category", "tags"]
    list_select_related = ["category"]
    search_fields = ["sku", "name", "barcode"]
    autocomplete_fields = ["category", "tags"]
    readonly_fields = ["on_hand", "created_at", "last_change"]
    actions = ["put_on_hold"]
    inlines = [StockLevelInline, ItemSupplierInline, AttachmentInline]
    fieldsets = [
        (None, {"fields": ["sku", "name", "description", "status", "category", "tags"]}),
        ("Stock", {"fields": ["unit", "on_hand", "reorder_level", "barcode"]}),
        ("Money", {"fields": ["price", "cost"]}),
        ("More", {"fields": ["attributes", "launched_on", "created_at", "last_change"]}),
    ]

    @admin.display(description="updated at")
    def last_change(self, item: Item) -> datetime | None:
        """Return when the item was saved last; a new one has only the database's default there yet."""
        return item.updated_at if item.pk else None

    @admin.action(description="Put selected items on hold", permissions=["change"])
    def put_on_hold(self, request: HttpRequest, queryset: QuerySet[Item]) -> None:
        """Stop buying and selling the selected items."""
        count = queryset.update(status=Item.Status.ON_HOLD)
        self.message_user(request, f"{count} items are on hold now.")
