"""The demo's tables; the runbook's four keep the runbook's names."""

from __future__ import annotations

from project.erp.models.attachments import Attachment
from project.erp.models.catalog import Category, Item, ItemSupplier, Tag
from project.erp.models.orders import PurchaseOrder, PurchaseOrderLine, SalesOrder, SalesOrderLine
from project.erp.models.partners import Partner
from project.erp.models.stock import StockLedgerEntry, StockLevel, StockTransaction, Warehouse
from project.erp.models.users import User

__all__ = [
    "Attachment",
    "Category",
    "Item",
    "ItemSupplier",
    "Partner",
    "PurchaseOrder",
    "PurchaseOrderLine",
    "SalesOrder",
    "SalesOrderLine",
    "StockLedgerEntry",
    "StockLevel",
    "StockTransaction",
    "Tag",
    "User",
    "Warehouse",
]
