"""What providers use of LiveKit without its leave: each piece here, with the version it was read in.

Nothing else in this app may touch a private name of it (`make check`). tests/projects/providers/test_livekit_private.py
fails when one is gone or means something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from projects.providers.base import Kind

if TYPE_CHECKING:
    import aiohttp
    from livekit.agents import stt


# -- fallback adapters ------------------------------------------------------------------------------------------------
def active_component(adapter: Any, kind: Kind) -> tuple[int, Any]:
    """(place, component) of the rung that served last. livekit-agents 1.8.9."""
    place = components_of(adapter, kind).index(adapter._active_instance)
    return place, components_of(adapter, kind)[place]


def components_of(adapter: Any, kind: Kind) -> list[Any]:
    """The components of a fallback adapter, best first. livekit-agents 1.8.9."""
    found: list[Any] = getattr(adapter, f"_{kind.value}_instances")
    return found


def note_available(adapter: Any, place: int) -> None:
    """Have a fallback adapter count this rung as one that serves. livekit-agents 1.8.9."""
    adapter._status[place].available = True


def is_available(adapter: Any, place: int) -> bool:
    """Whether a fallback adapter counts this rung as one that serves. livekit-agents 1.8.9."""
    available: bool = adapter._status[place].available
    return available


def next_recogniser(adapter: stt.FallbackAdapter) -> stt.STT[Any]:
    """The rung that hears the next utterance. livekit-agents 1.8.9."""
    return adapter._next_instance()


def wrapped(component: Any) -> Any:
    """What a stream adapter wraps; None for anything else. livekit-agents 1.8.9: recognisers tell, voices do not."""
    return getattr(component, "wrapped_stt", None) or getattr(component, "_wrapped_tts", None)


def leave_metrics_to_wrapped(adapter: stt.StreamAdapter) -> None:
    """Have a stream adapter report nothing: what it wraps does, and both would count the sound twice.
    livekit-agents 1.8.9."""
    adapter._recognize_metrics_needed = False


# -- answers ----------------------------------------------------------------------------------------------------------
def watch_deltas(stream: Any, note: Callable[[Any], None]) -> None:
    """Have `note` called with each piece of an answer as the vendor sent it, before what LiveKit does not know is taken
    off. livekit-agents 1.8.9: `inference.llm.LLMStream`, which OpenAI's plugin uses too."""
    parse = stream._parse_choice

    def watched(id: str, choice: Any, thinking_filter: Any) -> Any:
        note(choice.delta)
        return parse(id, choice, thinking_filter)

    stream._parse_choice = watched


# -- plugins ----------------------------------------------------------------------------------------------------------
@contextmanager
def calls_through(session: aiohttp.ClientSession) -> Iterator[None]:
    """Within this, plugins that are made or started call their vendor through `session`. livekit-agents 1.8.9:
    `http_context.open`, the public way, keeps the session of the job.

    For the vendor's calls alone: the media server's own API, which may be on a private address, uses the same place.
    """
    from livekit.agents.utils import http_context

    before = http_context._ContextVar.set(lambda: session)
    try:
        yield
    finally:
        http_context._ContextVar.reset(before)


async def close_liveavatar(avatar: Any, *, seconds: float) -> None:
    """End the vendor's session now, in at most `seconds`: the plugin ends it with the conversation, not with the face.
    livekit-plugins-liveavatar 1.8.9."""
    avatar._msg_ch.close()
    if avatar._main_atask is not None:
        await asyncio.wait({avatar._main_atask}, timeout=seconds)
