"""Django's admin and form classes, with their model as a type parameter at run time too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
    from django.forms import BaseInlineFormSet
else:
    from django import forms
    from django.contrib import admin
    from django.contrib.auth import admin as auth_admin
    from django.contrib.auth import forms as auth_forms

    class _Subscriptable:
        """Lets the type checker's `ModelAdmin[Item]` run: the parameter has no meaning at run time."""

        def __class_getitem__(cls, _parameters: Any) -> Any:
            return cls

    def _subscriptable(base: type) -> type:
        """Return a subclass of `base` that differs in nothing but taking type parameters."""
        return type(base)(base.__name__, (_Subscriptable, base), {"__module__": __name__})

    ModelAdmin = _subscriptable(admin.ModelAdmin)
    TabularInline = _subscriptable(admin.TabularInline)
    UserAdmin = _subscriptable(auth_admin.UserAdmin)
    AdminUserCreationForm = _subscriptable(auth_forms.AdminUserCreationForm)
    UserChangeForm = _subscriptable(auth_forms.UserChangeForm)
    BaseInlineFormSet = _subscriptable(forms.BaseInlineFormSet)

__all__ = [
    "AdminUserCreationForm",
    "BaseInlineFormSet",
    "ModelAdmin",
    "TabularInline",
    "UserAdmin",
    "UserChangeForm",
]
