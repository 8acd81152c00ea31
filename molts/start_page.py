"""What the admin's first page shows: the next steps to a first conversation, then how conversations go."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def start_page_context(request: HttpRequest) -> dict[str, Any]:
    return {}
