"""Test connection: one small real call for each thing a provider does, all at once, never longer than ten seconds."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from redis import RedisError
from rest_framework.throttling import SimpleRateThrottle

from molts.errors import Busy, MoltsError
from molts.redact import hide_secrets
from projects.providers.base import Credentials, Kind, ProbeResult, Provider

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request

KIND_SECONDS = 8.0
ALL_SECONDS = 9.0
"""Beyond the former, because taking a call down may wait for a name server that does not answer."""
LABELS = {Kind.STT: "Speech recognition", Kind.LLM: "Language model", Kind.TTS: "Voice", Kind.AVATAR: "Face"}


@dataclass(frozen=True)
class KindProbe:
    """What came back from one small call."""

    kind: Kind
    result: ProbeResult

    @property
    def label(self) -> str:
        return LABELS[self.kind]

    @property
    def verdict(self) -> str:
        if not self.result.ok:
            return "failed"
        return "works" if self.result.tried else "reached"

    def retold(self, text: str) -> KindProbe:
        return replace(self, result=replace(self.result, text=text))

    def __str__(self) -> str:
        took = f" ({self.result.latency_ms} ms)" if self.result.ok and self.result.latency_ms is not None else ""
        return f"{self.label} {self.verdict}{took}: {self.result.text}"


def probe_connection(*, provider: Provider, credentials: Credentials) -> list[KindProbe]:
    """Try each kind that `provider` serves, in order of use. Never raises; the key is in no text."""
    found: dict[Kind, ProbeResult] = {}
    kinds = [kind for kind in Kind if kind in provider.kinds]

    async def try_all() -> None:
        async def try_one(kind: Kind) -> None:
            found[kind] = await _probe(provider, kind, credentials)

        await asyncio.gather(*map(try_one, kinds))

    # In a thread of its own: whatever hangs in there, the caller goes on.
    # It knows the key as this request does, and keeps it out of its logs.
    thread = threading.Thread(
        target=copy_context().run, args=(asyncio.run, try_all()), name="test-connection", daemon=True
    )
    thread.start()
    thread.join(ALL_SECONDS)
    return [KindProbe(kind, found.get(kind) or _too_late(provider)) for kind in kinds]


async def _probe(provider: Provider, kind: Kind, credentials: Credentials) -> ProbeResult:
    try:
        options = provider.parse_options(kind, {})
        call = provider.probe(kind, options=options, credentials=credentials)
        result = await asyncio.wait_for(call, KIND_SECONDS)
    except TimeoutError:
        return _too_late(provider)
    except MoltsError as error:
        return ProbeResult(False, error.detail)
    except Exception as error:  # a provider's mistake is a result too, not a broken page
        return ProbeResult(False, hide_secrets(str(error))[:300] or type(error).__name__)
    return replace(result, text=hide_secrets(result.text))


def _too_late(provider: Provider) -> ProbeResult:
    return ProbeResult(
        False,
        f"{provider.label} did not answer within {KIND_SECONDS:.0f} s. Check the base URL, and that the server is up.",
    )


class ProbeThrottle(SimpleRateThrottle):
    """Each press of the button is a call that somebody may have to pay for."""

    scope = "test_connection"
    rate = "20/min"

    def get_cache_key(self, request: Request, view: object) -> str:
        return self.cache_format % {"scope": self.scope, "ident": request.user.pk}


def check_probe_rate(request: HttpRequest) -> None:
    """Raises Busy when this user has tested too often lately. Without Redis nothing is counted."""
    throttle = ProbeThrottle()
    try:
        allowed = throttle.allow_request(request, None)  # type: ignore[arg-type]  # asks for the user alone
    except (RedisError, OSError):
        return
    if not allowed:
        raise Busy(f"Tested too often. Try again in {max(1, round(throttle.wait() or 1))} s.")
