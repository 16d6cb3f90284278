"""Maintenance mode, as the ERP's users meet it: 503 until it is over, whether or not there is a database."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template import Engine, TemplateDoesNotExist, TemplateSyntaxError, loader
from django.template.context import Context
from django.utils import translation
from django.utils.translation import gettext, gettext_noop

from erp_backup.conf import MaintenanceConfig, get_config
from erp_backup.core.clock import SystemClock
from erp_backup.exceptions import ConfigurationError
from erp_backup.services import maintenance
from erp_backup.services.maintenance import Maintenance

TEMPLATE = "erp_backup/503.html"
_TITLE = gettext_noop("The system is being maintained")
_HTML, _JSON = "text/html", "application/json"
_log = logging.getLogger(__name__)

Response = HttpResponseBase | Awaitable[HttpResponseBase]
Stamp = tuple[int, int, int]


class MaintenanceMiddleware:
    """Answers 503 for as long as maintenance mode is on. Put it first, or right after ``SecurityMiddleware``.

    While it is off a request costs one ``stat``. Neither sessions nor a database are needed.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Response]) -> None:
        self._get_response = get_response
        self._clock = SystemClock()
        self._seen: tuple[Stamp, Maintenance] | None = None
        self._complaint = ""
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response:
        """Answer the request, or let the ERP do it."""
        refusal = self._refusal(request)
        if refusal is None:
            return self._get_response(request)
        return _soon(refusal) if self._is_async else refusal

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        try:
            config = get_config().maintenance
        except ConfigurationError as error:
            # Wrong settings of the backups must not close the ERP; the system checks name them, too.
            self._complain(str(error))
            return None
        now_on = self._current(config)
        if now_on is None or _is_allowed(request.path_info, config.allow):
            return None
        return _answer(request, now_on, now_on.retry_after(self._clock.now(), config.retry_after))

    def _current(self, config: MaintenanceConfig) -> Maintenance | None:
        """Return the maintenance mode that is on; its file is read again only when it is another one."""
        try:
            found = os.stat(config.file)  # noqa: PTH116 - half the time of Path.stat(), for each request
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._complain(
                f"Whether maintenance mode is on cannot be seen: {error}. Name a file that this user can read in "
                "ERP_BACKUP['MAINTENANCE']['FILE']."
            )
            return None
        stamp = found.st_ino, found.st_mtime_ns, found.st_size
        if self._seen is None or self._seen[0] != stamp:
            self._seen = stamp, maintenance.read(config) or Maintenance()
        return self._seen[1]

    def _complain(self, text: str) -> None:
        """Say it once, not with every request."""
        if text != self._complaint:
            self._complaint = text
            _log.error(text)


async def _soon(response: HttpResponse) -> HttpResponseBase:
    return response


def _is_allowed(path: str, allowed: tuple[str, ...]) -> bool:
    """Whether the path is one of these or below one; ``/health`` does not stand for ``/healthy``."""
    return any(path == prefix.rstrip("/") or path.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed)


def _answer(request: HttpRequest, now_on: Maintenance, retry_after: int) -> HttpResponse:
    response: HttpResponse
    if request.get_preferred_type([_HTML, _JSON]) == _JSON:
        data = {"error": "maintenance", "reason": now_on.reason, "retry_after": retry_after}
        response = JsonResponse(data, status=503)
    else:
        with translation.override(translation.get_language_from_request(request)):
            response = HttpResponse(_page(now_on), status=503)
    response["Retry-After"] = str(retry_after)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "Accept, Accept-Language"
    return response


def _page(now_on: Maintenance) -> str:
    title = gettext(_TITLE)
    is_translated = title != _TITLE
    context = {
        "title": title,
        # A page in English says so, also to somebody who has asked for a language that there is no text in.
        "language": translation.get_language() if is_translated else "en",
        "direction": "rtl" if is_translated and translation.get_language_bidi() else "ltr",
        "maintenance": now_on,
    }
    try:
        return loader.get_template(TEMPLATE).render(context)
    except (TemplateDoesNotExist, TemplateSyntaxError):  # a host with other template engines, or a mistake in its own
        own = Engine(dirs=[str(Path(__file__).with_name("templates"))], libraries={"i18n": "django.templatetags.i18n"})
        return own.get_template(TEMPLATE).render(Context(context))
