"""The scripted answers as a LiveKit component: streamed word by word, with a usage report, as a model's would be."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from livekit.agents import APIConnectOptions, llm, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr

from projects.providers.base import Persona
from projects.providers.scripted.options import KEY, ScriptedOptions
from projects.providers.scripted.responder import Responder, Said

if TYPE_CHECKING:
    from livekit.agents.llm import ChatContext, Tool, ToolChoice


class ScriptedLLM(llm.LLM[Any]):
    """The responder behind LiveKit's interface. Words stand for tokens in its usage report."""

    def __init__(self, *, persona: Persona, options: ScriptedOptions) -> None:
        super().__init__()
        self._responder = Responder(persona)
        self._options = options

    @property
    def model(self) -> str:
        return KEY

    @property
    def provider(self) -> str:
        return KEY

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        return _ScriptedStream(
            self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options, delay=self._options.delay_ms / 1000
        )

    def answer(self, chat_ctx: ChatContext) -> str:
        """The whole answer to a conversation."""
        history = [
            Said(message.role, message.text_content or "")
            for message in chat_ctx.messages()
            if message.role in ("user", "assistant")
        ]
        return self._responder.reply(history, self._now())

    def _now(self) -> datetime:
        if self._options.timezone:
            return datetime.now(ZoneInfo(self._options.timezone))
        return datetime.now().astimezone()


class _ScriptedStream(llm.LLMStream):
    def __init__(
        self,
        scripted: ScriptedLLM,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool],
        conn_options: APIConnectOptions,
        delay: float,
    ) -> None:
        super().__init__(scripted, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._scripted = scripted
        self._delay = delay

    async def _run(self) -> None:
        request_id = utils.shortuuid("scripted_")
        answer = self._scripted.answer(self._chat_ctx)
        for piece in pieces_of(answer):
            await asyncio.sleep(self._delay)
            self._event_ch.send_nowait(
                llm.ChatChunk(id=request_id, delta=llm.ChoiceDelta(role="assistant", content=piece))
            )
        prompt = sum(len((message.text_content or "").split()) for message in self._chat_ctx.messages())
        completion = len(answer.split())
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=request_id,
                usage=llm.CompletionUsage(
                    completion_tokens=completion, prompt_tokens=prompt, total_tokens=prompt + completion
                ),
            )
        )


def pieces_of(answer: str) -> list[str]:
    """An answer in the pieces a model would stream; joined they are the answer again."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", answer)
