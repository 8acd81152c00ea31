"""How fast one key, or one signed-in user, may ask (`MOLTS_API_RATE`)."""

from __future__ import annotations

import logging
from typing import Any

from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from projects.access import actor_of
from projects.models import ApiKey

logger = logging.getLogger(__name__)


class ActorRateThrottle(SimpleRateThrottle):
    """Each key has its own measure, so that one busy program does not silence the project's others."""

    scope = "api"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        actor = actor_of(request)
        if actor is None:
            return None  # refused elsewhere
        kind = "key" if isinstance(actor, ApiKey) else "user"
        return self.cache_format % {"scope": self.scope, "ident": f"{kind}-{actor.pk}"}

    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return super().allow_request(request, view)
        except (RedisError, OSError):
            logger.warning("rate not counted: Redis is out of reach")
            return True
