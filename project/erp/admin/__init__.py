"""The demo's admin, one file per area."""

from __future__ import annotations

from project.erp.admin import attachments, catalog, orders, partners, stock, users

__all__ = ["attachments", "catalog", "orders", "partners", "stock", "users"]
