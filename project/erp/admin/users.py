"""Users in the admin."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

from django.contrib import admin

from project.erp.admin.base import AdminUserCreationForm, UserAdmin, UserChangeForm
from project.erp.models import User


class UserAddForm(AdminUserCreationForm[User]):
    """Asks for the address, the name and a password."""

    class Meta:
        model = User
        fields = ("email", "full_name", "role")


class UserEditForm(UserChangeForm[User]):
    """Everything about a user; the password has a form of its own."""

    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class ErpUserAdmin(UserAdmin[User]):
    """Django's own user pages, by email address."""

    add_form = UserAddForm
    form = UserEditForm
    list_display = ["email", "full_name", "role", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter = ["role", "is_active", "is_staff", "is_superuser", "groups", "date_joined"]
    search_fields = ["email", "full_name"]
    ordering = ["email"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = [
        (None, {"fields": ["email", "password"]}),
        ("Person", {"fields": ["full_name", "role", "language", "preferences"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["email", "full_name", "role", "usable_password", "password1", "password2"]}),
    ]
