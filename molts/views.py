"""Error pages: HTML for people, the one JSON shape for programs."""

from __future__ import annotations

import sys
from typing import Any

from django.contrib import admin
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from molts.api import error_body
from molts.database import unavailable
from molts.errors import BadInput, MoltsError, NotAllowed, NotFound, TooLarge


class ServerError(MoltsError):
    code = "error"


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return _answer(request, TooLarge("The request is too large."), "404.html")
    return _answer(request, BadInput("The request is not valid."), "404.html")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    error = NotAllowed("This is not open to you.")
    # No user is known where a middleware refused.
    in_admin = request.path.startswith(reverse("admin:index")) and hasattr(request, "user")
    if not in_admin or not admin.site.has_permission(request):
        return _answer(request, error, "403.html")
    return _answer(request, error, "admin/not_allowed.html", admin.site.each_context(request) | {"title": "No access"})


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form or script of another site, or a page that was open for too long."""
    error = NotAllowed("The page is too old, or cookies are off. Load it again.", code="csrf")
    return _answer(request, error, "403.html")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, NotFound("There is nothing here."), "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    if away := unavailable(sys.exc_info()[1]):
        return _answer(request, away, "500.html")
    return _answer(request, ServerError("Something went wrong here. It has been logged."), "500.html")


def _answer(
    request: HttpRequest, error: MoltsError, template: str, context: dict[str, Any] | None = None
) -> HttpResponse:
    response: HttpResponse
    if _wants_json(request):
        response = JsonResponse(error_body(error), status=error.http_status)
    else:
        response = render(request, template, context, status=error.http_status)
    if error.retryable:
        response["Retry-After"] = "5"
    return response


def _wants_json(request: HttpRequest) -> bool:
    if request.path.startswith("/api/") or request.content_type == "application/json":
        return True
    return "text/html" not in request.headers.get("Accept", "") and "application/json" in request.headers.get(
        "Accept", ""
    )
