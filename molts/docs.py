"""`/docs/`: the documentation as `make setup` built it. Nothing of it comes from elsewhere."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from molts.files import send_file

# Stricter than the other pages: no media server to talk to, no form but the search, no worker.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@require_safe
def page(request: HttpRequest, path: str) -> HttpResponseBase:
    """One file of the site; a page that says how to build it where that has not happened."""
    if not (settings.MOLTS_DOCS_DIR / "index.html").exists():
        return render(request, "docs_missing.html", status=404)
    response = send_file(request, path, settings.MOLTS_DOCS_DIR)
    response.headers["Content-Security-Policy"] = POLICY
    if path.endswith(".txt"):
        response.headers["Content-Type"] = "text/plain; charset=utf-8"
    response.headers["Cache-Control"] = "no-cache"  # asked again each time: the answer is mostly "not changed"
    return response
