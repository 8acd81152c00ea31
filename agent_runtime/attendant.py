"""Keeps a conversation from falling silent: says that it takes a moment, and what is wrong when a part has failed.

It stands around the agent's model and voice and behind its recogniser. While a rung may still answer within its own
deadline the visitor hears "One moment"; when the last one has failed, the sentence that says so. The talk goes on: the
next question is tried as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, llm
from livekit.agents.llm import ChatContext
from livekit.agents.types import FlushSentinel
from livekit.agents.voice import SpeechHandle

from agent_runtime.apologies import apologies_for, without_apologies
from agent_runtime.incoming import Incoming, Over
from agent_runtime.local_voice import say_locally
from agent_runtime.outages import Outages, Teller
from agent_runtime.spoken import TYPICAL_PACE, Spoken, Words
from projects.providers.base import Kind
from projects.providers.chains import AvailabilityChange, Chain
from projects.providers.shared.sentences import LATER, piece_end

logger = logging.getLogger(__name__)

VAD_SILENCE_SECONDS = 0.25  # that long after it a last word is taken for one; the end-of-turn model needs it
# Seconds after the visitor's last word. Something is heard within four, whatever a voice takes to begin.
WORDS_SECONDS = 2.0  # without words from the model
LEAST_SECONDS = 0.5  # which a model has at least: it may have been asked late
SOUND_SECONDS = 3.4  # without sound from the voice
VOICE_SECONDS = 2.5  # so long a voice may take to begin where the visitor waits for no answer
AGAIN_SECONDS = 7.0
PAUSE_SECONDS = 2.5  # after what was said has been heard
CHARACTERS_A_SECOND = 14.0
RECENT_SECONDS = 4.0  # whoever has waited for longer was told so

Pieces = AsyncIterable[llm.ChatChunk | str | FlushSentinel]


class Attendant:
    """One conversation's. Times are `time.monotonic()` seconds."""

    def __init__(
        self, *, chains: dict[Kind, Chain], language: str, teller: Teller, spare_voice: int | None = None
    ) -> None:
        self._chains = chains
        self._language = language
        self._says = apologies_for(language)
        self._teller = teller
        self._spare_voice = spare_voice
        self._outages = Outages(teller)
        self._session: AgentSession[Any] | None = None
        self._asked_at = 0.0
        self._filled_at = 0.0
        self._paces: dict[int, float] = {}  # by the voice's place
        self._hearing: asyncio.TimerHandle | None = None
        self._speeches: dict[str, SpeechHandle] = {}
        if hasattr(recogniser := chains[Kind.STT].component, "on_waiting"):
            recogniser.on_waiting = self._recogniser_waits

    def attach(self, session: AgentSession[Any]) -> None:
        self._session = session

    # -- the visitor ---------------------------------------------------------------------------------------------------
    def note_asked(self, seconds_ago: float = 0.0) -> None:
        """The visitor's last word so far was said or typed."""
        self._asked_at = time.monotonic() - seconds_ago

    # -- the recogniser ------------------------------------------------------------------------------------------------
    def note_heard(self) -> None:
        self._chains[Kind.STT].note_served()
        self._outages.end(Kind.STT)

    def could_not_hear(self) -> None:
        """The last recogniser failed with what the visitor has just said."""
        self._outages.begin(Kind.STT, self._chains[Kind.STT].reason)
        self._say(self._says.cannot_hear)

    def _recogniser_waits(self, waits: bool) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None
        if waits:
            self.note_asked(VAD_SILENCE_SECONDS)
            self._hear_in(self._until_fill(time.monotonic()))

    def _fill_while_hearing(self) -> None:
        self._filled_at = time.monotonic()
        self._say(self._says.one_moment)
        self._hear_in(AGAIN_SECONDS)

    def _hear_in(self, seconds: float) -> None:
        self._hearing = asyncio.get_running_loop().call_later(seconds, self._fill_while_hearing)

    def _say(self, text: str) -> None:
        """As an utterance of its own, unless the same is still to be heard."""
        before = self._speeches.get(text)
        if self._session is None or (before is not None and not before.done()):
            return
        try:
            self._speeches[text] = self._session.say(text)
        except RuntimeError:  # the session is closing
            logger.info("nobody is left to hear that a part has failed")

    # -- the language model --------------------------------------------------------------------------------------------
    def context(self, context: ChatContext) -> ChatContext:
        return without_apologies(context, self._says)

    async def answer(self, pieces: Pieces) -> AsyncGenerator[llm.ChatChunk | str | FlushSentinel, None]:
        """The model's answer, with what is to be said while it does not come, or instead of it."""
        incoming, said = Incoming(pieces), _Said()
        try:
            while True:
                if not await incoming.ready(self._until_words(said)):
                    self._filled_at = time.monotonic()
                    yield f"{self._says.one_moment} "
                    yield FlushSentinel()  # spoken now, not when the sentence after it is complete
                    continue
                try:
                    piece = incoming.take()
                except Over:
                    break
                except Exception as error:
                    logger.warning("the language model failed", extra={"error": type(error).__name__})
                    async for piece in self._instead(said):
                        yield piece
                    return
                said.note(piece)
                yield piece
            if said.anything:
                self._chains[Kind.LLM].note_served()
                self._outages.end(Kind.LLM)
            else:
                async for piece in self._instead(said):
                    yield piece
        finally:
            await incoming.aclose()

    async def _instead(self, said: _Said) -> AsyncIterator[str | FlushSentinel]:
        chain = self._chains[Kind.LLM]
        self._outages.begin(Kind.LLM, chain.reason or f"{chain.rungs[-1].provider} answered nothing.")
        if said.anything:
            yield " "
            yield FlushSentinel()
        yield self._says.broke_off if said.anything else self._says.cannot_answer

    def _until_words(self, said: _Said) -> float:
        """Seconds until "One moment" is due."""
        if not said.anything:
            return self._until_fill(said.began_at)
        due = max(said.heard_until + PAUSE_SECONDS, self._filled_at + AGAIN_SECONDS)
        return max(0.0, due - time.monotonic())

    def _until_fill(self, began_at: float) -> float:
        """The same for a wait that began at `began_at`, mostly a moment after the visitor's last word."""
        asked_at = self._asked_at if began_at - self._asked_at < RECENT_SECONDS else began_at
        due = asked_at + WORDS_SECONDS if self._filled_at < asked_at else self._filled_at + AGAIN_SECONDS
        return max(0.0, max(due, began_at + LEAST_SECONDS) - time.monotonic())

    # -- the voice -----------------------------------------------------------------------------------------------------
    def takes(self, change: AvailabilityChange) -> bool:
        """Whether a rung's change is an outage's, which is told as such, and no fallback."""
        if change.active is None or (change.kind is Kind.TTS and change.active.index == self._spare_voice):
            return True
        if change.available and self._outages.has(change.kind):
            self._outages.end(change.kind)
            return True
        return False

    async def speak(
        self, text: AsyncIterable[str], voice: Callable[[AsyncIterable[str]], AsyncIterable[rtc.AudioFrame]]
    ) -> AsyncGenerator[rtc.AudioFrame, None]:
        """`text` by `voice`, with what is to be heard while it gives no sound, or instead of it. What a voice leaves
        when it breaks off, the next one says."""
        utterance = _SpokenAnswer(Words(text))
        try:
            for _ in self._chains[Kind.TTS].rungs:
                async with aclosing(self._speak_rest(utterance, voice)) as frames:
                    async for frame in frames:
                        utterance.note_heard(frame)
                        yield frame
                if not utterance.goes_on:
                    break
            else:  # each of them broke off
                async for frame in self._broke_off():
                    yield frame
        finally:
            await utterance.words.aclose()

    async def _speak_rest(
        self, utterance: _SpokenAnswer, voice: Callable[[AsyncIterable[str]], AsyncIterable[rtc.AudioFrame]]
    ) -> AsyncGenerator[rtc.AudioFrame, None]:
        """What is left of `utterance`, by the voice that serves now."""
        words, chain = utterance.words, self._chains[Kind.TTS]
        spoken = utterance.spoken = Spoken(utterance.place)
        chain.try_all_again()
        incoming = Incoming(voice(words.after(utterance.place)))
        words.on_change = incoming.wake
        utterance.goes_on = False
        try:
            while True:
                if not await incoming.ready(self._until_sound(utterance)):
                    if self._until_sound(utterance) == 0:
                        self._filled_at = utterance.filled_at = time.monotonic()
                        async for frame in self._aside(self._says.one_moment):
                            yield frame
                    continue
                try:
                    frame = incoming.take()
                except Over:
                    break
                except Exception as error:
                    logger.warning("the voice failed", extra={"error": type(error).__name__})
                    if not utterance.is_said:
                        async for frame in self._without_voice():
                            yield frame
                    return
                if not spoken.seconds:
                    spoken.voice = chain.served_last.index
                    spoken.known_pace = self._paces.get(spoken.voice, TYPICAL_PACE)
                    if self.on_spare_voice() and not self._outages.has(Kind.TTS):
                        async for aside in self._without_voice():
                            yield aside
                spoken.note(frame)
                yield frame
            async for frame in self._after(utterance, broke_off=chain.broke_off):
                yield frame
        finally:
            await incoming.aclose()

    async def _after(self, utterance: _SpokenAnswer, *, broke_off: bool) -> AsyncIterator[rtc.AudioFrame]:
        """What is still to be heard when the voice has ended without an error."""
        words, spoken = utterance.words, utterance.spoken
        if not spoken.seconds:
            if _is_spoken(words.text[utterance.place :]):
                async for frame in self._without_voice():
                    yield frame
        elif broke_off:  # LiveKit's adapter keeps quiet about a voice that broke off
            utterance.note_place()
            if utterance.has_rest and self._chains[Kind.TTS].active is None:
                async for frame in self._broke_off():
                    yield frame
            else:
                utterance.goes_on = utterance.has_rest
        else:
            if pace := spoken.pace():
                self._paces[spoken.voice] = pace
            self._chains[Kind.TTS].note_served()
            if not self.on_spare_voice():
                self._outages.end(Kind.TTS)

    async def _without_voice(self) -> AsyncIterator[rtc.AudioFrame]:
        async for frame in self._lost_voice(self._says.cannot_speak, "It gave no sound."):
            yield frame

    async def _broke_off(self) -> AsyncIterator[rtc.AudioFrame]:
        async for frame in self._lost_voice(self._says.broke_off, "Its sound broke off."):
            yield frame

    async def _lost_voice(self, sentence: str, otherwise: str) -> AsyncIterator[rtc.AudioFrame]:
        """`otherwise` is the reason where the chain knows none."""
        self._outages.begin(Kind.TTS, self._chains[Kind.TTS].reason or otherwise)
        async for frame in self._aside(sentence):
            yield frame

    async def _aside(self, text: str) -> AsyncIterator[rtc.AudioFrame]:
        self._teller.note_aside(text)
        rate = self._chains[Kind.TTS].component.sample_rate
        async with aclosing(say_locally(text, language=self._language, rate=rate)) as frames:
            async for frame in frames:
                yield frame

    def on_spare_voice(self) -> bool:
        """Whether the local voice speaks that nobody chose: then the agent's own is out of service."""
        active = self._chains[Kind.TTS].active
        return active is not None and active.index == self._spare_voice

    def _until_sound(self, utterance: _SpokenAnswer) -> float | None:
        """Seconds until "One moment" is due; None while there is nothing to speak."""
        words = utterance.words
        if words.began_at is None:
            return None
        if utterance.heard_until:
            due = utterance.heard_until + PAUSE_SECONDS
        elif words.began_at - self._asked_at > SOUND_SECONDS - 1:
            due = words.began_at + VOICE_SECONDS
        else:
            due = self._asked_at + SOUND_SECONDS
        if utterance.filled_at is not None:
            due = max(utterance.heard_until + PAUSE_SECONDS, utterance.filled_at + AGAIN_SECONDS)
        left = max(0.0, due - time.monotonic())
        # Looked at in silence only: it goes through the text, and this is asked with each piece of sound.
        if not left and utterance.heard_until and not utterance.is_owed:
            return None
        return left


