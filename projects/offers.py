"""What may be chosen as model and voice: asked of the server behind a key, kept for a minute, never longer waited for
than a few seconds. Whatever fails gives nothing: the fields can be typed into all the same."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context

from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.http import require_GET
from redis import RedisError

from molts.errors import BadConfiguration
from projects.choices import Action
from projects.models import ProviderKey
from projects.probes import ProbeThrottle
from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Provider
from projects.scoped_admin import may_do

Offers = Mapping[str, Sequence[str]]

ASK_SECONDS = 4.0
ALL_SECONDS = 5.0
"""Beyond the former, because taking a call down may wait for a name server that does not answer."""
KEPT_SECONDS = 60
FAILURE_KEPT_SECONDS = 10

logger = logging.getLogger(__name__)


class OfferThrottle(ProbeThrottle):
    scope = "offers"
    rate = "60/min"


def may_ask(request: HttpRequest) -> bool:
    """Whether this user has not asked too often lately. Without Redis nothing is counted."""
    try:
        return OfferThrottle().allow_request(request, None)  # type: ignore[arg-type]  # asks for the user alone
    except (RedisError, OSError):
        return True


def offers_of(*, provider: Provider, kind: Kind, key: ProviderKey | None) -> Offers:
    """Names to choose from, by option. Kept by key, and so by project: nobody is told what another's server has.

    Never raises. Without `key` the provider's own address is asked, which is the operator's.
    """
    kept_as = f"offers:{provider.key}:{kind.value}:{f'{key.pk}:{key.updated_at.timestamp()}' if key else 'own'}"
    with suppress(RedisError, OSError):
        if (kept := cache.get(kept_as)) is not None:
            return dict(kept)
    found = _ask(provider, kind, key)
    with suppress(RedisError, OSError):
        cache.set(kept_as, found or {}, KEPT_SECONDS if found else FAILURE_KEPT_SECONDS)
    return found or {}


def _ask(provider: Provider, kind: Kind, key: ProviderKey | None) -> dict[str, list[str]] | None:
    credentials = Credentials(
        api_key=key.reveal() if key and key.secret_cipher else "", base_url=key.base_url if key else ""
    )
    found: list[dict[str, list[str]]] = []

    async def ask() -> None:
        try:
            offers = await asyncio.wait_for(provider.offers(kind, credentials=credentials), ASK_SECONDS)
        except Exception as error:  # a server's mistake leaves the fields without suggestions, not the page broken
            logger.info("%s does not say what it offers: %s", provider.key, type(error).__name__)
        else:
            found.append({name: list(values) for name, values in offers.items()})

    # In a thread of its own: whatever hangs in there, the caller goes on.
    thread = threading.Thread(target=copy_context().run, args=(asyncio.run, ask()), name="offers", daemon=True)
    thread.start()
    thread.join(ALL_SECONDS)
    return found[0] if found else None


@require_GET
def offers_view(request: HttpRequest) -> JsonResponse:
    """Names to choose from, for whoever may give the key to an agent."""
    nothing = Http404("There is no such provider, kind or key.")
    asked = request.GET.get("provider_key", "")
    try:
        provider, kind = get_provider(request.GET.get("provider", "")), Kind(request.GET.get("kind", ""))
        wanted = uuid.UUID(asked) if asked else None
    except (BadConfiguration, ValueError) as error:
        raise nothing from error
    if not may_do(request, Action.EDIT):
        raise PermissionDenied
    mine = ProviderKey.objects.for_actor(request.user, Action.EDIT).filter(provider=provider.key)
    key = mine.filter(pk=wanted).first() if wanted else None
    if (wanted and key is None) or kind not in provider.kinds:
        raise nothing
    useless = key is None and not provider.local  # a vendor tells nobody without a key
    offers = {} if useless or not may_ask(request) else offers_of(provider=provider, kind=kind, key=key)
    return JsonResponse({"offers": offers})
