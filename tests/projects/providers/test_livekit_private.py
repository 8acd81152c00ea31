"""Each private piece of LiveKit that providers use is there and means what it is used for.

That a plugin's calls go through the guarded client is seen in test_hosted_faces.py.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import llm, stt, tts, vad
from livekit.agents.llm import ChatContext
from livekit.agents.llm.utils import ThinkingTokenFilter
from livekit.plugins import openai
from livekit.plugins.liveavatar import AvatarSession
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta

from projects.providers.base import Kind
from projects.providers.shared.livekit_private import (
    active_component,
    close_liveavatar,
    components_of,
    is_available,
    leave_metrics_to_wrapped,
    next_recogniser,
    note_available,
    watch_deltas,
    wrapped,
)


class Recogniser(stt.STT[Any]):
    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


class Model(llm.LLM[Any]):
    def chat(self, **options: Any) -> Any:
        raise NotImplementedError


class Voice(tts.TTS[Any]):
    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=24_000, num_channels=1)

    def synthesize(self, text: str, **options: Any) -> Any:
        raise NotImplementedError


def adapter_of(kind: Kind) -> tuple[Any, list[Any]]:
    parts: list[Any]
    match kind:
        case Kind.STT:
            parts = [Recogniser(), Recogniser()]
            return stt.FallbackAdapter(parts), parts
        case Kind.LLM:
            parts = [Model(), Model()]
            return llm.FallbackAdapter(parts), parts
    parts = [Voice(), Voice()]
    return tts.FallbackAdapter(parts), parts


@pytest.mark.parametrize("kind", [Kind.STT, Kind.LLM, Kind.TTS])
async def test_an_adapter_says_which_rung_serves_and_takes_one_back(kind: Kind) -> None:
    adapter, parts = adapter_of(kind)
    assert components_of(adapter, kind) == parts
    assert active_component(adapter, kind) == (0, parts[0])
    adapter._active_instance = parts[1]
    assert active_component(adapter, kind) == (1, parts[1])
    assert is_available(adapter, 0)
    adapter._status[0].available = False
    assert not is_available(adapter, 0)
    note_available(adapter, 0)
    assert is_available(adapter, 0)


async def test_what_a_vendor_sends_is_seen_as_it_came() -> None:
    model = openai.LLM(model="m", api_key="k", base_url="http://127.0.0.1:9/v1")
    stream = model.chat(chat_ctx=ChatContext.empty())
    seen: list[Any] = []
    watch_deltas(stream, seen.append)
    delta = ChoiceDelta.model_validate({"content": None, "reasoning_content": "They ask."})
    choice = Choice(index=0, delta=delta, finish_reason=None)
    assert cast(Any, stream)._parse_choice("c1", choice, ThinkingTokenFilter("<think>", "</think>")) is None
    assert [each.reasoning_content for each in seen] == ["They ask."]
    await stream.aclose()
    await model.aclose()


async def test_the_recogniser_that_hears_next_is_the_first_that_is_not_away() -> None:
    adapter, parts = adapter_of(Kind.STT)
    assert next_recogniser(adapter) is parts[0]
    adapter._status[0].available = False
    assert next_recogniser(adapter) is parts[1]
    note_available(adapter, 0)
    assert next_recogniser(adapter) is parts[0]


async def test_a_stream_adapter_says_what_it_wraps() -> None:
    voice, recogniser = Voice(), Recogniser()
    detector: Any = SimpleNamespace(capabilities=vad.VADCapabilities(update_interval=0.1), on=lambda *_: None)
    hearing = stt.StreamAdapter(stt=recogniser, vad=detector)
    assert wrapped(tts.StreamAdapter(tts=voice)) is voice
    assert wrapped(hearing) is recogniser
    assert wrapped(voice) is None
    assert hearing._recognize_metrics_needed
    leave_metrics_to_wrapped(hearing)
    assert not hearing._recognize_metrics_needed


async def test_the_session_of_liveavatar_ends_when_its_messages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEAVATAR_API_KEY", "none")
    avatar = AvatarSession(avatar_id="a")

    async def serve() -> None:
        async for _ in avatar._msg_ch:
            pass

    avatar._main_atask = asyncio.create_task(serve())
    await close_liveavatar(avatar, seconds=5)
    assert avatar._main_atask.done()
