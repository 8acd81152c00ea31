"""An Ollama server, and finding the one that runs on this machine."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

import httpx2

from molts.http import ResponseLimits, fetch
from projects.providers.base import Kind, ServerHere
from projects.providers.openai_compatible.provider import OpenAICompatible

OLLAMA_ADDRESS = "127.0.0.1"
OLLAMA_URL = f"http://{OLLAMA_ADDRESS}:11434"
OLLAMA_HERE = (f"{OLLAMA_ADDRESS}:11434", "localhost:11434")


class Ollama(OpenAICompatible):
    """An Ollama server. Its usual address on this machine needs no leave of the operator: it is ours, not a setting."""

    key = "ollama"
    label = "Ollama"
    kinds = frozenset({Kind.LLM})
    local = True
    default_base_url = f"{OLLAMA_URL}/v1"
    own_networks = (OLLAMA_ADDRESS,)
    looks_here = True
    default_models: ClassVar = {Kind.LLM: "llama3.2"}

    def own_address(self, url: str) -> str | None:
        """The usual address when `url` is another way to write it: it is called with leave or without, typed or not."""
        parts = urlsplit(url)
        here = parts.scheme == "http" and parts.netloc.lower() in OLLAMA_HERE and not parts.query
        return self.default_base_url if here and parts.path.rstrip("/") in ("", "/v1") else None

    def find_here(self) -> ServerHere | None:
        found = find_ollama()
        return ServerHere(found[1], "ollama pull llama3.2") if found else None


def find_ollama(base_url: str = OLLAMA_URL) -> tuple[str, list[str]] | None:
    """Base URL and models of an Ollama on this machine, or None when none answers within half a second."""
    limits = ResponseLimits(connect_seconds=0.3, read_seconds=0.4, total_seconds=0.5, max_bytes=1_000_000)
    try:
        answer = fetch(f"{base_url}/api/tags", limits=limits, allowed_networks=[OLLAMA_ADDRESS]).raise_for_status()
        return f"{base_url}/v1", [str(model["name"]) for model in answer.json()["models"]]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        return None
