"""Filling and emptying the demo."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management.color import no_style
from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Coalesce, Round

from project.erp.models import (
    Attachment,
    Category,
    Item,
    ItemSupplier,
    Partner,
    PurchaseOrder,
    PurchaseOrderLine,
    SalesOrder,
    SalesOrderLine,
    StockLedgerEntry,
    StockLevel,
    StockTransaction,
    Tag,
    User,
    Warehouse,
)
from project.erp.seed import files, goods, movements, people
from project.erp.seed.bulk import bulk_load
from project.erp.seed.orders import LINE_COLUMNS, ORDER_COLUMNS
from project.erp.seed.plan import Plan
from project.erp.seed.writers import write_rows

Report = Callable[[str], None]
"""Is told what was just written."""


def erp_models() -> list[type[models.Model]]:
    """Return the ERP's models, many-to-many tables included."""
    return list(apps.get_app_config("erp").get_models(include_auto_created=True))


def is_empty(using: str) -> bool:
    """Tell whether none of the ERP's tables has a row."""
    return not any(model._default_manager.using(using).exists() for model in erp_models())  # noqa: SLF001  Django's documented model API


def empty(using: str) -> None:
    """Delete every row of the ERP's tables, and the admin's log of them; files the seed made go too."""
    connection = connections[using]
    emptied: list[type[models.Model]] = [*erp_models(), LogEntry]
    tables = [model._meta.db_table for model in emptied]
    with transaction.atomic(using=using):
        names = files.names(using)
        statements = connection.ops.sql_flush(no_style(), tables, reset_sequences=True)
        with connection.constraint_checks_disabled(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        transaction.on_commit(lambda: files.delete(names), using=using)


def fill(plan: Plan, *, using: str, report: Report) -> None:
    """Write everything the plan asks for into the empty demo, all or nothing."""
    connection = connections[using]
    with transaction.atomic(using=using), bulk_load(connection, erp_models()):
        _people(connection, plan, report)
        facts = _goods(connection, plan, report)
        _movements(connection, plan, facts, report)
        write_rows(connection, Attachment, files.COLUMNS, files.rows(plan, using))
        _finish(connection)


def _people(connection: BaseDatabaseWrapper, plan: Plan, report: Report) -> None:
    write_rows(connection, User, people.USER_COLUMNS, people.user_rows(plan))
    groups = {name: _group(name, seen, connection.alias) for name, seen in people.GROUPS.items()}
    write_rows(connection, User.groups.through, people.MEMBERSHIP_COLUMNS, people.membership_rows(plan, groups))
    write_rows(connection, Partner, people.PARTNER_COLUMNS, people.partner_rows(plan))
    report(f"{plan.users:,} users, {people.partner_count(plan):,} partners")


def _group(name: str, seen: tuple[str, ...], using: str) -> int:
    group, _created = Group.objects.using(using).get_or_create(name=name)
    codenames = [f"view_{model}" for model in seen]
    permissions = Permission.objects.using(using).filter(content_type__app_label="erp", codename__in=codenames)
    group.permissions.set(permissions.order_by("codename"))
    return group.pk


def _goods(connection: BaseDatabaseWrapper, plan: Plan, report: Report) -> goods.ItemFacts:
    facts = goods.ItemFacts()
    suppliers = goods.ITEM_SUPPLIER_COLUMNS
    write_rows(connection, Warehouse, goods.WAREHOUSE_COLUMNS, goods.warehouse_rows())
    write_rows(connection, Category, goods.CATEGORY_COLUMNS, goods.category_rows())
    write_rows(connection, Tag, goods.TAG_COLUMNS, goods.tag_rows())
    write_rows(connection, Item, goods.ITEM_COLUMNS, goods.item_rows(plan, facts))
    write_rows(connection, Item.tags.through, goods.ITEM_TAG_COLUMNS, goods.item_tag_rows(plan))
    write_rows(connection, ItemSupplier, suppliers, goods.item_supplier_rows(plan, facts))
    report(f"{plan.items:,} items")
    return facts


def _movements(connection: BaseDatabaseWrapper, plan: Plan, facts: goods.ItemFacts, report: Report) -> None:
    moved = movements.Movements(plan, facts)
    books = (
        (moved.purchases, PurchaseOrder, PurchaseOrderLine),
        (moved.sales, SalesOrder, SalesOrderLine),
    )
    for transactions, entries in moved.chunks():
        # Orders first: the transactions refer to them.
        for book, order, line in books:
            orders, lines = book.take()
            write_rows(connection, order, ORDER_COLUMNS, orders)
            write_rows(connection, line, LINE_COLUMNS, lines)
        write_rows(connection, StockTransaction, movements.TRANSACTION_COLUMNS, transactions)
        write_rows(connection, StockLedgerEntry, movements.ENTRY_COLUMNS, entries)
    write_rows(connection, StockLevel, movements.LEVEL_COLUMNS, moved.level_rows())
    report(f"{moved.purchases.order_count:,} purchase orders, {moved.sales.order_count:,} sales orders")
    report(f"{plan.transactions:,} stock transactions with {moved.entry_count:,} ledger entries")


def _finish(connection: BaseDatabaseWrapper) -> None:
    """Bring the items' stock and the sequences up to date."""
    levels = StockLevel.objects.filter(item=models.OuterRef("pk")).order_by().values("item")
    known = models.Subquery(levels.values(sum=models.Sum("quantity")))
    # Rounded, because SQLite adds decimals up as floating point numbers.
    total = Round(Coalesce(known, Decimal(0), output_field=models.DecimalField()), precision=3)
    Item.objects.using(connection.alias).update(on_hand=total)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), erp_models()):
            cursor.execute(statement)
