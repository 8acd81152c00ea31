from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from livekit.agents import llm

from molts.errors import BadConfiguration
from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Persona
from projects.providers.scripted.llm import pieces_of
from projects.providers.scripted.phrases import PHRASES, date_in_words, number_in_words, ordinal_in_words, time_in_words
from projects.providers.scripted.responder import Responder, Said
from projects.providers.scripted.small_talk import Intent, listed, topic_of, understand
from tests.projects.providers.conftest import build

NOON = datetime(2026, 11, 21, 15, 5)
PERSONA = Persona(
    name="Ada",
    greeting="Hello, I am Ada of the harbour office.",
    answers=(
        ("What is the price?", "The price is ten dollars a month."),
        ("What is a video avatar?", "A video avatar is a face that speaks."),
        ("Can I book a table?", "Yes, tell me the day and the hour."),
        ("When are you open?", "We are open from nine to five."),
        ("Where are you?", "We are at the harbour."),
    ),
    knowledge="The harbour was built in 1820. It has three piers. Boats leave every hour.\n\nDogs are welcome.",
)


class Talk:
    """A conversation with a responder."""

    def __init__(self, persona: Persona = PERSONA) -> None:
        self.responder = Responder(persona)
        self.history: list[Said] = []

    def say(self, text: str) -> str:
        self.history.append(Said("user", text))
        answer = self.responder.reply(self.history, NOON)
        self.history.append(Said("assistant", answer))
        return answer


def test_the_recognised_sentences_of_the_demo_get_distinct_answers() -> None:
    answers = [
        Talk().say(text)
        for text in (
            "what is the price",
            "tell me about the video avatar",
            "book a table for two",
            "what is the time please",
            "hello",
            "who are you",
        )
    ]
    assert answers[0] == "The price is ten dollars a month."
    assert answers[1] == "A video avatar is a face that speaks."
    assert answers[2] == "Yes, tell me the day and the hour."
    assert answers[3] == "It is three oh five in the afternoon."
    assert answers[4] == PERSONA.greeting
    assert answers[5] == "I am Ada, a virtual assistant."
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("hello", Intent.GREETING),
        ("good morning", Intent.GREETING),
        ("Hey there!", Intent.GREETING),
        ("how are you", Intent.HOW_ARE_YOU),
        ("hello how are you today", Intent.HOW_ARE_YOU),
        ("thank you", Intent.THANKS),
        ("thanks a lot", Intent.THANKS),
        ("okay thank you very much", Intent.THANKS),
        ("goodbye", Intent.GOODBYE),
        ("thank you goodbye", Intent.GOODBYE),
        ("see you later", Intent.GOODBYE),
        ("who are you", Intent.WHO_ARE_YOU),
        ("what is your name please", Intent.WHO_ARE_YOU),
        ("are you a robot", Intent.ARE_YOU_HUMAN),
        ("am i talking to a real person", Intent.ARE_YOU_HUMAN),
        ("help", Intent.HELP),
        ("can you help me", Intent.HELP),
        ("what can i ask you", Intent.HELP),
        ("again", Intent.REPEAT),
        ("could you repeat that please", Intent.REPEAT),
        ("say that again", Intent.REPEAT),
        ("sorry what did you say", Intent.REPEAT),
        ("I didn't hear you", Intent.REPEAT),
        ("tell me more", Intent.MORE),
        ("more please", Intent.MORE),
        ("go on", Intent.MORE),
        ("what time is it", Intent.TIME),
        ("do you have the time", Intent.TIME),
        ("what is the time please", Intent.TIME),
        ("can you tell me what time it is now", Intent.TIME),
        ("what day is it today", Intent.DATE),
        ("what is the date", Intent.DATE),
        ("yes please", Intent.YES),
        ("no thanks", Intent.NO),
        ("wait a moment", Intent.WAIT),
        ("my name is anna", Intent.NAME),
        ("", Intent.NOTHING),
        ("...", Intent.NOTHING),
        ("what time do you open", None),
        ("book a table for today", None),
        ("do you have time for a meeting", None),
        ("what is the price", None),
        ("tell me more about the avatar", None),
        ("hello what is the price", None),
        ("thanks and what is the price", None),
        ("no i want to cancel", None),
    ],
)
def test_it_recognises_small_talk_and_nothing_else(text: str, intent: Intent | None) -> None:
    assert understand(text).intent == intent


