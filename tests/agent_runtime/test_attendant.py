"""What is heard, read and told when a part of the agent does not answer: real pipelines, vendors that break at the
network, and an ear instead of a room. Waits are short here; `soak_failures` measures the real ones."""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents import APIConnectionError, ConversationItemAddedEvent
from livekit.agents.llm import ChatContext, ChatMessage
from livekit.agents.stt import STTError
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString
from livekit.agents.voice.events import CloseEvent, ErrorEvent
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from pytest_django import Settings

from agent_runtime import attendant, local_voice
from agent_runtime.apologies import TABLE, apologies_for, without_apologies
from agent_runtime.local_voice import say_locally, sound_of_trouble
from agent_runtime.pipeline import build_pipeline, load_vad
from agent_runtime.spoken import TYPICAL_PACE, Spoken, Words
from avatars.languages import CODES
from projects.providers.base import Credentials, KeyedRung, Kind
from projects.providers.chains import AvailabilityChange
from projects.providers.shared.answers import BlockOpening, Thoughts, without_thoughts
from projects.providers.shared.sentences import spoken_length
from tests.agent_runtime import broken_vendor as broken
from tests.agent_runtime.broken_vendor import ANSWER, AT_ONCE, KEY, SOUNDLESS, BrokenVendor
from tests.agent_runtime.test_pipeline import LOCAL, PERSONA, make_spec

SAYS = apologies_for("en")
RATE = 24_000
PATIENCE = 60.0


