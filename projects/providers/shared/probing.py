"""Shared part of `Provider.probe`: one deadline, one way to put a vendor's error into words."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import ValidationError

from molts.redact import hide_secrets
from projects.providers.base import ProbeResult

if TYPE_CHECKING:
    import openai

PROBE_SECONDS = 10.0
LOAD_SECONDS = 30.0  # for probes that load a model of their own first


async def timed_probe(call: Callable[[], Awaitable[str]], *, timeout: float = PROBE_SECONDS) -> ProbeResult:
    """Run `call`, which returns what it saw in words. Never raises: an error becomes `ok=False` with its own text."""
    started = time.perf_counter()
    try:
        text = await asyncio.wait_for(call(), timeout)
    except TimeoutError:
        return ProbeResult(False, f"no answer within {timeout:.0f} s")
    except Exception as error:
        return ProbeResult(False, describe(error), _ms_since(started))
    return ProbeResult(True, text, _ms_since(started))


def describe(error: BaseException) -> str:
    """The most telling line of an error: the cause when the error itself only says that something failed."""
    seen: list[BaseException] = []
    while error.__cause__ is not None and error not in seen:
        seen.append(error)
        error = error.__cause__
    if isinstance(error, json.JSONDecodeError):
        return f"the server answered with something that is not JSON: {error}"
    if isinstance(error, (AttributeError, LookupError, TypeError, ValidationError)):
        return "the server answered in another form than expected: check the base URL"
    text = hide_secrets(str(getattr(error, "message", "") or error)).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]


def vendor_text(error: openai.APIStatusError) -> str:
    """The vendor's own words in an error answer."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        text = inner.get("message") if isinstance(inner, dict) else inner
        text = text or body.get("message") or body.get("detail")
        if text:
            return hide_secrets(str(text))[:300]
    return hide_secrets(str(body or error.message))[:300]


def _ms_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
