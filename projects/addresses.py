"""Addresses of providers that are refused, told to whoever can allow them."""

from __future__ import annotations

from molts.http import setting_that_allows
from projects.providers import get_provider
from projects.providers.base import Credentials

DOCUMENTED = "/docs/providers.html#keys-and-addresses"
SETTING = "MOLTS_ALLOWED_NETWORKS"


def own_address(provider: str, url: str) -> str | None:
    """The address that the provider calls without anybody's leave, when `url` is a way to write it."""
    find = getattr(get_provider(provider), "own_address", None)
    found: str | None = find(url) if find else None
    return found


def called_address(provider: str, credentials: Credentials) -> str:
    return credentials.base_url or getattr(get_provider(provider), "default_base_url", "")


def with_setting(refusal: str, url: str, *, shown: bool) -> str:
    """`refusal`, with the line to set when it was for a private address. Only operators learn where a name leads to."""
    line = setting_that_allows(url) if shown and SETTING in refusal else ""
    return f"{refusal} You run this server: start it with {line}" if line else refusal