def test_a_greeting_before_a_question_does_not_hide_it() -> None:
    assert Talk().say("hello good morning what is the price please") == "The price is ten dollars a month."


def test_an_answer_of_its_own_goes_before_small_talk() -> None:
    talk = Talk(Persona(name="Ada", answers=(("Who are you?", "I am the voice of the harbour."),)))
    assert talk.say("who are you") == "I am the voice of the harbour."


def test_it_repeats_what_it_said() -> None:
    talk = Talk()
    assert talk.say("say that again") == PHRASES["en"].nothing_to_repeat
    price = talk.say("what is the price")
    assert talk.say("sorry can you say that again") == price
    assert talk.say("again please") == price


def test_more_goes_on_with_the_subject_and_ends_openly() -> None:
    talk = Talk()
    assert talk.say("when was the harbour built") == "The harbour was built in 1820."
    assert talk.say("tell me more") == "It has three piers."
    last = talk.say("more")
    assert last.startswith(PHRASES["en"].no_more)
    assert "I can tell you about" in last


def test_it_reads_a_short_question_together_with_the_one_before() -> None:
    talk = Talk()
    talk.say("can i book a table")
    assert talk.say("and for tomorrow") == "Yes, tell me the day and the hour."


def test_it_joins_a_question_that_a_pause_cut_in_two() -> None:
    responder = Responder(PERSONA)
    history = [Said("user", "what is the"), Said("user", "price")]
    assert responder.reply(history, NOON) == "The price is ten dollars a month."


def test_it_answers_two_questions_at_once() -> None:
    answer = Talk().say("what is the price and when are you open")
    assert answer == "The price is ten dollars a month. We are open from nine to five."


def test_it_says_that_it_does_not_know_and_what_it_does_know() -> None:
    talk = Talk()
    first = talk.say("how old is the moon")
    second = talk.say("how far is the sun")
    assert first.startswith("I do not know that. I can tell you about the price, a video avatar")
    assert second.startswith("I do not know that. I can tell you about the opening hours, where to find us")


def test_it_speaks_first_and_again_after_silence() -> None:
    responder = Responder(PERSONA)
    assert responder.reply([], NOON) == PERSONA.greeting
    assert responder.reply([Said("assistant", "Hello.")], NOON) == PHRASES["en"].still_there


def test_it_works_with_an_empty_persona() -> None:
    talk = Talk(Persona())
    assert talk.say("hello") == PHRASES["en"].hello
    assert talk.say("what is the price") == "I do not know that."
    assert talk.say("what can you do") == PHRASES["en"].go_ahead
    assert talk.say("who are you") == "I am a virtual assistant."


@pytest.mark.parametrize(
    ("language", "hello", "question", "answer"),
    [
        ("de-DE", "Guten Tag", "Was kostet das Zimmer?", "Neunzig Euro."),
        ("fr", "bonjour", "Où est la gare ?", "À côté."),
        ("es", "hola", "¿Dónde está el puerto?", "Allí."),
        ("pl", "hello", "Gdzie jest dworzec?", "Obok."),
    ],
)
def test_it_serves_agents_of_other_languages(language: str, hello: str, question: str, answer: str) -> None:
    talk = Talk(Persona(language=language, answers=((question, answer),)))
    table = PHRASES.get(language[:2], PHRASES["en"])
    assert talk.say(hello) == table.hello
    assert talk.say(question.lower()) == answer
    assert talk.say("xyzzy plugh").startswith(table.unknown)
    assert any(character.isdigit() for character in talk.say("what time is it")) == (language != "pl")


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("What is the price?", "the price"),
        ("How much does it cost?", "the price"),
        ("How much is a room?", "the price of a room"),
        ("How do I reset my password?", "how to reset your password"),
        ("Can I book a table?", "how to book a table"),
        ("Do you have parking?", "parking"),
        ("When are you open?", "the opening hours"),
        ("What is your phone number?", "our phone number"),
        ("I would like to cancel.", "how to cancel"),
        ("Who are you?", ""),
        ("What is this?", ""),
        ("Refunds", "Refunds"),
        ("", ""),
    ],
)
def test_it_turns_questions_into_topics(question: str, topic: str) -> None:
    assert topic_of(question) == topic


