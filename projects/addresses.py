"""Addresses of providers that are refused, told to whoever can allow them."""

from __future__ import annotations

from molts.http import check_url, setting_that_allows
from projects.providers import get_provider
from projects.providers.base import Credentials

DOCUMENTED = "/docs/providers.html#keys-and-addresses"
SETTING = "MOLTS_ALLOWED_NETWORKS"


def check_base_url(*, provider: str, url: str) -> str:
    """`url` as it may be stored for a key of this provider; raises BadInput for one that may not be called.

    The address that a provider calls without anybody's leave may be typed too, in any way to write it.
    """
    return get_provider(provider).own_address(url) or check_url(url, attr="base_url")


def called_address(provider: str, credentials: Credentials) -> str:
    return credentials.base_url or get_provider(provider).default_base_url


def with_setting(refusal: str, url: str, *, shown: bool) -> str:
    """`refusal`, with the line to set when it was for a private address. Only operators learn where a name leads to."""
    line = setting_that_allows(url) if shown and SETTING in refusal else ""
    return f"{refusal} You run this server: start it with {line}" if line else refusal
