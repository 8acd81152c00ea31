"""How often one address may start conversations."""

from __future__ import annotations

from django.http import HttpRequest
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from molts.errors import Busy, Unavailable


class StartRateThrottle(SimpleRateThrottle):
    scope = "visitor_start"

    def get_cache_key(self, request: Request, view: object) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class TooFast(Busy):
    code = "throttled"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many conversations were started from here. Try again in {retry_after} s.")
        self.retry_after = retry_after


def check_start_rate(request: HttpRequest) -> None:
    """Raises TooFast when this address has started too many conversations lately.

    Raises Unavailable without Redis, which no conversation can do without either.
    """
    throttle = StartRateThrottle()
    try:
        allowed = throttle.allow_request(Request(request), None)  # type: ignore[arg-type]
    except RedisError as error:
        raise Unavailable("A part of this service is out of reach. Try again in a moment.") from error
    if not allowed:
        raise TooFast(max(1, round(throttle.wait() or 1)))
