"""The providers molts knows.

One dict of dotted paths is the whole list. A provider's module is imported when it is first asked for, and its heavy
libraries only when it builds something, so listing providers costs next to nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from molts.errors import BadConfiguration, MoltsError
from projects.providers.base import Kind, Provider

PROVIDERS: dict[str, str] = {
    # without an account, on this machine
    "faster_whisper": "projects.providers.faster_whisper.provider.FasterWhisper",
    "pocketsphinx": "projects.providers.pocketsphinx.provider.PocketSphinx",
    "scripted": "projects.providers.scripted.provider.Scripted",
    "supertonic": "projects.providers.supertonic.provider.Supertonic",
    "espeak": "projects.providers.espeak.provider.Espeak",
    # servers that speak OpenAI's protocol
    "openai": "projects.providers.openai.OpenAI",
    "groq": "projects.providers.groq.Groq",
    "ollama": "projects.providers.ollama.Ollama",
    "vllm": "projects.providers.vllm.VLLM",
    "llama_cpp": "projects.providers.llama_cpp.LlamaCpp",
    "speaches": "projects.providers.speaches.Speaches",
    "openai_compatible": "projects.providers.openai_compatible.provider.OpenAICompatible",
    # faces of hosted services
    "heygen": "projects.providers.hosted.heygen.HeyGen",
    "tavus": "projects.providers.hosted.tavus.Tavus",
    "simli": "projects.providers.hosted.simli.Simli",
    "anam": "projects.providers.hosted.anam.Anam",
    "bey": "projects.providers.hosted.bey.BeyondPresence",
    "did": "projects.providers.hosted.did.DID",
    "bithuman": "projects.providers.hosted.bithuman.BitHuman",
}


@cache
def get_provider(key: str) -> Provider:
    """Return the provider registered under `key`. Raises BadConfiguration when there is none."""
    try:
        dotted_path = PROVIDERS[key]
    except KeyError:
        known = ", ".join(sorted(PROVIDERS))
        raise BadConfiguration(f"There is no provider {key!r}. Known providers: {known}.") from None
    module_name, class_name = dotted_path.rsplit(".", 1)
    provider: Provider = getattr(import_module(module_name), class_name)()
    return provider


def provider_label(key: str) -> str:
    """The provider's name for people; the key itself of one that is not known (any more)."""
    try:
        return get_provider(key).label
    except MoltsError:
        return key


def providers_for(kind: Kind) -> list[Provider]:
    """Providers that serve `kind`, in the order of the registry."""
    return [provider for provider in map(get_provider, PROVIDERS) if kind in provider.kinds]


def last_resort(kind: Kind) -> Provider:
    """The provider of `kind` that is always there."""
    return next(provider for provider in providers_for(kind) if provider.last_resort)
