"""Turns what happens in an AgentSession into rows and live events, in order, without ever holding up the audio.

Everything settled goes through one queue and one database thread (`writing.py`), so sequence numbers follow the
conversation. When the database is away the queue waits and tries again; the talk goes on. Partials are hints and go
straight to the channel layer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    stt,
)
from livekit.agents.llm import ChatMessage
from livekit.agents.metrics import AgentSessionUsage, LLMModelUsage, STTModelUsage, TTSModelUsage
from livekit.agents.voice.events import SessionUsageUpdatedEvent
from livekit.agents.voice.io import TextOutput

from agent_runtime.db import DatabaseThread
from agent_runtime.latency import split_spoken_turn, split_typed_turn
from agent_runtime.writing import RowWriter
from molts.text import clean_text
from projects.providers.shared.answers import without_thoughts
from projects.usage.services import Usage
from sessions import events, lines, services
from sessions.choices import NoticeCode, NoticeLevel, Role
from sessions.publish import apublish
from sessions.services import Latency
from sessions.spec import SessionSpec

# How long words of the visitor wait for the answer that they cut short, so that it stands before them. LiveKit is sure
# of an interruption only once it has such words, and says then how much of the answer was played.
CUT_SHORT_SECONDS = 1.5
MOST_REVISED = 20  # finals that corrected words and are not settled yet; LiveKit may drop some
PAUSE_SECONDS = 1.0  # voice activity with less than this between is one utterance


class SessionRecorder:
    """Listens to one AgentSession. `attach` before the session starts, `aclose` after it closed."""

    def __init__(self, *, spec: SessionSpec, database: DatabaseThread, has_avatar: bool = False) -> None:
        self._spec = spec
        self._has_avatar = has_avatar
        self._rows = RowWriter(database)
        self._hints: dict[str, events.TranscriptPartial] = {}
        self._hinting: asyncio.Task[None] | None = None
        self._turn = spec.last_turn
        self._voice: list[_Span] = []
        self._user_segment_id = lines.new_id()
        self._asked: _Question | None = None
        self._answering: _Question | None = None
        self._agent_segment_id = ""
        self._agent_text = ""
        self._agent_words_ended = True
        self._user_metrics: dict[str, Any] = {}
        self._silence_seen_at: float | None = None
        self._heard_words = False
        self._happened_at = time.monotonic()
        self._is_answering = False
        self._is_ready = False
        self._session: AgentSession[Any] | None = None
        self._named: dict[str, str] = {}
        self._mine: set[str] = set()
        self._revised: deque[str] = deque(maxlen=MOST_REVISED)
        self._held: list[Callable[[], None]] = []
        self._used = AgentSessionUsage([])
        self._usage: dict[str, Decimal] = {}
        self._face_time: dict[tuple[str, str], float] = {}

    # -- wiring --------------------------------------------------------------------------------------------------------
    def attach(self, session: AgentSession[Any]) -> None:
        self._session = session
        self._rows.start()
        session.on("user_input_transcribed", self._on_transcribed)
        session.on("user_state_changed", self._on_user_state)
        session.on("agent_state_changed", self._on_agent_state)
        session.on("conversation_item_added", self._on_item)
        session.on("session_usage_updated", self._on_usage)

    def text_output(self) -> TextOutput:
        """Put this last in the agent's transcription chain: it sees the words as they are spoken."""
        return _PartialText(self)

    @property
    def has_noticed_voice(self) -> bool:
        """Whether the visitor was heard at all, if only as noise."""
        return self._silence_seen_at is not None or bool(self._voice)

    @property
    def visitor_has_spoken(self) -> bool:
        """Whether the visitor has said or typed words."""
        return self._heard_words

    @property
    def segment_ids(self) -> frozenset[str]:
        """Of the lines that this job writes."""
        return frozenset(self._mine)

    def quiet_seconds(self) -> float:
        """For how long nothing has been said, written or answered."""
        return 0.0 if self._is_answering else time.monotonic() - self._happened_at

    # -- lines with a name of their own --------------------------------------------------------------------------------
    def name_speech(self, speech_id: str, segment_id: str) -> None:
        """What this speech says will be the line `segment_id`."""
        self._named[speech_id] = segment_id

    def is_unheard(self, speech_id: str) -> bool:
        """Whether nothing was heard yet of a speech with a name."""
        return speech_id in self._named

    @property
    def has_unheard(self) -> bool:
        return bool(self._named)

    def forget_speech(self, speech_id: str) -> None:
        self._named.pop(speech_id, None)

    # -- closing -------------------------------------------------------------------------------------------------------
    async def flush(self, *, seconds: float) -> None:
        """Wait until what is known so far is written, but not longer."""
        self._release()
        await self._rows.flush(seconds=seconds)

    async def aclose(self) -> None:
        """Write everything that is known, within a deadline."""
        if not self._rows.is_open:
            return
        self._release()
        self._write_usage()
        await self._rows.aclose()
        if self._hinting is not None:
            self._hinting.cancel()

    # -- what the visitor says -----------------------------------------------------------------------------------------
    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        if event.new_state == "speaking":
            if self._voice and self._voice[-1].is_followed_by(event.created_at):
                self._voice[-1].ended_at = None
            else:
                self._voice.append(_Span(event.created_at))
        elif event.old_state == "speaking":
            if self._voice:
                self._voice[-1].ended_at = event.created_at
            self._silence_seen_at = time.time()

    def note_heard(self, data: stt.SpeechData) -> None:
        """What the recogniser says beside its final words; the session's event about them comes after it."""
        if (data.metadata or {}).get("revised"):
            self._revised.append(data.text.strip())

    def _take_revised(self, text: str) -> bool:
        """Whether the final `text` corrected words that were shown as agreed."""
        if text not in self._revised:
            return False
        self._revised.remove(text)
        return True

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        text = event.transcript.strip()
        if not text:
            return
        self._happened_at = time.monotonic()
        if not event.is_final:
            self._hint(self._partial(Role.USER, self._user_segment_id, text))
            return
        segment_id, self._user_segment_id = self._user_segment_id, lines.new_id()
        heard_voice = any(span.ended_at is not None for span in self._voice)
        started_at, ended_at = self._take_voice(event.created_at)
        self._asked = _Question(segment_id, stopped_at=ended_at if heard_voice else None)
        self._settle_question(
            segment_id=segment_id,
            text=text,
            started_at=started_at,
            ended_at=ended_at,
            revised=self._take_revised(text),
        )

    def record_typed(self, text: str, segment_id: str = "") -> None:
        """A message that was typed instead of spoken."""
        now = time.time()
        self._happened_at = time.monotonic()
        self._asked = _Question(segment_id or lines.new_id(), typed_at=now)
        self._settle_question(segment_id=self._asked.segment_id, text=text, started_at=now, ended_at=now)

    def ask_again(self, segment_id: str) -> None:
        """A line that a job before this one wrote is answered now."""
        self._asked = _Question(segment_id, typed_at=time.time())

    def _take_voice(self, now: float) -> tuple[float, float]:
        """When the words that settle `now` were spoken. Voice before them that gave no words was noise."""
        ended = [span for span in self._voice if span.ended_at is not None]
        if ended:
            self._voice = self._voice[self._voice.index(ended[-1]) + 1 :]
            return ended[-1].started_at, ended[-1].ended_at or now
        if self._voice:  # the recogniser is sure of some words while more are spoken
            started_at, self._voice[-1].started_at = self._voice[-1].started_at, now
            return started_at, now
        return now, now

    def _settle_question(
        self, *, segment_id: str, text: str, started_at: float, ended_at: float, revised: bool = False
    ) -> None:
        self._heard_words = True
        settle = partial(
            self._settle,
            segment_id=segment_id,
            role="user",
            text=text,
            started_at=started_at,
            ended_at=ended_at,
            revised=revised,
        )
        if not self._agent_segment_id:
            settle()
            return
        self._held.append(settle)
        self._hint(self._partial(Role.USER, segment_id, text))
        asyncio.get_running_loop().call_later(CUT_SHORT_SECONDS, self._release)

    def _release(self) -> None:
        held, self._held = self._held, []
        for settle in held:
            settle()

    # -- what the agent says -------------------------------------------------------------------------------------------
    def note_agent_words(self, text: str) -> None:
        """Words of the agent as they are spoken."""
        if not self._agent_segment_id:
            if not self._agent_words_ended:
                return  # the rest of an answer that is settled already
            self._begin_answer()
        self._agent_text += text
        self._hint(self._partial(Role.AGENT, self._agent_segment_id, without_thoughts(self._agent_text).strip()))

    def note_agent_words_end(self) -> None:
        """The words of one answer have all come. On a busy machine that may be after the answer was settled."""
        self._agent_words_ended = True

    def _begin_answer(self) -> None:
        """From here on words of the visitor belong to the next turn."""
        speech = getattr(self._session, "current_speech", None)
        name = self._named.pop(speech.id, "") if speech is not None else ""
        self._agent_segment_id, self._agent_text = name or lines.new_id(), ""
        self._agent_words_ended = False
        question = None
        if not name or lines.is_answer(name):  # else the answer to the visitor is still to come
            question, self._asked = self._asked, None
        if question is not None:
            question.metrics, self._user_metrics = self._user_metrics, {}
            question.silence_seen_at = self._silence_seen_at
        self._answering = question

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking" and not self._agent_segment_id:
            self._agent_words_ended = True
        self._is_answering = event.new_state in ("thinking", "speaking")
        self._happened_at = time.monotonic()
        state = "listening" if event.new_state == "idle" else event.new_state
        # LiveKit's session listens before the visitor's sound comes to it; `note_ready` says when.
        if state != "initializing" and (self._is_ready or state != "listening"):
            self._write(partial(services.note_agent_state, session_id=self._spec.session_id, state=state))
        if state == "listening":
            self._write_usage()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if not isinstance(item, ChatMessage):
            return
        if item.role == "user":
            # An empty report comes with text that was typed, or handed back unanswered; it says nothing about a voice.
            self._user_metrics = dict(item.metrics or {}) or self._user_metrics
            if self._asked is not None:
                self._asked.decided_at = time.time()
        elif item.role == "assistant":
            self._on_answer(item)

    def _on_answer(self, item: ChatMessage) -> None:
        text = without_thoughts(item.text_content or "").strip()
        if not self._agent_segment_id:
            self._begin_answer()
        segment_id, self._agent_segment_id = self._agent_segment_id, ""
        metrics: dict[str, Any] = {**(item.metrics or {})}
        started = metrics.get("started_speaking_at") or item.created_at
        if text:
            self._settle(
                segment_id=segment_id,
                role="agent",
                text=text,
                started_at=started,
                ended_at=metrics.get("stopped_speaking_at") or time.time(),
                interrupted=item.interrupted,
            )
        self._close_turn(metrics, segment_id if text else "", item.interrupted)
        self._release()

    def _close_turn(self, metrics: dict[str, Any], agent_segment_id: str, interrupted: bool) -> None:
        """An answer ends the turn that the visitor's last words before it began. A greeting answers nobody."""
        question, self._answering = self._answering, None
        if question is None:
            return
        self._turn += 1
        self._write(
            partial(
                services.record_turn,
                session_id=self._spec.session_id,
                index=self._turn,
                latency=self._latency(question, metrics),
                user_segment_id=question.segment_id,
                agent_segment_id=agent_segment_id,
                interrupted=interrupted,
            )
        )

    def _latency(self, question: _Question, agent: dict[str, Any]) -> Latency:
        if question.typed_at is not None:
            return split_typed_turn(agent=agent, typed_at=question.typed_at, has_avatar=self._has_avatar)
        return split_spoken_turn(
            user=question.report(), agent=agent, silence_seen_at=question.silence_seen_at, has_avatar=self._has_avatar
        )

    # -- what it uses --------------------------------------------------------------------------------------------------
    def _on_usage(self, event: SessionUsageUpdatedEvent) -> None:
        self._used = event.usage

    def note_face_time(self, provider: str, model: str, *, seconds: float) -> None:
        """So much longer a vendor has rendered the face."""
        self._face_time[provider, model] = self._face_time.get((provider, model), 0.0) + seconds

    def _write_usage(self) -> None:
        """Not as it happens: that would be while an answer is being prepared, and the visitor waits for it."""
        for usage in self._used.model_usage:
            for unit, quantity in _quantities(usage):
                kind = usage.type.removesuffix("_usage")
                self._write_sum(kind, usage.provider, usage.model, unit, quantity)
        for (provider, model), seconds in self._face_time.items():
            self._write_sum("avatar", provider, model, "avatar_seconds", _quantity(seconds))

    def _write_sum(self, kind: str, provider: str, model: str, unit: str, quantity: Decimal) -> None:
        # One row per job and model: sums grow, and a replacement job counts from zero.
        source = f"{self._spec.generation}:{kind}:{provider}:{model}:{unit}"
        if not quantity or self._usage.get(source) == quantity:
            return
        self._usage[source] = quantity
        used = Usage(source[:120], kind, provider[:50], model[:100], unit, quantity)
        self._write(partial(services.record_session_usage, session_id=self._spec.session_id, usage=used))

    # -- notices and states --------------------------------------------------------------------------------------------
    def note_ready(self, identity: str) -> None:
        """The agent is in the room, as `identity`, and listens. The talk begins also while the database is away."""
        self._is_ready = True
        self._write(partial(services.activate_session, session_id=self._spec.session_id, agent_identity=identity))

    def notice(self, *, level: NoticeLevel, code: NoticeCode, text: str, once: bool = False, reason: str = "") -> None:
        """`text` is for everybody, `reason` for admins alone."""
        tell = partial(services.add_notice, session_id=self._spec.session_id, level=level, code=code, text=text)
        self._write(partial(tell, once=once, reason=reason))

    def note_aside(self, text: str) -> None:
        """The agent says `text` beside its answers: another voice does, or a sound stands for it."""
        now = time.time()
        self._settle(segment_id=lines.aside_id(), role="agent", text=text, started_at=now, ended_at=now)

    # -- how it is written ---------------------------------------------------------------------------------------------
    def _settle(
        self,
        *,
        segment_id: str,
        role: str,
        text: str,
        started_at: float,
        ended_at: float,
        interrupted: bool = False,
        revised: bool = False,
    ) -> None:
        self._mine.add(segment_id)
        self._hints.pop(segment_id, None)  # settled words need no hint any more
        self._write(
            partial(
                services.record_segment,
                session_id=self._spec.session_id,
                segment_id=segment_id,
                role=role,
                text=text,
                start_ms=self._offset_ms(started_at),
                end_ms=self._offset_ms(ended_at),
                interrupted=interrupted,
                revised=revised,
            )
        )

    def _write(self, call: Callable[[], Any]) -> None:
        self._rows.write(call)

    def _partial(self, role: Role, segment_id: str, text: str) -> events.TranscriptPartial:
        return events.TranscriptPartial(
            segment_id=segment_id, role=role, text=clean_text(text), offset_ms=self._offset_ms(time.time())
        )

    def _hint(self, event: events.TranscriptPartial) -> None:
        """Publish in order, and only the newest words of a segment when the channel layer is slower than the talk."""
        self._hints[event.segment_id] = event
        if self._hinting is None or self._hinting.done():
            self._hinting = asyncio.create_task(self._send_hints(), name="hints")

    async def _send_hints(self) -> None:
        while self._hints:
            await apublish(self._spec.session_id, self._hints.pop(next(iter(self._hints))))

    def _offset_ms(self, moment: float) -> int:
        since = datetime.fromtimestamp(moment, UTC) - self._spec.started_at
        return max(0, round(since.total_seconds() * 1000))


