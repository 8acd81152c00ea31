"""What is heard, read and told when a part of the agent does not answer: real pipelines, vendors that break at the
network, and an ear instead of a room. Waits are short here; `soak_failures` measures the real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from livekit.agents.llm import ChatContext

from agent_runtime import attendant, local_voice
from agent_runtime.apologies import TABLE, apologies_for, without_apologies
from agent_runtime.local_voice import say_locally, sound_of_trouble
from avatars.languages import CODES
from projects.providers.base import KeyedRung, Kind
from projects.providers.shared.answers import BlockOpening, Thoughts, without_thoughts
from tests.agent_runtime import broken_vendor as broken
from tests.agent_runtime.broken_vendor import ANSWER, AT_ONCE, KEY, SOUNDLESS, BrokenVendor
from tests.agent_runtime.stage import (
    RATE,
    SAYS,
    Stage,
    afar,
    samples_of,
)


# -- the language model ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mood", AT_ONCE)
async def test_a_model_that_fails_is_told_and_asked_again_with_the_next_question(
    vendor: BrokenVendor, mood: str
) -> None:
    async with Stage(llm=(afar(vendor),)) as stage:
        await vendor.be(mood)
        for _ in range(4):  # LiveKit itself would end the session now
            assert await stage.ask() == SAYS.cannot_answer
        assert stage.ear.seconds > 4
        assert stage.told.notices == [("error", "llm_lost")]
        assert stage.told.reasons[0].startswith("OpenAI-compatible server: ")
        assert KEY not in stage.told.reasons[0]
        await vendor.be("well")
        assert await stage.ask() == ANSWER
        assert stage.told.notices == [("error", "llm_lost"), ("info", "llm_back")]
        assert stage.closed == []
    roles = [message["role"] for message in vendor.asked[-1]]
    assert "assistant" not in roles  # the sentence is none of the model's
    assert roles.count("user") == 5


@pytest.mark.parametrize("mood", AT_ONCE)
async def test_a_model_that_fails_or_answers_nothing_is_passed_over(vendor: BrokenVendor, mood: str) -> None:
    await vendor.be(mood)
    rungs = (afar(vendor), KeyedRung("scripted"))
    changes: list[Any] = []
    async with Stage(llm=rungs) as stage:
        stage.pipeline.chains[Kind.LLM].on_change(changes.append)
        assert await stage.ask("Are you open?") == "Yes."
        assert stage.told.notices == []
    assert changes[0].active.provider == "scripted"
    assert changes[0].reason.startswith("OpenAI-compatible server: ")
    assert KEY not in changes[0].reason


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        (broken.REFUSED, "401: Incorrect API key provided: "),
        (broken.LIMITED, "429: You exceeded your current quota"),
        (broken.PAGE, "web page"),
        (broken.DONE, "held no words"),
        (broken.BLANKS, "blanks only"),
        (broken.TOOL, "'search', a tool that the agent does not have"),
    ],
)
async def test_the_reason_is_the_vendors_own(vendor: BrokenVendor, mood: str, reason: str) -> None:
    await vendor.be(mood)
    async with Stage(llm=(afar(vendor),)) as stage:
        await stage.ask()
        assert reason in stage.told.reasons[0]


async def test_when_all_of_several_models_fail_it_is_told_and_recovers(vendor: BrokenVendor) -> None:
    async with Stage(llm=(afar(vendor), afar(vendor))) as stage:
        await vendor.be(broken.REFUSED)
        for _ in range(3):
            assert await stage.ask() == SAYS.cannot_answer
        assert stage.told.notices == [("error", "llm_lost")]
        assert stage.fallbacks == [False, True]  # the second rung took over; then none was left
        await vendor.be("well")
        assert await stage.ask() == ANSWER
        await stage.until(lambda: stage.told.notices[-1] == ("info", "llm_back"))
        assert stage.pipeline.chains[Kind.LLM].active is not None


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mood", [broken.HANGS, broken.HANGS_AFTER_HEADERS])
async def test_while_a_model_hangs_it_is_said_that_it_takes_a_moment_and_then_what_is_wrong(
    vendor: BrokenVendor, mood: str
) -> None:
    await vendor.be(mood)
    async with Stage(llm=(afar(vendor, first_chunk_timeout=1.5),)) as stage:
        assert await stage.ask() == f"{SAYS.one_moment} {SAYS.cannot_answer}"
        assert "sent nothing for 1.5 s" in stage.told.reasons[0]


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_takes_its_time_answers(vendor: BrokenVendor) -> None:
    vendor.slow_seconds = 2.0
    await vendor.be(broken.SLOW)
    async with Stage(llm=(afar(vendor),)) as stage:
        assert await stage.ask() == f"{SAYS.one_moment} {ANSWER}"
        assert stage.told.notices == []
        await vendor.be("well")
        assert await stage.ask() == ANSWER
    assert [message["content"] for message in vendor.asked[-1] if message["role"] == "assistant"] == [ANSWER]


def test_a_model_may_take_longer_than_twelve_seconds() -> None:
    from projects.providers.openai_compatible.options import LLMOptions

    assert LLMOptions().first_chunk_timeout > 12


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mood", [broken.CUT, broken.HANGS_MIDWAY])
async def test_an_answer_that_breaks_off_is_told_as_such(vendor: BrokenVendor, mood: str) -> None:
    await vendor.be(mood)
    async with Stage(llm=(afar(vendor, first_chunk_timeout=2.0), KeyedRung("scripted"))) as stage:
        said = await stage.ask()
        assert said.startswith("The train")
        assert said.endswith(SAYS.broke_off)
        assert (SAYS.one_moment in said) == (mood == broken.HANGS_MIDWAY)


async def test_thoughts_are_never_spoken(vendor: BrokenVendor) -> None:
    async with Stage(llm=(afar(vendor),)) as stage:
        for pieces in (
            ["<think>", "secret", "</think>", ANSWER],
            ["<thi", "nk>sec", "ret</thi", "nk>\n\n", ANSWER],
            ["<Thinking>secret</Thinking>", ANSWER],
            ["<reaso", "ning>", "secret", "</reason", "ing>", ANSWER],
            [ANSWER, " <thought>secret"],
        ):
            vendor.answer = pieces
            assert await stage.ask() == ANSWER
    for pieces in (
        ["They ask for the train.", "</think>", ANSWER],
        ["They ask for the ", "train.</th", "ink>\n\n", ANSWER],
    ):
        async with Stage(llm=(afar(vendor),)) as stage:
            vendor.answer = pieces
            assert without_thoughts(await stage.ask()).strip() == ANSWER  # heard, and no part of what is kept
            assert await stage.ask() == ANSWER  # now it is known
            assert [line["content"] for line in vendor.asked[-1] if line["role"] == "assistant"] == [ANSWER]
            vendor.answer = ["They ask for", " the train."]  # and was cut before its end
            assert await stage.ask() == SAYS.cannot_answer
    for model in ("deepseek-r1:8b", "Qwen3-30B-A3B-Thinking-2507", "QwQ-32B"):
        async with Stage(llm=(afar(vendor, model=model),)) as stage:
            vendor.answer = ["They ask for", " the train.</think>", ANSWER]
            assert await stage.ask() == ANSWER
        async with Stage(llm=(afar(vendor, model=model),)) as stage:
            vendor.answer = [ANSWER]  # the server takes thoughts out by itself
            assert await stage.ask() == ANSWER
    vendor.answer = ["Is 3 <", " 4? Yes: 3 < 4, and <b>."]
    async with Stage(llm=(afar(vendor),)) as stage:
        assert await stage.ask() == "Is 3 < 4? Yes: 3 < 4, and <b>."


async def test_an_answer_is_not_held_back_where_thoughts_come_apart(vendor: BrokenVendor) -> None:
    vendor.thoughts = ["They ask", " for the train."]
    async with Stage(llm=(afar(vendor, model="deepseek-r1:8b", first_chunk_timeout=2.0),)) as stage:
        await vendor.be(broken.HANGS_MIDWAY)  # after two words
        assert (await stage.ask()).startswith("The train")
        await vendor.be("well")
        assert await stage.ask() == ANSWER


def test_an_ordinary_answer_is_waited_for_by_no_letter() -> None:
    thoughts = Thoughts()
    pieces = ["We ", "open ", "at 3 < 4 ", "o'clock."]
    assert [thoughts.strip(piece) for piece in pieces] == pieces
    assert thoughts.rest() == ""
    assert thoughts.opens() is BlockOpening.NO


# -- what cannot even begin --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "last"), [("stt", KeyedRung("pocketsphinx")), ("llm", KeyedRung("scripted")), ("tts", KeyedRung("espeak"))]
)
async def test_a_rung_that_cannot_begin_is_told_as_a_fallback(kind: str, last: KeyedRung) -> None:
    without_address = KeyedRung("openai_compatible", {"model": "m"})
    stage = Stage(**{kind: (without_address, last)})
    try:
        assert stage.told.notices == [("warning", f"{kind}_fallback")]
        assert stage.told.reasons[0].startswith("OpenAI-compatible server: OpenAI-compatible server needs a base URL")
    finally:
        await stage.pipeline.aclose()


async def test_a_reserve_that_cannot_begin_is_no_fallback() -> None:
    stage = Stage(llm=(KeyedRung("scripted"), KeyedRung("openai_compatible", {"model": "m"})))
    try:
        assert stage.told.notices == []
    finally:
        await stage.pipeline.aclose()


# -- the recogniser ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mood", SOUNDLESS)
async def test_it_says_that_it_cannot_hear(vendor: BrokenVendor, mood: str) -> None:
    question = np.concatenate([await samples_of("When does the train leave?"), np.zeros(2 * RATE, np.int16)])
    async with Stage(stt=(afar(vendor),)) as stage:
        await vendor.be(mood)
        for number in range(4):
            stage.microphone.say(question)
            await stage.until_said(number + 1)
        assert set(stage.said) == {SAYS.cannot_hear}
        assert stage.told.notices == [("error", "stt_lost")]
        assert stage.told.reasons[0].startswith("OpenAI-compatible server: ")
        assert KEY not in stage.told.reasons[0]
        await vendor.be("well")
        stage.microphone.say(question)
        await stage.until(lambda: stage.told.notices[-1] == ("info", "stt_back"))
        assert stage.closed == []


@pytest.mark.usefixtures("hasty")
async def test_while_a_recogniser_hangs_it_says_that_it_takes_a_moment(vendor: BrokenVendor) -> None:
    question = np.concatenate([await samples_of("When does the train leave?"), np.zeros(2 * RATE, np.int16)])
    await vendor.be(broken.HANGS)
    async with Stage(stt=(afar(vendor, timeout=2.0),)) as stage:
        stage.microphone.say(question)
        await stage.until_said(2)
        assert stage.said == [SAYS.one_moment, SAYS.cannot_hear]


@pytest.mark.usefixtures("hasty")
async def test_what_is_wrong_is_said_even_right_after_one_moment(
    vendor: BrokenVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendant, "WORDS_SECONDS", 1.9)  # it is being said when the recogniser gives up
    question = np.concatenate([await samples_of("When does the train leave?"), np.zeros(2 * RATE, np.int16)])
    await vendor.be(broken.HANGS)
    async with Stage(stt=(afar(vendor, timeout=2.0),)) as stage:
        stage.microphone.say(question)
        await stage.until_said(2)
        assert stage.said == [SAYS.one_moment, SAYS.cannot_hear]


# -- the sentences -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", CODES)
def test_every_language_of_an_agent_has_sentences_of_its_own(code: str) -> None:
    says = apologies_for(code)
    assert (says == SAYS) == code.startswith("en")


def test_no_sentence_stands_in_another() -> None:
    """Else taking one out of what was said would leave half of another."""
    for sentences in TABLE.values():
        assert len(sentences) == 5
        for one in sentences:
            assert not any(one in other for other in sentences if other is not one)


def test_a_model_is_not_given_the_sentences_as_its_own() -> None:
    context = ChatContext.empty()
    context.add_message(role="system", content=SAYS.one_moment)
    for role, text in (
        ("user", SAYS.one_moment),
        ("assistant", SAYS.cannot_answer),
        ("assistant", f"{SAYS.one_moment} We open at nine. {SAYS.broke_off}"),
        ("assistant", "You are welcome."),
    ):
        context.add_message(role=role, content=text)  # type: ignore[arg-type]
    kept = [(message.role, message.text_content) for message in without_apologies(context, SAYS).messages()]
    assert kept == [
        ("system", SAYS.one_moment),
        ("user", SAYS.one_moment),
        ("assistant", "We open at nine."),
        ("assistant", "You are welcome."),
    ]
    assert len(context.items) == 5


async def test_the_local_voice_speaks_at_the_rate_it_is_asked_for() -> None:
    for rate in (16_000, 24_000, 48_000):
        frames = [frame async for frame in say_locally("One moment.", language="de", rate=rate)]
        assert {frame.sample_rate for frame in frames} == {rate}
        assert 0.4 < sum(frame.duration for frame in frames) < 3


async def test_a_language_without_a_voice_gets_the_sound() -> None:
    (frame,) = [frame async for frame in say_locally("One moment.", language="tlh-x", rate=RATE)]
    assert frame.data == sound_of_trouble(RATE).data
    assert local_voice.is_ready()
