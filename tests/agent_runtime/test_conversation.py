"""Whole conversations: a visitor made of code, the real media server, Redis, a database file, `manage.py run_agent`."""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial

import pytest

from avatars.models import Agent, PipelineStep
from molts import beats
from projects.models import ProviderKey
from sessions import lines, orders, rooms, services
from sessions.models import LiveSession, Segment
from tests.agent_runtime.stack import Stack, free_port
from tests.agent_runtime.talk import (
    ANSWERS,
    MEETING,
    PHONE,
    STORY,
    TABLE,
    Desk,
    EarlyVisitor,
    agents_in,
    dense,
    matches,
    same_words,
    type_text,
)

pytestmark = pytest.mark.slow
GREETING = ("agent", "Hello, this is Ada.")


async def test_it_hears_answers_and_records_a_spoken_sentence(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        end = await visitor.speak(desk.speech(TABLE))
        heard_at = await visitor.wait_for_sound(end)
        said = await desk.until_said(session, 3)
        await desk.until("the turn", lambda: session.turns.exists())
    segments, (turn,) = await desk.segments(session), await desk.turns(session)

    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert dense(segments)
    assert all(segment.start_ms <= segment.end_ms for segment in segments)
    assert [segment.start_ms for segment in segments] == sorted(segment.start_ms for segment in segments)
    assert not any(segment.interrupted for segment in segments)
    assert turn.index == 1
    assert (turn.user_segment_id, turn.agent_segment_id) == (segments[1].segment_id, segments[2].segment_id)
    parts = [turn.endpointing_ms, turn.stt_ms, turn.llm_ms, turn.tts_ms]
    assert all(part is not None for part in parts)
    assert turn.avatar_ms is None  # there is no face yet that could take time
    assert turn.total_ms is not None
    assert abs(sum(part or 0 for part in parts) - turn.total_ms) <= 50
    # What was measured inside is what the visitor waited, but for the way of the sound and a busy machine.
    assert -0.2 < heard_at - end - turn.total_ms / 1000 < 1.5


async def test_it_records_when_words_were_spoken_and_what_was_used(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        words = desk.speech(TABLE)
        end = await visitor.speak(words)
        await visitor.wait_for_sound(end)
        await visitor.wait_until_quiet()
        await desk.until_said(session, 3)
    begun = session.created_at.timestamp()
    spoken = (await desk.segments(session))[1]
    assert abs(begun + spoken.end_ms / 1000 - end) < 0.5
    assert abs(begun + spoken.start_ms / 1000 - (end - len(words) / 48_000)) < 0.5
    await desk.query(lambda: services.end_session(session_id=session.pk, reason="ended_by_user"))
    await desk.until("all jobs gone", lambda: not desk.stack.busy_jobs())
    used = await desk.query(lambda: {(u.kind, u.provider, u.unit): u.quantity for u in session.usage_records.all()})
    spoken_characters = len(GREETING[1]) + len(ANSWERS[TABLE])
    assert used["tts", "espeak", "characters"] == spoken_characters
    assert used["llm", "scripted", "tokens_out"] == len(ANSWERS[TABLE].split())
    assert used["stt", "faster_whisper", "audio_seconds"] > 0
    assert used["tts", "espeak", "audio_seconds"] > 0


@pytest.mark.soak
async def test_it_answers_typed_text_aloud_and_in_writing(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        sent = time.time()
        await type_text(visitor, "  What is your phone number?  ")
        assert await visitor.wait_for_sound(sent) - sent < 3
        said = await desk.until_said(session, 3)
        await desk.until("the turn", lambda: session.turns.exists())
    (turn,) = await desk.turns(session)
    assert said == [GREETING, ("user", "What is your phone number?"), ("agent", ANSWERS[PHONE])]
    assert (turn.endpointing_ms, turn.stt_ms) == (None, None)
    assert turn.total_ms is not None
    assert abs((turn.llm_ms or 0) + (turn.tts_ms or 0) - turn.total_ms) <= 50


@pytest.mark.soak
async def test_it_ignores_text_of_anyone_but_the_visitor(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor, desk.visitor(session, "stranger") as stranger:
        await visitor.wait_until_quiet()
        await type_text(stranger, "what is your phone number")
        await type_text(visitor, "can i speak to you about a meeting")
        said = await desk.until_said(session, 3)
    assert said == [GREETING, ("user", MEETING), ("agent", ANSWERS[MEETING])]


def order(session: LiveSession, text: str, speaker: str, name: str = "") -> str:
    """What `POST /say` does; returns the id that its answer has."""
    return str(lines.say(session=LiveSession.objects.get(pk=session.pk), text=text, speaker=speaker, name=name))


@pytest.mark.soak
async def test_it_answers_a_line_once_however_often_and_by_whatever_way_it_comes(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    line = str(uuid.uuid4())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await type_text(visitor, PHONE, line=line)
        await type_text(visitor, PHONE, line=line)
        await desk.query(partial(order, session, PHONE, "user", line))
        await desk.until_said(session, 3)
        # The same words are another line where the visitor says them anew.
        await type_text(visitor, PHONE, line=str(uuid.uuid4()))
        said = await desk.until_said(session, 5)
    assert said == [GREETING, *[("user", PHONE), ("agent", ANSWERS[PHONE])] * 2]


async def test_it_says_what_a_program_sends_and_nothing_ends_its_listening(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent(greeting=""))
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening")
        key = orders.orders_key(session.pk)
        for broken in ("not an order", "[]", '{"id": "1", "as": "nobody", "text": "x"}', '{"as": "user"}'):
            await desk.query(partial(beats.client().xadd, key, {"order": broken}))
        await desk.query(partial(beats.client().xadd, key, {"something": "else"}))
        first = await desk.query(lambda: order(session, "We close in ten minutes.", "agent"))
        await visitor.wait_for_sound(0)
        await desk.until_said(session, 1)
        await desk.query(lambda: order(session, PHONE, "user"))
        said = await desk.until_said(session, 3)
    assert said == [("agent", "We close in ten minutes."), ("user", PHONE), ("agent", ANSWERS[PHONE])]
    assert (await desk.segments(session))[0].segment_id == first
    await desk.until("what was carried out to be forgotten", lambda: beats.client().xlen(key) == 0)


@pytest.mark.soak
async def test_lines_of_a_program_are_all_said_however_fast_they_come(desk: Desk) -> None:
    """And from the moment on at which the state says that the agent is there."""
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session):
        await desk.until_agent_is(session, "listening", "speaking", "thinking")
        for text, speaker in (
            ("We close in ten minutes.", "agent"),
            (PHONE, "user"),
            ("The door is on the left.", "agent"),
            ("Good bye.", "agent"),
        ):
            await desk.query(partial(order, session, text, speaker))
        said = await desk.until_said(session, 5, seconds=40)
    agent_said = [text for role, text in said if role == "agent" and text != GREETING[1]]
    assert agent_said == ["We close in ten minutes.", ANSWERS[PHONE], "The door is on the left.", "Good bye."]
    assert ("user", PHONE) in said
    assert not any(segment.interrupted for segment in await desk.segments(session) if segment.text != GREETING[1])


async def test_it_stops_when_spoken_over_and_keeps_only_what_was_played(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent(greeting=""))
    question, story = STORY
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening")
        end = await visitor.speak(desk.speech(question))
        began = await visitor.wait_for_sound(end)
        await asyncio.sleep(max(0.0, began + 1.5 - time.time()))
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 4)
    segments, turns = await desk.segments(session), await desk.turns(session)
    assert [role for role, _ in said] == ["user", "agent", "user", "agent"]
    told = segments[1]
    assert told.interrupted
    assert told.text
    assert story.startswith(told.text)
    # Two to four seconds were heard, at 165 words a minute.
    assert 3 <= len(told.text.split()) <= 14
    assert said[2] == ("user", TABLE)  # also its first word, which fell among the first of the answer
    assert said[3] == ("agent", ANSWERS[TABLE])
    assert [turn.interrupted for turn in turns] == [True, False]


async def test_it_hears_words_spoken_before_it_was_there(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent(), dispatch=False)
    early = EarlyVisitor(*desk.credentials(session))
    async with early as visitor:
        await asyncio.sleep(1)
        spoken = asyncio.create_task(visitor.speak(desk.speech(TABLE)))
        await asyncio.sleep(3)
        await desk.query(lambda: services.dispatch_agent(session=LiveSession.objects.get(pk=session.pk)))
        await spoken
        await desk.until("the answer", lambda: Segment.objects.filter(session=session, text=ANSWERS[TABLE]).exists())
    # The visitor was first, so the answer is the greeting.
    assert matches(await desk.said(session), [("user", TABLE), ("agent", ANSWERS[TABLE])])


@pytest.mark.soak
async def test_a_recogniser_that_fails_costs_a_notice_but_no_words(desk: Desk) -> None:
    def add_dead_server(agent: Agent) -> None:
        dead, address = "openai_compatible", f"http://127.0.0.1:{free_port()}/v1"
        key = ProviderKey.objects.create(project=agent.project, name="dead", base_url=address, provider=dead)
        PipelineStep.objects.filter(agent=agent, kind="stt").update(position=1)
        PipelineStep.objects.create(agent=agent, kind="stt", provider_key=key, options={"model": "any"}, provider=dead)

    agent = await desk.make_agent(greeting="")
    await desk.query(lambda: add_dead_server(agent))
    session = await desk.begin(agent)
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening")
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 2)
        await desk.until("a notice", lambda: session.notices.filter(code="stt_fallback").exists())
    assert matches(said, [("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert "offline_recogniser" not in await desk.notices(session)


async def test_three_rooms_at_once_hold_only_their_own_words(desk: Desk) -> None:
    agent = await desk.make_agent(greeting="")
    sentences = [TABLE, MEETING, PHONE]
    sessions = [await desk.begin(agent) for _ in sentences]
    # Made before anybody talks: while this process makes one, the microphones of the others would falter.
    voices = {sentence: desk.speech(sentence) for sentence in sentences}

    async def talk(session: LiveSession, sentence: str) -> list[tuple[str, str]]:
        async with desk.visitor(session) as visitor:
            await desk.until_agent_is(session, "listening")
            end = await visitor.speak(voices[sentence])
            await visitor.wait_for_sound(end)
            await visitor.wait_until_quiet()
            return await desk.until_said(session, 2)

    heard = await asyncio.gather(*map(talk, sessions, sentences))
    for sentence, said in zip(sentences, heard, strict=True):
        # Three microphones on a machine without time to spare may falter, and a sentence come in two pieces: whose it
        # is, is the point.
        words = " ".join(text for role, text in said if role == "user")
        assert [text for role, text in said if role == "agent"] == [ANSWERS[sentence]]
        assert same_words(words, sentence)
        assert not any(same_words(words, other) for other in sentences if other != sentence)


@pytest.mark.parametrize(
    "metadata",
    [str(uuid.UUID(int=7)), *(pytest.param(each, marks=pytest.mark.soak) for each in ("", "not a session"))],
)
async def test_it_refuses_a_job_without_a_usable_session(desk: Desk, metadata: str) -> None:
    session = await desk.begin(await desk.make_agent(), dispatch=False)
    async with desk.visitor(session) as visitor:
        await rooms.dispatch_agent(session.room_name, metadata=metadata)
        await asyncio.sleep(2)
        assert agents_in(visitor.room) == []
    assert (await desk.session(session)).state == "waiting"
    assert len(desk.stack.workers()) == 1


async def test_an_ordinary_end_looks_like_a_failure_in_nobodys_books(desk: Desk, stack: Stack) -> None:
    before = {name: len(stack.log(name)) for name in ("agent", "media")}

    def ended() -> list[str]:
        return [line for line in stack.log("media")[before["media"] :].splitlines() if "job ended" in line]

    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await desk.end(session)
    await desk.until("the media server's note", ended)
    assert ["JS_SUCCESS" in line for line in ended()] == [True]
    assert " ERROR " not in stack.log("agent")[before["agent"] :]


async def test_its_log_holds_neither_secrets_nor_words(desk: Desk, stack: Stack) -> None:
    """Runs in the middle of conversations like any other: whatever the worker printed so far is looked at."""
    canary = f"sk-canary-{uuid.uuid4().hex}"

    def plant(agent_id: uuid.UUID) -> None:
        agent = Agent.objects.get(pk=agent_id)
        key = ProviderKey(project=agent.project, name="planted", provider="openai")
        key.set_secret(canary)
        key.save()
        PipelineStep.objects.create(
            agent=agent, kind="llm", position=1, provider="openai", provider_key=key, options={"model": "any"}
        )

    agent = await desk.make_agent(greeting="Pineapples are welcome.", instructions="Never mention the zeppelin.")
    await desk.query(lambda: plant(agent.pk))
    session = await desk.begin(agent)
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        end = await visitor.speak(desk.speech(MEETING))
        await visitor.wait_for_sound(end)
        await visitor.wait_until_quiet()
        await type_text(visitor, "do you sell marmalade")
        await desk.until_said(session, 5)
    await desk.query(lambda: services.end_session(session_id=session.pk, reason="ended_by_user"))
    await desk.until("all jobs gone", lambda: not stack.busy_jobs())
    log = stack.log("agent").lower()
    assert "provider" in log or "registered" in log
    secret_names = ("LIVEKIT_API_SECRET", "SECRET_KEY", "MOLTS_FIELD_KEYS")
    for secret in [canary, *(stack.env[name] for name in secret_names)]:
        assert secret.lower() not in log
    for words in ("pineapples", "zeppelin", "marmalade", MEETING, ANSWERS[MEETING].lower()):
        assert words not in log
    stored = (await desk.session(session)).spec
    assert canary not in str(stored)