def test_lists_are_spoken_lists() -> None:
    assert listed([], "or") == ""
    assert listed(["a"], "or") == "a"
    assert listed(["a", "b", "c"], "or") == "a, b or c"


@pytest.mark.parametrize(
    ("hour", "minute", "sentence"),
    [
        (0, 0, "It is midnight."),
        (0, 5, "It is twelve oh five in the morning."),
        (9, 0, "It is nine o'clock in the morning."),
        (12, 0, "It is noon."),
        (15, 20, "It is three twenty in the afternoon."),
        (18, 45, "It is six forty-five in the evening."),
        (23, 59, "It is eleven fifty-nine at night."),
    ],
)
def test_the_time_is_said_in_words(hour: int, minute: int, sentence: str) -> None:
    assert time_in_words(datetime(2026, 1, 1, hour, minute), "en") == sentence


def test_the_date_is_said_in_words() -> None:
    assert date_in_words(NOON, "en-GB") == "Today is Saturday, the twenty-first of November, twenty twenty-six."
    assert date_in_words(NOON, "de") == "Heute ist der 21.11.2026"
    assert [ordinal_in_words(n) for n in (1, 2, 3, 12, 20, 31)] == [
        "first", "second", "third", "twelfth", "twentieth", "thirty-first",
    ]  # fmt: skip
    assert number_in_words(99) == "ninety-nine"


# --- as a language model of LiveKit -----------------------------------------------------------------------------------


def asked(text: str) -> llm.ChatContext:
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="You are Ada. Be brief.")
    context.add_message(role="user", content=text)
    return context


async def test_it_streams_its_answer_in_pieces_and_reports_usage() -> None:
    model = build("scripted", Kind.LLM, persona=PERSONA)
    metrics: list[Any] = []
    model.on("metrics_collected", metrics.append)

    async with model.chat(chat_ctx=asked("what is the price")) as stream:
        chunks = [chunk async for chunk in stream]

    pieces = [chunk.delta.content for chunk in chunks if chunk.delta]
    assert len(pieces) == 7
    assert "".join(pieces) == "The price is ten dollars a month."
    assert chunks[-1].usage.completion_tokens == 7
    assert chunks[-1].usage.prompt_tokens == 9
    assert metrics[0].completion_tokens == 7
    assert metrics[0].metadata.model_provider == "scripted"


async def test_its_delay_is_per_piece_and_it_can_be_cancelled() -> None:
    model = build("scripted", Kind.LLM, persona=PERSONA, delay_ms=50)
    started = time.perf_counter()
    async with model.chat(chat_ctx=asked("what is the price")) as stream:
        first = await anext(stream)
    assert first.delta.content == "The"
    assert 0.04 < time.perf_counter() - started < 0.3  # closing did not wait for the rest
    assert await model.chat(chat_ctx=asked("what is the price")).collect()
    assert time.perf_counter() - started > 0.35


async def test_many_sessions_do_not_mix() -> None:
    models = [
        build("scripted", Kind.LLM, persona=Persona(answers=(("What is the price?", f"It is {n}."),))) for n in range(5)
    ]
    answers = await asyncio.gather(*(model.chat(chat_ctx=asked("how much is it")).collect() for model in models))
    assert [answer.text for answer in answers] == [f"It is {n}." for n in range(5)]


def test_pieces_are_the_answer_again() -> None:
    text = "  Two  spaces,\na line. "
    assert "".join(pieces_of(text)) == text
    assert pieces_of("") == []


async def test_it_tells_the_time_of_its_zone() -> None:
    model = build("scripted", Kind.LLM, persona=PERSONA, timezone="Asia/Tokyo")
    assert model._now().utcoffset().total_seconds() == 9 * 3600
    with pytest.raises(BadConfiguration, match="timezone"):
        get_provider("scripted").parse_options(Kind.LLM, {"timezone": "Mars/Olympus"})


async def test_it_is_always_ready() -> None:
    provider = get_provider("scripted")
    options = provider.parse_options(Kind.LLM, {})
    assert provider.readiness(Kind.LLM, options).ready
    assert (await provider.probe(Kind.LLM, options=options, credentials=Credentials())).ok
