"""Deadlines that LiveKit's plugins do not have: for the first words of an answer, and for each piece after them.

A server that accepts a connection and then sends nothing would otherwise hold a turn for as long as its socket stays
open. With a deadline it becomes an error, and a chain goes on to its next rung. So does an answer of nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from livekit.agents import APIConnectionError, APIConnectOptions, APITimeoutError, llm, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import aio

from projects.providers.shared.answers import AnswerFilter, opened_by_template

if TYPE_CHECKING:
    from livekit.agents.llm import ChatContext, Tool, ToolChoice
    from livekit.agents.llm.chat_context import MetricsMetadata

PAUSE_SECONDS = 8.0
"""A model that has begun to answer pauses no longer than that."""
HELD_SECONDS = 60.0
"""So long an answer may take whose words come, and are held back as they may be thoughts."""
VOICE_PAUSE_SECONDS = 6.0
"""The same of a voice. It speaks faster than it is heard, so most of such a pause goes unnoticed."""
_SOCKET_SLACK_SECONDS = 5.0  # the deadline here comes before the socket's own


class DeadlineLLM(llm.LLM[Any]):
    """A language model that says its first word within `seconds`, each piece after it soon, and something at all."""

    def __init__(self, wrapped: llm.LLM[Any], *, seconds: float) -> None:
        super().__init__()
        self._wrapped = wrapped
        self._seconds = seconds
        self.thoughts = opened_by_template(wrapped.model)
        """Whether its answers begin inside a block of thoughts; each tells for the next."""
        wrapped.on("metrics_collected", self._forward_metrics)

    @property
    def thinks_apart(self) -> bool:
        """Whether its vendor sends thoughts beside the words. A model that cannot tell says no."""
        return getattr(self._wrapped, "thinks_apart", False)

    @property
    def model(self) -> str:
        return self._wrapped.model

    @property
    def provider(self) -> str:
        return self._wrapped.provider

    @property
    def label(self) -> str:
        return self._wrapped.label

    @property
    def metrics_metadata(self) -> MetricsMetadata:
        return self._wrapped.metrics_metadata

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
        # This wrapper's stream does the retries, and keeps the time.
        timeout = max(conn_options.timeout, self._seconds + _SOCKET_SLACK_SECONDS)
        once = dataclasses.replace(conn_options, max_retry=0, timeout=timeout)

        def open_stream() -> llm.LLMStream:
            return self._wrapped.chat(
                chat_ctx=chat_ctx,
                tools=tools,
                conn_options=once,
                parallel_tool_calls=parallel_tool_calls,
                tool_choice=tool_choice,
                extra_kwargs=extra_kwargs,
            )

        return _DeadlineStream(
            self,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=conn_options,
            open_stream=open_stream,
            seconds=self._seconds,
        )

    def prewarm(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._wrapped.prewarm(loop=loop)

    async def aclose(self) -> None:
        self._wrapped.off("metrics_collected", self._forward_metrics)
        await super().aclose()
        await self._wrapped.aclose()

    def _forward_metrics(self, metrics: object) -> None:
        self.emit("metrics_collected", metrics)


class _DeadlineStream(llm.LLMStream):
    _llm_request_span_name: ClassVar[str] = "llm_deadline"
    _llm_attempt_span_name: ClassVar[str | None] = None
    _genai_operation_name: ClassVar[str | None] = None  # the wrapped stream's span owns the operation

    def __init__(
        self,
        deadline_llm: DeadlineLLM,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool],
        conn_options: APIConnectOptions,
        open_stream: Callable[[], llm.LLMStream],
        seconds: float,
    ) -> None:
        super().__init__(deadline_llm, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._model = deadline_llm
        self._open_stream = open_stream
        self._seconds = seconds
        self._retry_on_chunk_sent = False  # what was said cannot be taken back

    async def _run(self) -> None:
        try:
            await self._answer()
        except APITimeoutError:
            raise
        except APIConnectionError:
            if self._event_ch.output_sent:
                raise
            await self._answer()  # a server may close a connection in the moment in which it is used again

    async def _answer(self) -> None:
        answer = AnswerFilter(self._tools, thoughts=self._model.thoughts)
        began = came = time.monotonic()
        async with self._open_stream() as stream:
            while True:
                since, seconds = self._patience(answer, began=began, came=came)
                try:
                    chunk = await asyncio.wait_for(anext(stream), max(0.0, since + seconds - time.monotonic()))
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    what = "only thought" if answer.holds and since == began else "sent nothing"
                    # To wait for it once more would take as long again.
                    raise APITimeoutError(f"the language model {what} for {seconds:g} s", retryable=False) from None
                came = time.monotonic()
                if self._model.thinks_apart:
                    answer.thoughts_come_apart()
                self._send(answer.take(chunk))
            self._model.thoughts = answer.thoughts_of_next()
            self._send(answer.end())

    def _patience(self, answer: AnswerFilter, *, began: float, came: float) -> tuple[float, float]:
        """Since when, and for how many seconds, the next piece is waited for; `came` is when the last one did."""
        if answer.has_begun:
            return came, min(self._seconds, PAUSE_SECONDS)
        if answer.holds and came + self._seconds < began + max(HELD_SECONDS, self._seconds):
            return came, self._seconds
        return began, max(HELD_SECONDS, self._seconds) if answer.holds else self._seconds

    def _send(self, chunks: Sequence[llm.ChatChunk]) -> None:
        for chunk in chunks:
            self._event_ch.send_nowait(chunk)

    async def _metrics_monitor_task(self, event_aiter: AsyncIterable[llm.ChatChunk]) -> None:
        async for _ in event_aiter:  # the wrapped stream reports
            pass


async def sound_within(
    seconds: float, emitter: tts.AudioEmitter, run: Callable[[tts.AudioEmitter], Awaitable[None]]
) -> None:
    """Run `run(emitter)`; raise APITimeoutError when it has pushed no audio after `seconds`, or none for a while after
    it has begun."""
    heard = asyncio.Event()
    speaking = asyncio.ensure_future(run(_Watched(emitter, heard)))  # type: ignore[arg-type]  # passes all on
    patience = seconds
    try:
        while not await _done_before_silence(speaking, heard, patience):
            if not heard.is_set():
                raise APITimeoutError(f"the voice sent nothing for {patience:g} s", retryable=False)
            heard.clear()
            patience = min(seconds, VOICE_PAUSE_SECONDS)
        await speaking
    finally:
        await aio.cancel_and_wait(speaking)


async def _done_before_silence(speaking: asyncio.Future[Any], heard: asyncio.Event, seconds: float) -> bool:
    """Wait for the next sound, for at most `seconds`; whether all has been said."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(heard.wait())
    try:
        await asyncio.wait({speaking, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return speaking.done()
    finally:
        await aio.cancel_and_wait(waiting)


class _Watched:
    """An audio emitter that tells when sound passes through it."""

    def __init__(self, emitter: tts.AudioEmitter, heard: asyncio.Event) -> None:
        self._emitter = emitter
        self._heard = heard

    def push(self, data: bytes) -> None:
        if data:
            self._heard.set()
        self._emitter.push(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._emitter, name)
