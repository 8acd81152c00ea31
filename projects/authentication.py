"""`Authorization: Bearer <project key>` for programs."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import DatabaseError, transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from molts.database import waiting_at_most
from projects.models import ApiKey
from projects.services import digest_api_key

logger = logging.getLogger(__name__)


class ProjectKeyAuthentication(BaseAuthentication):
    """The key is both user and auth of the request: it acts for its project, not for a person."""

    keyword = b"bearer"

    def authenticate(self, request: Request) -> tuple[ApiKey, ApiKey] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != self.keyword:
            return None
        if len(parts) != 2:
            raise AuthenticationFailed("Send the key as 'Authorization: Bearer <key>'.")
        try:
            plain = parts[1].decode("ascii")
        except UnicodeDecodeError as error:
            raise AuthenticationFailed("The key holds characters that no key has.") from error
        key = ApiKey.objects.select_related("project").filter(digest=digest_api_key(plain), revoked_at=None).first()
        if key is None:
            raise AuthenticationFailed("This key is unknown or revoked. Make a new one in the admin under API keys.")
        _note_use(key)
        return key, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _note_use(key: ApiKey) -> None:
    # Once a minute is enough to see that a key is alive; a write per request would lock SQLite for nothing.
    now = timezone.now()
    if key.last_used_at is not None and key.last_used_at > now - timedelta(minutes=1):
        return
    try:
        # Nobody waits for this, or is refused for want of it.
        with waiting_at_most(0), transaction.atomic():
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    except DatabaseError as error:
        logger.info("last use of a key not noted: %s", error)
