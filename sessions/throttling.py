"""How often one address may start conversations or check its connection, and one visitor send what was typed."""

from __future__ import annotations

import uuid

from django.http import HttpRequest
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from molts.callers import subscriber
from molts.errors import Busy, Unavailable
from sessions.services import MOST_TYPED, TYPED_SECONDS


class StartRateThrottle(SimpleRateThrottle):
    scope = "visitor_start"

    def get_cache_key(self, request: Request, view: object) -> str:
        return self.cache_format % {"scope": self.scope, "ident": subscriber(self.get_ident(request))}


class CheckRateThrottle(StartRateThrottle):
    scope = "visitor_check"


class SayRateThrottle(SimpleRateThrottle):
    """One measure a conversation, wherever its visitor writes from."""

    scope = "visitor_say"
    rate = f"{MOST_TYPED}/{TYPED_SECONDS} s"

    def __init__(self, session_id: uuid.UUID) -> None:
        self._session_id = session_id
        super().__init__()

    def parse_rate(self, rate: str | None) -> tuple[int, int]:
        return MOST_TYPED, TYPED_SECONDS

    def get_cache_key(self, request: Request, view: object) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self._session_id.hex}


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


def check_say_rate(request: HttpRequest, session_id: uuid.UUID) -> None:
    """Raises TooFast when this conversation's visitor has sent too many lines lately; Unavailable without Redis."""
    wait = _wait(SayRateThrottle(session_id), request)
    if wait:
        raise TooFast(wait, "That was too much at once; this line was not taken.")


def _wait(throttle: SimpleRateThrottle, request: HttpRequest) -> int:
    """Seconds until this one may try again; 0 when it may now."""
    try:
        allowed = throttle.allow_request(Request(request), None)  # type: ignore[arg-type]
    except RedisError as error:
        raise Unavailable("A part of this service is out of reach. Try again in a moment.") from error
    return 0 if allowed else max(1, round(throttle.wait() or 1))
