"""The app configuration of the demo ERP."""

from __future__ import annotations

from django.apps import AppConfig


class ErpConfig(AppConfig):
    """Registers the models under the label `erp`."""

    name = "project.erp"
    label = "erp"
    verbose_name = "ERP"
