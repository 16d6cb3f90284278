"""What the pages of the history have in common: they only show."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from erp_backup.core.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline

_MOST = 500_000  # characters of JSON that a browser shows without trouble


class ReadOnlyAdmin(ModelAdmin):
    """Lists and shows rows to whoever has Django's permission to view them. Nobody writes history by hand."""

    actions = None
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - the same
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - the same
        """Nobody."""
        return False


class ReadOnlyInline(TabularInline):
    """Shows what belongs to a row to whoever may see that row."""

    extra = 0
    can_delete = False
    # The permission to see the row that these belong to.
    permission: ClassVar[str]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Whoever may see the row."""
        return request.user.has_perm(self.permission)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - the same
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - the same
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - the same
        """Nobody."""
        return False


def shown_size(size: int | None) -> str | None:
    """Return bytes as people read them; None, which the admin shows as a dash, where nothing is known."""
    return None if size is None else format_size(size)


def shown_count(count: int | None) -> str | None:
    """Return a number with its thousands apart, or None."""
    return None if count is None else format_count(count)


def shown_duration(start: datetime | None, end: datetime | None) -> str | None:
    """Return the time between two moments as people read it, or None."""
    return None if start is None or end is None else format_duration(end - start)


def shown_seconds(seconds: float | None) -> str | None:
    """Return a duration as people read it, or None."""
    return None if seconds is None else format_duration(timedelta(seconds=seconds))


def shown_json(text: str) -> SafeString | None:
    """Return JSON indented, escaped, as a block; what is no JSON as it stands. Very long text is cut, and says so."""
    if not text:
        return None
    try:
        pretty = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        pretty = text
    rest = ""
    if len(pretty) > _MOST:
        rest = _("%(count)s more characters are not shown here; the manifest in each location has them.") % {
            "count": format_count(len(pretty) - _MOST)
        }
    return format_html('<pre class="erp-backup-json">{}</pre>{}', pretty[:_MOST], rest)
