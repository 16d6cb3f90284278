"""The demo's addresses: the admin and the health probe."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from project.erp.views import health

admin.site.site_header = "Demo ERP"
admin.site.site_title = "Demo ERP"
admin.site.index_title = "Company"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("health", health, name="health"),
]
