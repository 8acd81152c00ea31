"""The recorder on made-up AgentSession events, with the real database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from channels.layers import get_channel_layer
from django.db import DataError, OperationalError
from livekit import rtc
from livekit.agents import (
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    LanguageCode,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    stt,
)
from livekit.agents.llm import ChatMessage
from livekit.agents.metrics import AgentSessionUsage, LLMModelUsage, STTModelUsage, TTSModelUsage
from livekit.agents.voice.events import SessionUsageUpdatedEvent

from agent_runtime import recorder as recorder_module
from agent_runtime import writing
from agent_runtime.db import DatabaseThread
from agent_runtime.recorder import SessionRecorder
from avatars.models import Agent
from projects.providers.shared.answers import THOUGHT_UNTIL_HERE
from projects.usage.models import UsageRecord
from sessions import events, services
from sessions.choices import NoticeCode, NoticeLevel, Role
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.publish import group_name
from sessions.spec import build_spec

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]
T = TypeVar("T")


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    session = services._create_session(agent=agent, link=None, visitor_name="", source="link")
    LiveSession.objects.filter(pk=session.pk).update(state="active", agent_state="listening")
    session.refresh_from_db()
    return session


class Talk:
    """A conversation as LiveKit would report it."""

    def __init__(self, session: LiveSession) -> None:
        self.session = session
        self.database = DatabaseThread()
        self.emitter: rtc.EventEmitter[Any] = rtc.EventEmitter()
        self.recorder = SessionRecorder(spec=build_spec(session), database=self.database)

    async def query(self, function: Callable[[], T]) -> T:
        return await self.database.run(function)

    async def written(self) -> None:
        """Until everything that was reported is in the database."""
        await self.recorder.aclose()

    # -- what happens --------------------------------------------------------------------------------------------------
    def voice(self, starts: float, ends: float) -> None:
        self.user_state("speaking", starts)
        self.user_state("listening", ends)

    def user_state(self, state: str, at: float) -> None:
        old = "listening" if state == "speaking" else "speaking"
        self.emitter.emit(
            "user_state_changed",
            UserStateChangedEvent.model_validate({"old_state": old, "new_state": state, "created_at": at}),
        )

    def hears(self, text: str, *, final: bool = True, at: float | None = None) -> None:
        self.emitter.emit(
            "user_input_transcribed",
            UserInputTranscribedEvent(transcript=text, is_final=final, created_at=at or time.time()),
        )

    def decides(self, text: str, **metrics: float) -> None:
        self._item("user", text, metrics, interrupted=False)

    def begins(self, *words: str) -> None:
        for word in words:
            self.recorder.note_agent_words(word)

    def says(self, text: str, *, interrupted: bool = False, **metrics: float) -> None:
        """An answer whose words were all spoken."""
        self.begins(text)
        self.ends(text, interrupted=interrupted, **metrics)

    def ends(self, text: str, *, interrupted: bool = False, **metrics: float) -> None:
        self.recorder.text_output().flush()
        self._item("assistant", text, metrics, interrupted=interrupted)

    def ends_early(self, text: str) -> None:
        """LiveKit settles an answer while its last words are still on their way through the queues."""
        self._item("assistant", text, {}, interrupted=False)

    def _item(self, role: str, text: str, metrics: dict[str, float], *, interrupted: bool) -> None:
        item = ChatMessage.model_validate(
            {"role": role, "content": [text], "metrics": metrics, "interrupted": interrupted}
        )
        self.emitter.emit("conversation_item_added", ConversationItemAddedEvent(item=item))

    def agent_state(self, state: str) -> None:
        self.emitter.emit(
            "agent_state_changed",
            AgentStateChangedEvent.model_validate({"old_state": "listening", "new_state": state}),
        )

    def uses(self, *usage: Any) -> None:
        self.emitter.emit(
            "session_usage_updated", SessionUsageUpdatedEvent(usage=AgentSessionUsage(model_usage=list(usage)))
        )


@pytest.fixture
def unattached(session: LiveSession) -> Talk:
    return Talk(session)


@pytest_asyncio.fixture
async def talk(unattached: Talk) -> AsyncIterator[Talk]:
    talk = unattached
    talk.recorder.attach(talk.emitter)  # type: ignore[arg-type]
    try:
        yield talk
    finally:
        await talk.recorder.aclose()
        talk.database.close()


def segments(session: LiveSession) -> list[tuple[int, str, str, bool]]:
    return [(s.seq, s.role, s.text, s.interrupted) for s in Segment.objects.filter(session=session)]


# -- being ready ------------------------------------------------------------------------------------------------------
async def test_the_agent_listens_only_once_it_is_ready(talk: Talk) -> None:
    async def states() -> list[str]:
        await talk.recorder.flush(seconds=5)
        session = await talk.query(fresh.get)
        return [session.state, session.agent_state]

    fresh = LiveSession.objects.filter(pk=talk.session.pk)
    await talk.query(lambda: fresh.update(state="waiting", agent_state="initializing", active_at=None))
    talk.agent_state("listening")  # LiveKit's session says so before the room's sound has come
    assert await states() == ["waiting", "initializing"]
    talk.agent_state("speaking")  # what it says is heard all the same
    assert await states() == ["waiting", "speaking"]
    talk.recorder.note_ready("agent-1")
    assert await states() == ["active", "listening"]
    for state in ("thinking", "listening"):
        talk.agent_state(state)
        assert await states() == ["active", state]


# -- order and times ---------------------------------------------------------------------------------------------------
async def test_it_numbers_what_was_said_in_the_order_of_the_conversation(talk: Talk) -> None:
    talk.says("Hello.")
    talk.hears("one")
    talk.says("And?")
    talk.hears("two", final=False)
    talk.hears("  two  ")
    talk.hears("   ")
    talk.says("Three.")
    await talk.written()
    assert await talk.query(lambda: segments(talk.session)) == [
        (1, "agent", "Hello.", False),
        (2, "user", "one", False),
        (3, "agent", "And?", False),
        (4, "user", "two", False),
        (5, "agent", "Three.", False),
    ]


async def test_it_knows_when_words_were_spoken(talk: Talk) -> None:
    begun = talk.session.created_at.timestamp()
    talk.voice(begun + 3, begun + 4)  # noise: no words come of it
    talk.voice(begun + 10, begun + 11)
    talk.voice(begun + 11.5, begun + 12)  # a pause for breath
    talk.hears("one sentence", at=begun + 12.3)
    talk.voice(begun + 20, begun + 21)
    talk.user_state("speaking", begun + 30)
    talk.hears("another", at=begun + 31)  # whose recogniser was slow
    talk.hears("and one more", at=begun + 32)  # settled while still being spoken
    talk.hears("to the end", at=begun + 33)
    await talk.written()
    times = await talk.query(lambda: list(Segment.objects.values_list("text", "start_ms", "end_ms")))
    assert times == [
        ("one sentence", 10_000, 12_000),
        ("another", 20_000, 21_000),
        ("and one more", 30_000, 32_000),
        ("to the end", 32_000, 33_000),
    ]


async def test_an_interrupted_answer_stands_before_the_words_that_cut_it_short(talk: Talk) -> None:
    talk.hears("tell me all")
    talk.begins("Once ", "upon ")
    talk.hears("stop")  # LiveKit is told first, and stops the answer then
    talk.ends("Once upon", interrupted=True)
    talk.says("Yes?")
    await talk.written()
    assert await talk.query(lambda: segments(talk.session)) == [
        (1, "user", "tell me all", False),
        (2, "agent", "Once upon", True),
        (3, "user", "stop", False),
        (4, "agent", "Yes?", False),
    ]
    turns = await talk.query(lambda: list(Turn.objects.values_list("index", "interrupted")))
    assert turns == [(1, True), (2, False)]
    linked = await talk.query(_linked)
    assert linked == [("tell me all", "Once upon"), ("stop", "Yes?")]


async def test_what_turned_out_to_be_thought_is_no_part_of_the_answer(talk: Talk) -> None:
    talk.hears("tell me all")
    talk.begins("They want all. ", f"{THOUGHT_UNTIL_HERE}Once ", "upon ")
    talk.ends(f"They want all. {THOUGHT_UNTIL_HERE}Once upon")
    await talk.written()
    assert await talk.query(lambda: segments(talk.session)) == [
        (1, "user", "tell me all", False),
        (2, "agent", "Once upon", False),
    ]


async def test_words_during_an_answer_that_goes_on_are_not_held_for_long(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "CUT_SHORT_SECONDS", 0.05)
    talk.begins("Once ", "upon ")
    talk.hears("aha")
    await asyncio.sleep(0.1)
    talk.ends("Once upon a time.")
    await talk.written()
    assert [text for _, _, text, _ in await talk.query(lambda: segments(talk.session))] == ["aha", "Once upon a time."]


async def test_words_held_back_are_written_when_the_conversation_ends(talk: Talk) -> None:
    talk.begins("Once ")
    talk.hears("bye")
    await talk.written()
    assert [text for _, _, text, _ in await talk.query(lambda: segments(talk.session))] == ["bye"]


# -- turns -------------------------------------------------------------------------------------------------------------
async def test_it_splits_the_wait_of_a_spoken_turn(talk: Talk) -> None:
    now = time.time()
    talk.voice(now - 2, now)
    talk.recorder._silence_seen_at = now  # however late this machine is
    talk.hears("what time is it")
    talk.decides("what time is it", stopped_speaking_at=now - 0.25, transcription_delay=0.3, end_of_turn_delay=0.4)
    talk.says("Noon.", e2e_latency=0.6, tts_node_ttfb=0.05, started_speaking_at=now + 0.35)
    await talk.written()
    turn = await talk.query(Turn.objects.get)
    parts = [turn.endpointing_ms, turn.stt_ms, turn.llm_ms, turn.tts_ms]
    assert turn.total_ms == 600
    assert turn.tts_ms == 50
    assert turn.stt_ms is not None
    assert 0 < turn.stt_ms <= 300
    assert abs(sum(part or 0 for part in parts) - 600) <= 50


async def test_it_measures_a_spoken_turn_itself_when_livekit_gives_no_figures(talk: Talk) -> None:
    now = time.time()
    talk.voice(now - 9, now - 5)
    talk.hears("what time is it")
    talk.decides("what time is it")
    talk.says("Noon.", tts_node_ttfb=0.05, started_speaking_at=now + 60)
    await talk.written()
    turn = await talk.query(Turn.objects.get)
    assert turn.total_ms == 65_000
    assert turn.endpointing_ms is not None
    assert 5_000 <= turn.endpointing_ms < 60_000
    assert abs(turn.endpointing_ms + (turn.llm_ms or 0) + (turn.tts_ms or 0) - 65_000) <= 50


async def test_it_counts_a_typed_turn_from_its_sending(talk: Talk) -> None:
    before = time.time()
    talk.recorder.record_typed("hello")
    talk.decides("hello")
    talk.says("Hi.", started_speaking_at=before + 0.5, tts_node_ttfb=0.1)
    await talk.written()
    turn = await talk.query(Turn.objects.get)
    assert (turn.endpointing_ms, turn.stt_ms, turn.tts_ms) == (None, None, 100)
    assert turn.total_ms is not None
    assert 450 <= turn.total_ms <= 500


async def test_text_typed_into_an_answer_begins_a_turn_of_its_own(talk: Talk) -> None:
    talk.hears("tell me all")
    talk.begins("Once ")
    talk.recorder.record_typed("stop")
    talk.ends("Once", interrupted=True)
    talk.says("Yes?")
    await talk.written()
    assert await talk.query(_linked) == [("tell me all", "Once"), ("stop", "Yes?")]


async def test_a_greeting_is_no_turn_and_a_second_sentence_of_the_agent_is_none(talk: Talk) -> None:
    talk.says("Hello.")
    talk.hears("hi")
    talk.says("How are you?")
    talk.says("We close soon.")
    await talk.written()
    assert await talk.query(_linked) == [("hi", "How are you?")]


async def test_a_replacement_counts_turns_on(talk: Talk) -> None:
    await talk.query(lambda: Turn.objects.create(session=talk.session, index=4))
    second = await talk.query(lambda: Talk(talk.session))
    second.recorder.attach(second.emitter)  # type: ignore[arg-type]
    second.hears("still there")
    second.says("Yes.")
    await second.written()
    second.database.close()
    assert await talk.query(lambda: list(Turn.objects.values_list("index", flat=True))) == [4, 5]


def _linked() -> list[tuple[str, str]]:
    text = dict(Segment.objects.values_list("segment_id", "text"))
    return [(text[turn.user_segment_id], text[turn.agent_segment_id]) for turn in Turn.objects.all()]


# -- usage, states, notices --------------------------------------------------------------------------------------------
async def test_it_keeps_one_growing_sum_a_model_and_unit(talk: Talk) -> None:
    for tokens, seconds in ((10, 1.5), (25, 1.5), (25, 4.25)):
        talk.uses(
            LLMModelUsage(provider="scripted", model="scripted", input_tokens=tokens, output_tokens=0),
            TTSModelUsage(provider="espeak", model="en-us", characters_count=tokens * 2, audio_duration=seconds),
            STTModelUsage(provider="faster_whisper", model="base", audio_duration=seconds),
        )
    await talk.written()
    used = await talk.query(
        lambda: {(u.kind, u.unit): (u.provider, u.model, u.quantity) for u in UsageRecord.objects.all()}
    )
    assert used == {
        ("llm", "tokens_in"): ("scripted", "scripted", Decimal("25")),
        ("tts", "characters"): ("espeak", "en-us", Decimal("50")),
        ("tts", "audio_seconds"): ("espeak", "en-us", Decimal("4.25")),
        ("stt", "audio_seconds"): ("faster_whisper", "base", Decimal("4.25")),
    }


async def test_a_replacement_adds_to_what_was_used_before(talk: Talk) -> None:
    talk.uses(STTModelUsage(provider="faster_whisper", model="base", audio_duration=3))
    await talk.written()
    await talk.query(lambda: LiveSession.objects.update(dispatch_generation=1))
    session = await talk.query(LiveSession.objects.get)
    second = await talk.query(lambda: Talk(session))
    second.recorder.attach(second.emitter)  # type: ignore[arg-type]
    second.uses(STTModelUsage(provider="faster_whisper", model="base", audio_duration=2))
    await second.written()
    second.database.close()
    assert await talk.query(lambda: sum(u.quantity for u in UsageRecord.objects.all())) == 5


async def test_it_stores_what_the_agent_is_doing(talk: Talk) -> None:
    talk.agent_state("initializing")
    talk.agent_state("thinking")
    await talk.written()
    assert (await talk.query(LiveSession.objects.get)).agent_state == "thinking"


async def test_it_gives_a_notice_once_when_asked_to(talk: Talk) -> None:
    for _ in range(3):
        talk.recorder.notice(
            level=NoticeLevel.WARNING, code=NoticeCode.OFFLINE_RECOGNISER, text="Hard of hearing.", once=True
        )
    talk.recorder.notice(level=NoticeLevel.WARNING, code=NoticeCode.STT_FALLBACK, text="Another one listens.")
    talk.recorder.notice(level=NoticeLevel.INFO, code=NoticeCode.STT_FALLBACK, text="The first is back.")
    await talk.written()
    codes = await talk.query(lambda: list(SessionNotice.objects.values_list("code", flat=True)))
    assert codes == ["offline_recogniser", "stt_fallback", "stt_fallback"]


async def test_it_publishes_words_as_they_come_and_then_the_settled_line(talk: Talk) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(talk.session.pk), channel)
    talk.hears("book a", final=False)
    talk.hears("book a table")
    await _next(layer, channel, events.TranscriptFinal)
    talk.begins("Yes, ")
    first = await _next(layer, channel, events.TranscriptPartial)
    talk.begins("please.")
    second = await _next(layer, channel, events.TranscriptPartial)
    talk.ends("Yes, please.")
    final = await _next(layer, channel, events.TranscriptFinal)
    assert [(event.role, event.text) for event in (first, second)] == [("agent", "Yes,"), ("agent", "Yes, please.")]
    # The page settles the line that it has been showing.
    assert {first.segment_id, second.segment_id, final.segment_id} == {final.segment_id}


@pytest.mark.parametrize("words", [("The meeting ", "is today "), ()], ids=["some", "none"])
async def test_words_that_come_after_their_line_was_settled_begin_no_line(talk: Talk, words: tuple[str, ...]) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(talk.session.pk), channel)
    talk.hears("when is the meeting")
    talk.begins(*words)
    talk.ends_early("The meeting is today at nine.")
    settled = await _next(layer, channel, events.TranscriptFinal, role="agent")
    talk.begins("at ", "nine.")
    talk.recorder.text_output().flush()
    talk.hears("thank you")
    talk.begins("You are ")
    hint = await _next(layer, channel, events.TranscriptPartial)
    talk.ends("You are welcome.")
    final = await _next(layer, channel, events.TranscriptFinal, role="agent")
    assert (settled.text, hint.text, final.text) == ("The meeting is today at nine.", "You are", "You are welcome.")
    assert hint.segment_id == final.segment_id
    await talk.written()
    assert [turn.agent_segment_id for turn in await talk.query(lambda: list(Turn.objects.order_by("index")))] == [
        settled.segment_id,
        final.segment_id,
    ]


async def test_it_says_which_settled_words_corrected_agreed_ones(talk: Talk) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(talk.session.pk), channel)
    for text, revised in (("book a cable", 0), ("book a table", 2), ("never settled", 1)):
        talk.recorder.note_heard(stt.SpeechData(LanguageCode("en"), f"{text} ", metadata={"revised": revised}))
    talk.recorder.note_heard(stt.SpeechData(LanguageCode("en"), "of another recogniser"))
    for text in ("book a cable", "book a table", "of another recogniser", "book a table"):
        talk.hears(text)
    told = [await _next(layer, channel, events.TranscriptFinal) for _ in range(4)]
    assert [(event.text, event.revised) for event in told] == [
        ("book a cable", False),
        ("book a table", True),
        ("of another recogniser", False),
        ("book a table", False),  # said again, and right at once
    ]
    await talk.written()
    stored = await talk.query(lambda: list(Segment.objects.values_list("revised", flat=True)))
    assert stored == [False, True, False, False]


async def test_of_words_that_come_faster_than_they_can_be_sent_the_newest_go_out(talk: Talk) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(talk.session.pk), channel)
    words = [f"word{number} " for number in range(200)]
    talk.begins(*words)
    seen = 0
    last = ""
    while len(last.split()) < len(words):
        event = await _next(layer, channel, events.TranscriptPartial)
        assert event.text.startswith(last)
        seen, last = seen + 1, event.text
    assert seen < 10


async def _next(layer: Any, channel: str, kind: type[Any], role: str = "") -> Any:
    """The next event of a kind, of a role if one is given; others are passed over."""
    while True:
        event = events.decode((await asyncio.wait_for(layer.receive(channel), 5))["text"])
        if isinstance(event, kind) and role in ("", getattr(event, "role", "")):
            return event


# -- when things go wrong ----------------------------------------------------------------------------------------------
async def test_it_keeps_everything_through_an_outage_of_the_database(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_SECONDS", (0.01,))
    record, failures = services.record_segment, 5

    def sometimes(**fields: Any) -> Segment:
        nonlocal failures
        if failures:
            failures -= 1
            raise OperationalError("the database is on holiday")
        return record(**fields)

    monkeypatch.setattr(services, "record_segment", sometimes)
    begun = time.monotonic()
    talk.hears("one")
    talk.says("Two.")
    talk.hears("three")
    assert time.monotonic() - begun < 0.1  # the conversation itself did not wait
    await talk.written()
    assert failures == 0
    assert [text for _, _, text, _ in await talk.query(lambda: segments(talk.session))] == ["one", "Two.", "three"]
    assert await talk.query(Turn.objects.count) == 1


async def test_it_passes_over_a_row_that_is_refused_for_what_it_is(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = services.record_segment

    def picky(*, text: str, **fields: Any) -> Segment:
        if text == "bad":
            raise DataError("not in my table")
        return record(text=text, **fields)

    monkeypatch.setattr(services, "record_segment", picky)
    talk.hears("bad")
    talk.hears("good")
    await talk.written()
    assert [text for _, _, text, _ in await talk.query(lambda: segments(talk.session))] == ["good"]
    assert "could not record" in caplog.text


async def test_it_forgets_a_conversation_that_was_erased(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    talk.hears("one")
    await talk.query(lambda: talk.session.delete())
    talk.hears("two")
    talk.says("Three.")
    talk.uses(STTModelUsage(provider="faster_whisper", model="base", audio_duration=3))
    talk.agent_state("thinking")
    talk.recorder.notice(level=NoticeLevel.INFO, code=NoticeCode.RECORDING, text="Recorded.")
    begun = time.monotonic()
    await talk.written()
    assert time.monotonic() - begun < 5
    assert await talk.query(Segment.objects.count) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_it_gives_up_at_its_deadline_when_the_database_stays_away(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 0.3)

    def never(**_: Any) -> Segment:
        raise OperationalError("gone for good")

    monkeypatch.setattr(services, "record_segment", never)
    talk.hears("one")
    begun = time.monotonic()
    await talk.recorder.aclose()
    assert 0.2 < time.monotonic() - begun < 3
    assert "could not write everything" in caplog.text


async def test_its_log_holds_no_words(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="agent_runtime")
    talk.hears("my secret word is rosebud")
    talk.says("I keep the rosebud.")
    await talk.query(lambda: talk.session.delete())
    talk.hears("rosebud again")
    await talk.written()
    assert "rosebud" not in caplog.text


# -- signs of life -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "happen",
    [
        lambda talk: talk.hears("words", final=False),
        lambda talk: talk.hears("words"),
        lambda talk: talk.recorder.record_typed("typed"),
        lambda talk: (talk.agent_state("speaking"), talk.agent_state("listening")),
    ],
    ids=["heard", "understood", "typed", "answered"],
)
async def test_it_knows_that_something_was_said_also_while_no_row_can_be_written(
    talk: Talk, happen: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True

    def away(**_: Any) -> None:
        if is_full:
            raise OperationalError("the disk is full")

    monkeypatch.setattr(services, "record_segment", away)
    monkeypatch.setattr(services, "note_agent_state", away)
    talk.recorder._happened_at -= 100
    assert talk.recorder.quiet_seconds() >= 100
    happen(talk)
    assert talk.recorder.quiet_seconds() < 50
    is_full = False


@pytest.mark.parametrize("state", ["thinking", "speaking"])
async def test_an_answer_of_any_length_is_no_silence(talk: Talk, state: str) -> None:
    talk.agent_state(state)
    talk.recorder._happened_at -= 1000
    assert talk.recorder.quiet_seconds() == 0
    talk.agent_state("listening")
    assert talk.recorder.quiet_seconds() < 50


async def test_noise_without_words_is_silence(talk: Talk) -> None:
    talk.recorder._happened_at -= 100
    talk.voice(time.time() - 1, time.time())
    talk.hears(" ")
    assert talk.recorder.quiet_seconds() >= 100


# -- what nobody sees --------------------------------------------------------------------------------------------------
async def test_lines_of_both_are_written_and_hinted_without_what_nobody_sees(talk: Talk) -> None:
    talk.hears("invoice\u202efdp.exe")
    talk.says("Here\u2066 you are\u0000.")
    await talk.written()
    lines = await talk.query(lambda: list(Segment.objects.order_by("seq").values_list("text", flat=True)))
    assert lines == ["invoicefdp.exe", "Here you are."]
    assert talk.recorder._partial(Role.AGENT, "x", "\u202eHere").text == "Here"


async def test_a_speech_with_a_name_is_the_line_of_that_name(talk: Talk) -> None:
    speech = type("Speech", (), {"id": "speech_1"})()
    talk.emitter.current_speech = speech  # type: ignore[attr-defined]
    talk.recorder.name_speech("speech_1", "order-1")
    assert talk.recorder.is_unheard("speech_1")
    talk.says("We close.")
    assert not talk.recorder.is_unheard("speech_1")
    talk.emitter.current_speech = None  # type: ignore[attr-defined]
    talk.says("Anything else?")
    await talk.written()
    ids = await talk.query(lambda: list(Segment.objects.order_by("seq").values_list("segment_id", flat=True)))
    assert ids[0] == "order-1"
    assert ids[1] not in ("", "order-1")


async def test_a_line_that_a_program_ordered_does_not_end_the_visitors_turn(talk: Talk) -> None:
    talk.recorder.record_typed("how much", "question-1")
    talk.emitter.current_speech = type("Speech", (), {"id": "speech_1"})()  # type: ignore[attr-defined]
    talk.recorder.name_speech("speech_1", "0ddba11a-0000-4000-8000-000000000000")
    talk.says("We close at six.")
    talk.emitter.current_speech = None  # type: ignore[attr-defined]
    talk.says("Ten.")
    await talk.written()
    said = await talk.query(lambda: {each.text: each.segment_id for each in Segment.objects.all()})
    turns = await talk.query(lambda: [(each.user_segment_id, each.agent_segment_id) for each in Turn.objects.all()])
    assert turns == [("question-1", said["Ten."])]
