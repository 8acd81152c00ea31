"""Room tokens for the media server and the visitor's cookie."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.core import signing
from livekit import api

TOKEN_TTL = timedelta(minutes=2)  # only the first connect needs it; the server renews it for connected clients
COOKIE_PREFIX = "molts_s_"
COOKIE_SALT = "molts.visitor"
COOKIE_MAX_AGE = 60 * 60 * 24


def visitor_token(*, room_name: str, identity: str, name: str = "") -> str:
    """JWT that opens exactly one room: microphone, camera and data, nothing else."""
    grants = api.VideoGrants(
        room_join=True,
        room=room_name,
        can_publish=True,
        can_subscribe=True,
        can_publish_data=True,
        can_publish_sources=["microphone", "camera"],
        can_update_own_metadata=False,
    )
    token = api.AccessToken(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET)
    return token.with_identity(identity).with_name(name).with_grants(grants).with_ttl(TOKEN_TTL).to_jwt()


def check_token(*, room_name: str, identity: str) -> str:
    """JWT for the visitors' check: enters one room unseen, and may neither speak nor write there."""
    grants = api.VideoGrants(
        room_join=True,
        room=room_name,
        can_publish=False,
        can_publish_data=False,
        can_subscribe=True,
        can_update_own_metadata=False,
        hidden=True,
    )
    token = api.AccessToken(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET)
    return token.with_identity(identity).with_grants(grants).with_ttl(TOKEN_TTL).to_jwt()


def cookie_name(session_id: uuid.UUID) -> str:
    """One cookie a session: a second conversation in another tab does not take the first one's away."""
    return COOKIE_PREFIX + session_id.hex


def sign_cookie(session_id: uuid.UUID) -> str:
    return signing.TimestampSigner(salt=COOKIE_SALT).sign(session_id.hex)


def opens(cookie: str | None, session_id: uuid.UUID) -> bool:
    """Whether this cookie value opens that session."""
    return bool(cookie) and signed_at(str(cookie), session_id) is not None


def signed_at(cookie: str, session_id: uuid.UUID) -> datetime | None:
    """When this cookie was given for that session; None when it was not, or too long ago."""
    signer = signing.TimestampSigner(salt=COOKIE_SALT)
    try:
        if signer.unsign(cookie, max_age=COOKIE_MAX_AGE) != session_id.hex:
            return None
    except signing.BadSignature:
        return None
    seconds = signing.b62_decode(cookie.rsplit(":", 2)[1])
    return datetime.fromtimestamp(seconds, UTC)