@dataclass
class _Span:
    """Voice activity, in epoch seconds; it goes on while `ended_at` is None."""

    started_at: float
    ended_at: float | None = None

    def is_followed_by(self, moment: float) -> bool:
        """Whether voice at `moment` still belongs to it."""
        return self.ended_at is None or moment - self.ended_at < PAUSE_SECONDS


@dataclass
class _Question:
    """The visitor's last words before an answer. `metrics` is LiveKit's report about them; times are epoch seconds."""

    segment_id: str
    typed_at: float | None = None
    stopped_at: float | None = None  # where voice activity detection saw the words end
    decided_at: float | None = None  # when the turn was taken to be over
    metrics: dict[str, Any] = field(default_factory=dict)
    silence_seen_at: float | None = None

    def report(self) -> dict[str, Any]:
        """LiveKit's report, or our own reading where it gave none: it drops its own when its end of speech is stale."""
        if "stopped_speaking_at" in self.metrics or self.stopped_at is None:
            return self.metrics
        report = {**self.metrics, "stopped_speaking_at": self.stopped_at}
        if self.decided_at is not None:
            report["end_of_turn_delay"] = self.decided_at - self.stopped_at
        return report


class _PartialText(TextOutput):
    def __init__(self, recorder: SessionRecorder) -> None:
        super().__init__(label="recorder", next_in_chain=None)
        self._recorder = recorder

    async def capture_text(self, text: str) -> None:
        self._recorder.note_agent_words(text)

    def flush(self) -> None:
        self._recorder.note_agent_words_end()


def _quantities(usage: Any) -> list[tuple[str, Decimal]]:
    """(unit, quantity) pairs of a LiveKit usage summary."""
    pairs: list[tuple[str, float]]
    match usage:
        case LLMModelUsage():
            pairs = [("tokens_in", usage.input_tokens), ("tokens_out", usage.output_tokens)]
        case TTSModelUsage():
            pairs = [("characters", usage.characters_count), ("audio_seconds", usage.audio_duration)]
        case STTModelUsage():
            pairs = [("audio_seconds", usage.audio_duration)]
        case _:
            pairs = []
    return [(unit, _quantity(quantity)) for unit, quantity in pairs]


def _quantity(amount: float) -> Decimal:
    return Decimal(str(round(amount, 4)))