class Ear(AudioOutput):
    """Hears everything at once."""

    def __init__(self) -> None:
        super().__init__(label="ear", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.seconds = 0.0
        self._segment = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._segment:
            self.on_playback_started(created_at=time.time())
        if np.frombuffer(frame.data, dtype=np.int16).any():
            self.seconds += frame.duration
        self._segment += frame.duration

    def flush(self) -> None:
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        self._finish(interrupted=True)

    def _finish(self, *, interrupted: bool) -> None:
        if self._segment:
            self.on_playback_finished(playback_position=self._segment, interrupted=interrupted)
        self._segment = 0.0


class Microphone(AudioInput):
    """Gives out what is put into it, in pieces of 20 ms, as fast as it is taken."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def say(self, samples: np.ndarray) -> None:
        step = RATE // 50
        for start in range(0, len(samples) - step, step):
            self._frames.put_nowait(rtc.AudioFrame(samples[start : start + step].tobytes(), RATE, 1, step))

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


@dataclass
class Told:
    """What the visitor and the admin were told."""

    notices: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)

    def notice(self, *, level: str, code: str, text: str, once: bool = False, reason: str = "") -> None:
        self.notices.append((level, code))
        self.reasons.append(reason)

    def note_aside(self, text: str) -> None:
        self.asides.append(text)


class Stage:
    """A conversation without a room."""

    def __init__(self, **chains: tuple[KeyedRung, ...]) -> None:
        self.told, self.ear, self.microphone = Told(), Ear(), Microphone()
        kinds = {Kind(kind): rungs for kind, rungs in chains.items()}
        spec = make_spec(chains={**LOCAL, **kinds}, persona=replace(PERSONA, greeting=""))
        self.pipeline = build_pipeline(spec, vad=load_vad(), teller=self.told)
        self.session = self.pipeline.session
        self.said: list[str] = []
        self.fallbacks: list[bool] = []
        self.closed: list[CloseEvent] = []

    async def __aenter__(self) -> Stage:
        for chain in self.pipeline.chains.values():
            chain.on_change(lambda change: self.fallbacks.append(self.pipeline.attendant.takes(change)))
        self.session.output.audio = self.ear
        self.session.input.audio = self.microphone
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("close", self.closed.append)
        self.session.on("error", self._on_error)
        await self.session.start(self.pipeline.agent, record=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.aclose()
        await self.pipeline.aclose()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if isinstance(event.item, ChatMessage) and event.item.role == "assistant":
            self.said.append((event.item.text_content or "").strip())

    def _on_error(self, event: ErrorEvent) -> None:
        if isinstance(event.error, STTError) and not event.error.recoverable:
            self.pipeline.attendant.could_not_hear()

    async def ask(self, text: str = "When does the train leave?") -> str:
        """What the agent says to it."""
        self.pipeline.attendant.note_asked()
        before = len(self.said)
        await asyncio.wait_for(self.session.generate_reply(user_input=text), PATIENCE)
        await self.until(lambda: len(self.said) > before)
        return self.said[-1]

    async def say(self, text: str) -> None:
        await asyncio.wait_for(self.session.say(text), PATIENCE)

    async def until_said(self, count: int) -> None:
        await self.until(lambda: len(self.said) >= count)

    async def until(self, check: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not check():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def vendor(settings: Settings) -> AsyncIterator[BrokenVendor]:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    vendor = BrokenVendor()
    await vendor.start()
    vendor.audio = await spoken(ANSWER)
    yield vendor
    await vendor.stop()


@pytest_asyncio.fixture
async def other(vendor: BrokenVendor) -> AsyncIterator[BrokenVendor]:
    """A second vendor."""
    other = BrokenVendor()
    await other.start()
    other.audio = vendor.audio
    yield other
    await other.stop()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "One moment" comes soon."""
    monkeypatch.setattr(attendant, "WORDS_SECONDS", 0.3)
    monkeypatch.setattr(attendant, "SOUND_SECONDS", 0.3)
    monkeypatch.setattr(attendant, "VOICE_SECONDS", 0.3)
    monkeypatch.setattr(attendant, "PAUSE_SECONDS", 0.1)


async def samples_of(text: str) -> np.ndarray:
    frames = [frame async for frame in say_locally(text, language="en", rate=RATE)]
    return np.concatenate([np.frombuffer(frame.data, dtype=np.int16) for frame in frames])


async def spoken(text: str) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((await samples_of(text)).tobytes())
    return file.getvalue()


def afar(vendor: BrokenVendor, **options: Any) -> KeyedRung:
    credentials = Credentials(api_key=KEY, base_url=vendor.url)
    return KeyedRung("openai_compatible", {"model": "m", **options}, credentials)


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


# -- the voice ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mood", SOUNDLESS)
async def test_a_local_voice_speaks_when_no_other_does(vendor: BrokenVendor, mood: str) -> None:
    async with Stage(tts=(afar(vendor),)) as stage:
        await vendor.be(mood)
        await stage.say("Hello there, I am Ada.")
        assert stage.told.asides == [SAYS.cannot_speak]
        assert stage.told.notices == [("warning", "tts_lost")]
        assert KEY not in stage.told.reasons[0]
        both = (len(await samples_of(SAYS.cannot_speak)) + len(await samples_of("Hello there, I am Ada."))) / RATE
        assert stage.ear.seconds > 0.7 * both
        assert await stage.ask("Are you open?") == "Yes."
        assert stage.told.asides == [SAYS.cannot_speak]  # once
        await vendor.be("well")
        await stage.say("Are you there?")  # it is tried beside, and is back for the next
        await stage.until(lambda: stage.told.notices[-1] == ("info", "tts_back"))
        assert stage.said == ["Hello there, I am Ada.", "Yes.", "Are you there?"]
        assert stage.closed == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mood", [broken.HANGS, broken.HANGS_AFTER_HEADERS])
async def test_while_a_voice_hangs_another_says_that_it_takes_a_moment(vendor: BrokenVendor, mood: str) -> None:
    await vendor.be(mood)
    async with Stage(tts=(afar(vendor, first_audio_timeout=1.5),)) as stage:
        await stage.say("Hello there.")
        assert stage.told.asides == [SAYS.one_moment, SAYS.cannot_speak]
        assert stage.said == ["Hello there."]


async def test_a_sound_is_heard_when_no_voice_works(vendor: BrokenVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("projects.providers.espeak.program.importlib.util.find_spec", lambda name: None)
    await vendor.be(broken.DEAD)
    async with Stage(tts=(afar(vendor),)) as stage:
        for _ in range(4):
            await stage.say("Hello there.")
        assert stage.ear.seconds == pytest.approx(4 * sound_of_trouble(RATE).duration, abs=0.1)
        assert stage.told.asides == [SAYS.cannot_speak] * 4
        assert stage.said == ["Hello there."] * 4  # to be read
        assert stage.told.notices == [("warning", "tts_lost")]
        assert stage.closed == []


PARTS = (
    "The museum opens at nine every day.",
    "The second picture was painted in a small house by the sea.",
    "After that we go upstairs to the library.",
)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mood", [broken.CUT, broken.HANGS_MIDWAY])
async def test_what_a_voice_leaves_the_next_one_says(vendor: BrokenVendor, other: BrokenVendor, mood: str) -> None:
    text = " ".join(PARTS)
    vendor.recordings, vendor.breaks_at = {part: await spoken(part) for part in PARTS}, "second"
    await vendor.be(mood)
    async with Stage(tts=(afar(vendor, first_audio_timeout=8), afar(other))) as stage:
        await stage.say(text)
        assert vendor.spoken[:2] == list(PARTS[:2])  # whatever is tried beside, unheard
        rest = " ".join(other.spoken)
        left = rest.removesuffix(PARTS[2]).split()
        assert rest.endswith(PARTS[2])
        assert other.spoken.count(PARTS[2]) == 1
        words = PARTS[1].split()
        assert left == words[-len(left) :]
        assert 4 <= len(left) <= 8  # it broke off after half of the twelve
        assert set(stage.told.asides) <= {SAYS.one_moment}
        assert stage.told.asides or mood == broken.CUT  # the next one is asked at once after a cut
        assert stage.fallbacks == [False]  # told as a fallback, with its reason
        assert stage.said == [text]
        assert stage.closed == []


@pytest.mark.usefixtures("hasty")
async def test_a_voice_that_only_pauses_goes_on(vendor: BrokenVendor, other: BrokenVendor) -> None:
    vendor.breaks_at, vendor.recordings = "second", {part: await spoken(part) for part in PARTS}
    await vendor.be(broken.PAUSES)
    async with Stage(tts=(afar(vendor), afar(other))) as stage:
        await stage.say(" ".join(PARTS))
        assert vendor.spoken == list(PARTS)
        assert other.spoken == []
        assert stage.fallbacks == []


async def test_a_spare_voice_says_what_the_only_one_leaves(vendor: BrokenVendor) -> None:
    await vendor.be(broken.CUT)
    async with Stage(tts=(afar(vendor),)) as stage:
        await stage.say(" ".join(PARTS))
        assert stage.told.asides == [SAYS.cannot_speak]
        assert stage.told.notices == [("warning", "tts_lost")]
        assert stage.said == [" ".join(PARTS)]


async def test_when_the_last_voice_breaks_off_it_is_told_as_such(
    vendor: BrokenVendor, other: BrokenVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_voice, "is_ready", lambda: False)
    await vendor.be(broken.CUT)
    await other.be(broken.CUT)
    async with Stage(tts=(afar(vendor), afar(other))) as stage:
        await stage.say(" ".join(PARTS))
        assert vendor.spoken[0] == PARTS[0]
        assert len(other.spoken) == 1
        assert stage.told.asides == [SAYS.broke_off]


async def test_a_voice_that_breaks_off_when_none_was_left_is_told_and_stays_lost(
    vendor: BrokenVendor, other: BrokenVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_voice, "is_ready", lambda: False)
    for each in (vendor, other):
        await each.be(broken.REFUSED)
    async with Stage(tts=(afar(vendor), afar(other))) as stage:
        await stage.say(PARTS[0])
        await vendor.be(broken.CUT)
        await stage.say(" ".join(PARTS))
        assert stage.told.asides == [SAYS.cannot_speak, SAYS.broke_off]
        assert stage.pipeline.chains[Kind.TTS].active is None
        assert stage.told.notices == [("warning", "tts_lost")]


async def test_voices_that_break_off_in_turn_do_not_leave_a_silence(
    vendor: BrokenVendor, other: BrokenVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is taken for recovered meanwhile, and each has had its turn."""
    monkeypatch.setattr(local_voice, "is_ready", lambda: False)
    for each in (vendor, other):
        await each.be(broken.CUT)
    async with Stage(tts=(afar(vendor), afar(other))) as stage:
        chain = stage.pipeline.chains[Kind.TTS]

        def take_back_the_first(change: AvailabilityChange) -> None:
            if change.active is None:
                chain._down.discard(chain.rungs[0].index)

        chain.on_change(take_back_the_first)
        await stage.say(" ".join(PARTS))
        assert len(other.spoken) == 1
        assert stage.told.asides == [SAYS.broke_off]


async def test_a_voice_that_fails_after_its_last_word_is_not_told() -> None:
    async def voice(text: AsyncIterable[str]) -> AsyncIterator[rtc.AudioFrame]:
        said = "".join([piece async for piece in text])
        samples = 3 * RATE
        frame = rtc.AudioFrame(bytes(samples * 2), RATE, 1, samples)
        frame.userdata[USERDATA_TIMED_TRANSCRIPT] = [TimedString(said, start_time=0.0)]
        yield frame
        raise APIConnectionError("closed without a farewell")

    async def text() -> AsyncIterator[str]:
        yield PARTS[0]

    async with Stage(tts=(KeyedRung("espeak"),)) as stage:
        frames = [frame async for frame in stage.pipeline.attendant.speak(text(), voice)]
        assert len(frames) == 1
        assert stage.told.asides == []


async def test_a_text_that_fails_is_spoken_to_where_it_came() -> None:
    async def source() -> AsyncIterator[str]:
        yield "One two "
        raise RuntimeError("a filter of the text broke")

    words = Words(source())
    async with asyncio.timeout(PATIENCE):
        assert "".join([piece async for piece in words.after(0)]) == "One two "
    assert words.is_whole
    await words.aclose()


def test_the_pace_is_the_scripts_own() -> None:
    """Said for half of its time, a voice stands in the middle, in whatever script."""
    for text in (PARTS[1], "Музей открывается каждый день ровно в девять часов утра."):
        spoken = Spoken()
        samples = int(RATE * spoken_length(text) / TYPICAL_PACE / 2)
        spoken.note(rtc.AudioFrame(bytes(samples * 2), RATE, 1, samples))
        assert spoken.rest_of(text) == pytest.approx(len(text) / 2, abs=12)


async def test_a_text_can_be_gone_on_with_while_it_is_written() -> None:
    written: asyncio.Queue[str | None] = asyncio.Queue()

    async def source() -> AsyncIterator[str]:
        while (piece := await written.get()) is not None:
            yield piece

    words = Words(source())
    written.put_nowait("One two ")
    first = words.after(0)
    assert await anext(first) == "One two "
    await first.aclose()  # type: ignore[attr-defined]
    written.put_nowait("three.")
    written.put_nowait(None)
    assert "".join([piece async for piece in words.after(4)]) == "two three."
    await words.aclose()


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