class _Said:
    """How much of an answer has come, and until when it is heard."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self.anything = False
        self.heard_until = 0.0

    def note(self, piece: llm.ChatChunk | str | FlushSentinel) -> None:
        now = time.monotonic()
        if isinstance(piece, llm.ChatChunk):
            self.anything = self.anything or piece.has_response()
            piece = (piece.delta.content or "") if piece.delta else ""
        if isinstance(piece, str):
            self.anything = self.anything or bool(piece)
            self.heard_until = max(self.heard_until, now) + len(piece) / CHARACTERS_A_SECOND


class _SpokenAnswer:
    """What is to be spoken, and how far it has been heard, by whichever voice."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.place = 0
        """Characters of the text that need no other voice."""
        self.spoken = Spoken()
        self.goes_on = False
        self.heard_until = 0.0
        self.filled_at: float | None = None

    def note_heard(self, frame: rtc.AudioFrame) -> None:
        self.heard_until = max(self.heard_until, time.monotonic()) + frame.duration

    def note_place(self) -> None:
        """The voice has ended: what it has said needs no other."""
        if self.spoken.seconds:
            self.place = self.spoken.rest_of(self.words.text)

    @property
    def has_rest(self) -> bool:
        """Whether there are, or may still come, words that need another voice."""
        return not self.words.is_whole or _is_spoken(self.words.text[self.place :])

    @property
    def is_said(self) -> bool:
        """Whether nothing was left to be said, as far as the pace of a voice tells that has failed."""
        return self.words.is_whole and self.spoken.is_through(self.words.text)

    @property
    def is_owed(self) -> bool:
        """Whether a voice has words that it could speak. One that waits for the end of a sentence has not."""
        return self.words.is_whole or piece_end(self.spoken.awaits_piece(self.words.text), LATER) > 0


def _is_spoken(text: str) -> bool:
    return any(character.isalnum() for character in text)
