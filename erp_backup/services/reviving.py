"""Users and rights that a restored state has and the replaced one had not any more.

Read in pieces: nobody's million users are held in memory. Password hashes are compared and never told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.db.models import ManyToManyField, Model, QuerySet

FIRST = 100  # how many names of each kind are told; the rest is counted
PIECE = 500  # rows that are compared together
_FLAGS = ("is_active", "is_staff", "is_superuser")
# What a right is called, by the model that grants it.
_CALLED = {"auth.Group": ("name",), "auth.Permission": ("content_type__app_label", "codename")}


@dataclass(slots=True, kw_only=True)
class Names:
    """How many there are, and the first of them."""

    total: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.total += 1
        if len(self.first) < FIRST:
            self.first.append(name)


@dataclass(slots=True, kw_only=True)
class Revived:
    """What the restored state has, and the replaced one had not any more.

    ``is_compared`` is False where that could not be told; ``notes`` say why, and what was left out.
    """

    is_compared: bool = True
    returned: Names = field(default_factory=Names)  # active users that the replaced state did not have
    reactivated: Names = field(default_factory=Names)  # active users that it had, inactive
    superusers: Names = field(default_factory=Names)
    staff: Names = field(default_factory=Names)
    groups: Names = field(default_factory=Names)  # "user: group"
    permissions: Names = field(default_factory=Names)  # "user: app.codename"
    group_permissions: Names = field(default_factory=Names)  # "group: app.codename"
    passwords: Names = field(default_factory=Names)  # users whose former password is valid again
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many findings there are."""
        return sum(kind.total for kind in self._kinds)

    @property
    def _kinds(self) -> tuple[Names, ...]:
        users = (self.returned, self.reactivated, self.superusers, self.staff, self.passwords)
        return (*users, self.groups, self.permissions, self.group_permissions)


def revived(old: str | None, new: str) -> Revived:
    """Compare the users and rights of the restored state ``new`` with those of the replaced one, ``old``.

    Both are aliases; users are recognized by their primary key. With None for ``old``, or where either cannot be read,
    the result says that nothing was compared.
    """
    if old is None:
        return _not_compared("There is no replaced state to compare users and rights with.")
    try:
        user_model = get_user_model()
    except ImproperlyConfigured:
        return _not_compared("The ERP has no users of Django's kind.")
    found = Revived()
    try:
        _Comparison(old, new, found).compare(user_model)
    except Error as error:
        said = str(error).strip().splitlines()
        return _not_compared(f"Users could not be compared: {type(error).__name__}: {said[0] if said else ''}")
    return found


def _not_compared(reason: str) -> Revived:
    return Revived(is_compared=False, notes=[reason])


@dataclass(slots=True)
class _Comparison:
    old: str
    new: str
    found: Revived

    def compare(self, user_model: type[Model]) -> None:
        lacking = [alias for alias in (self.old, self.new) if user_model._meta.db_table not in _tables(alias)]
        if lacking:
            which = "replaced" if self.old in lacking else "restored"
            self.found.is_compared = False
            self.found.notes.append(f"The {which} state has no table {user_model._meta.db_table} of users.")
            return
        self._compare_users(user_model)
        rights = {"auth.Group": self.found.groups, "auth.Permission": self.found.permissions}
        for relation in user_model._meta.many_to_many:
            names = rights.get(_label(relation))
            if names is not None:
                self._compare_rights(relation, getattr(user_model, "USERNAME_FIELD", "pk"), names)
        if apps.is_installed("django.contrib.auth"):
            relation = apps.get_model("auth.Group")._meta.get_field("permissions")
            self._compare_rights(relation, "name", self.found.group_permissions)

    def _compare_users(self, model: type[Model]) -> None:
        username = getattr(model, "USERNAME_FIELD", "pk")
        names = self._shared(model, [username, "password", *_FLAGS])
        new: QuerySet[Any] = QuerySet(model, using=self.new)
        old: QuerySet[Any] = QuerySet(model, using=self.old)
        for rows in _pieces(new.values("pk", *names)):
            former = old.filter(pk__in=[row["pk"] for row in rows]).values("pk", *names)
            before = {row["pk"]: row for row in former}
            for row in rows:
                self._compare_user(str(row.get(username, row["pk"])), row, before.get(row["pk"]))

    def _compare_user(self, name: str, now: dict[str, Any], before: dict[str, Any] | None) -> None:
        if now.get("is_active", True):
            if before is None:
                self.found.returned.add(name)
            elif not before.get("is_active", True):
                self.found.reactivated.add(name)
        for flag, names in (("is_superuser", self.found.superusers), ("is_staff", self.found.staff)):
            if now.get(flag) and not (before or {}).get(flag):
                names.add(name)
        is_another = before is not None and now.get("password") != before.get("password")
        if is_another and is_password_usable(now["password"]):  # what nothing matches lets nobody in
            self.found.passwords.add(name)

    def _shared(self, model: type[Model], wanted: list[str]) -> list[str]:
        """Return which of these fields the model and both states have; what only one state lacks is noted."""
        fields = {found.name: found for found in model._meta.concrete_fields if found.name in wanted}
        shared = []
        for name in dict.fromkeys(wanted):
            if name not in fields:
                continue
            table = fields[name].model._meta.db_table
            if all(fields[name].column in _columns(alias, table) for alias in (self.old, self.new)):
                shared.append(name)
            else:
                self.found.notes.append(f"{table}.{fields[name].column} is not in both states and was not compared.")
        return shared

    def _compare_rights(self, relation: ManyToManyField[Any, Any], owner_name: str, names: Names) -> None:
        """Compare who has what, by the rights' names: their numbers may have changed."""
        through: Any = relation.remote_field.through
        table = through._meta.db_table
        if not all(table in _tables(alias) for alias in (self.old, self.new)):
            self.found.notes.append(f"The table {table} is not in both states and was not compared.")
            return
        owner, right = relation.m2m_field_name(), relation.m2m_reverse_field_name()
        paths = [f"{right}__{path}" for path in _CALLED[_label(relation)]]
        new: QuerySet[Any] = QuerySet(through, using=self.new)
        old: QuerySet[Any] = QuerySet(through, using=self.old)
        for rows in _pieces(new.values("pk", owner, f"{owner}__{owner_name}", *paths)):
            owners = {row[owner] for row in rows}
            before = set(old.filter(**{f"{owner}__in": owners}).values_list(owner, *paths))
            for row in rows:
                if (row[owner], *(row[path] for path in paths)) not in before:
                    names.add(f"{row[f'{owner}__{owner_name}']}: {'.'.join(str(row[path]) for path in paths)}")


def _label(relation: ManyToManyField[Any, Any]) -> str:
    return str(relation.related_model._meta.label)


def _pieces(rows: QuerySet[Any, dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield all rows in pieces, by primary key: neither side needs a cursor that stays open."""
    rows = rows.order_by("pk")
    piece = list(rows[:PIECE])
    while piece:
        yield piece
        piece = list(rows.filter(pk__gt=piece[-1]["pk"])[:PIECE])


def _tables(alias: str) -> set[str]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def _columns(alias: str, table: str) -> set[str]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}
