"""How often one address may start conversations, or check its connection."""

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


class CheckRateThrottle(StartRateThrottle):
    scope = "visitor_check"


class TooFast(Busy):
    code = "throttled"

    def __init__(self, retry_after: int, what: str = "Too many conversations were started from here.") -> None:
        super().__init__(f"{what} Try again in {retry_after} s.")
        self.retry_after = retry_after


def check_start_rate(request: HttpRequest) -> None:
    """Raises TooFast when this address has started too many conversations lately.

    Raises Unavailable without Redis, which no conversation can do without either.
    """
    wait = _wait(StartRateThrottle(), request)
    if wait:
        raise TooFast(wait)


def check_check_rate(request: HttpRequest) -> None:
    """Raises TooFast when this address has checked its connection too often lately; Unavailable without Redis."""
    wait = _wait(CheckRateThrottle(), request)
    if wait:
        raise TooFast(wait, "The connection was checked too often from here.")


def _wait(throttle: StartRateThrottle, request: HttpRequest) -> int:
    """Seconds until this address may try again; 0 when it may now."""
    try:
        allowed = throttle.allow_request(Request(request), None)  # type: ignore[arg-type]
    except RedisError as error:
        raise Unavailable("A part of this service is out of reach. Try again in a moment.") from error
    return 0 if allowed else max(1, round(throttle.wait() or 1))
