"""People who log in."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from project.erp.models import fields


class UserManager(BaseUserManager["User"]):
    """Makes users that are known by their email address."""

    def create_user(self, email: str, password: str | None = None, **values: Any) -> User:
        """Save and return a user; without a password nobody can log in as that user.

        Raises ValueError when the address is empty.
        """
        if not email:
            raise ValueError("A user needs an email address.")
        user = self.model(email=self.normalize_email(email), **values)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **values: Any) -> User:
        """Save and return a user who may do everything."""
        rights: dict[str, Any] = {"is_staff": True, "is_superuser": True, "role": User.Role.ADMIN}
        return self.create_user(email, password, **(rights | values))

    def get_by_natural_key(self, username: str | None) -> User:
        """Return the user with this address, in whatever case it was typed."""
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person known by an email address; every other column has a default in the database."""

    class Role(models.TextChoices):
        """What a person does in the company."""

        ADMIN = "admin", "Administrator"
        MANAGER = "manager", "Manager"
        ACCOUNTING = "accounting", "Accounting"
        PURCHASING = "purchasing", "Purchasing"
        SALES = "sales", "Sales"
        WAREHOUSE = "warehouse", "Warehouse"
        VIEWER = "viewer", "Viewer"

    email = models.EmailField(unique=True)
    # "!" is Django's mark of a password that nothing matches.
    password = models.CharField(max_length=128, db_default="!")
    full_name = models.CharField(max_length=150, default="", db_default="", blank=True)
    role = models.CharField(max_length=20, choices=Role, default=Role.VIEWER, db_default=Role.VIEWER)
    language = models.CharField(max_length=10, default="en", db_default="en")
    is_active = models.BooleanField(default=True, db_default=True)
    is_staff = models.BooleanField(default=False, db_default=False)
    is_superuser = models.BooleanField(default=False, db_default=False)
    date_joined = fields.created_at()
    preferences = fields.json_object("What this person chose in the user interface.")

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        db_table = "users"
        ordering = ["email"]
        constraints = [
            models.UniqueConstraint(Lower("email"), name="users_email_any_case"),
            models.CheckConstraint(condition=~models.Q(email=""), name="users_email_given"),
        ]
        indexes = [
            models.Index(fields=["role"], condition=models.Q(is_active=True), name="users_active_role"),
        ]

    def __str__(self) -> str:
        return self.full_name or self.email

    def get_full_name(self) -> str:
        """Return the name, or the address where none was given."""
        return str(self)

    def get_short_name(self) -> str:
        """Return the first word of the name."""
        return str(self).split(" ", 1)[0]
