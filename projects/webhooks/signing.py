"""Secrets and signatures, as Standard Webhooks has them."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_BYTES = 32


def new_secret() -> str:
    return "whsec_" + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


def signed_headers(*, event_id: str, body: str, secrets: Iterable[str], now: datetime) -> dict[str, str]:
    """The headers of one try. Each valid secret signs, so that a receiver may know either."""
    moment = now.astimezone(UTC)  # the library takes any other for UTC too
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, moment, body) for secret in secrets),
    }
