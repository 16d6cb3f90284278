"""The health probe, for load balancers, monitoring and restored copies."""

# ruff: noqa: ARG001  Django calls views with the request

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db import Error
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 when the ERP's own tables can be read, 503 when they cannot.

    It reads a table rather than asking `SELECT 1`, so that an empty database is not called healthy.
    """
    try:
        get_user_model().objects.exists()
    except Error:
        return JsonResponse({"status": "unavailable"}, status=503)
    return JsonResponse({"status": "ok"})
