"""Hearing a voice say one's own text before it speaks in a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgiref.sync import async_to_sync

from molts.errors import BadInput
from projects.models import ProviderKey
from projects.providers.base import Credentials, Persona
from projects.providers.shared.speaking import speak

MAX_TEXT = 300


def speak_sample(
    *, provider: str, options: Mapping[str, Any], provider_key: ProviderKey | None, text: str, language: str = "en"
) -> bytes:
    """`text` as a WAV file, spoken by this voice within 10 s. Provider, options and key must have been checked.

    Raises BadInput for a text that cannot be spoken, BadConfiguration and Unavailable with the reason, in the vendor's
    words where they are the vendor's.
    """
    text = " ".join(text.split())
    if not text:
        raise BadInput("Write a text to listen to.", attr="text")
    if len(text) > MAX_TEXT:
        raise BadInput(f"The text is too long: at most {MAX_TEXT} characters.", attr="text")
    credentials = Credentials()
    if provider_key is not None:
        secret = provider_key.reveal() if provider_key.secret_cipher else ""
        credentials = Credentials(api_key=secret, base_url=provider_key.base_url)
    return async_to_sync(speak)(
        provider=provider, options=options, credentials=credentials, persona=Persona(language=language), text=text
    )
