"""Which pages may open a WebSocket.

A browser sends our cookies along with any page's WebSocket: without this check every other site could listen in.
"""

from __future__ import annotations

from typing import Any

from channels.security.websocket import OriginValidator
from django.conf import settings
from django.http.request import split_domain_port, validate_host


class OriginGuard(OriginValidator):  # type: ignore[misc]
    """Lets in pages of ours: those of this very host, and of the configured origins.

    A request with an `Authorization` header comes from a program (no browser can send one with a WebSocket) and needs
    no origin; the consumer then looks at that key alone, never at cookies.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application, settings.MOLTS_WS_ORIGINS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = dict(scope.get("headers", []))
        origin = headers.get(b"origin", b"").decode("latin-1")
        if b"authorization" in headers or _is_same_host(scope, origin, headers.get(b"host", b"").decode("latin-1")):
            return await self.application(scope, receive, send)
        return await super().__call__(scope, receive, send)

    def valid_origin(self, parsed_origin: Any) -> bool:
        try:
            return bool(super().valid_origin(parsed_origin))
        except ValueError:  # a port that is no number
            return False


def _is_same_host(scope: Any, origin: str, host: str) -> bool:
    """Whether the page was loaded from the host that the socket is opened to, and that host is ours."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    domain, _ = split_domain_port(host)
    return (
        bool(domain)
        and validate_host(domain, settings.ALLOWED_HOSTS)
        and origin.lower() == f"{scheme}://{host.lower()}"
    )
