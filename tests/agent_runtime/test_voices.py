"""What is heard, read and told when a voice does not begin, breaks off, or comes back. Waits are short here;
`soak_failures` measures the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString

from agent_runtime import local_voice
from agent_runtime.local_voice import sound_of_trouble
from agent_runtime.spoken import Spoken, Words
from projects.providers.base import KeyedRung, Kind
from projects.providers.chains import AvailabilityChange
from tests.agent_runtime import broken_vendor as broken
from tests.agent_runtime.broken_vendor import KEY, SOUNDLESS, BrokenVendor
from tests.agent_runtime.stage import (
    PARTS,
    PATIENCE,
    RATE,
    SAYS,
    Mouth,
    Stage,
    afar,
    plainly,
    samples_of,
    speaking,
    spoken,
)


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
        assert stage.told.notices == [("warning", "tts_lost")]
        assert stage.told.reasons[0].startswith("OpenAI-compatible server: ")


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
        assert stage.told.notices == [("warning", "tts_lost")] * 2  # for another reason
        assert "401" in stage.told.reasons[0]


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
        assert stage.told.notices == [("warning", "tts_lost")]


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed"), OSError("no such program"), APIConnectionError()])
async def test_whatever_a_voice_breaks_off_with_the_next_one_says_the_rest(error: Exception) -> None:
    def breaks(text: str, number: int) -> list[float | Exception]:
        return [len(text) / 28, error] if "second" in text else plainly(text, number)

    async with speaking(Mouth(breaks), other := Mouth(plainly)) as speaker:
        await speaker.say(" ".join(PARTS))
        assert other.said[-1].endswith(PARTS[2])
        assert speaker.told.asides == []
        assert speaker.chain.active is speaker.chain.rungs[1]


async def test_the_last_voice_that_breaks_off_is_told_whatever_its_error() -> None:
    def breaks(text: str, number: int) -> list[float | Exception]:
        return [len(text) / 28, OSError("no such program")]

    async with speaking(Mouth(breaks), Mouth(breaks)) as speaker:
        await speaker.say(" ".join(PARTS))
        assert speaker.told.asides == [SAYS.broke_off]
        assert speaker.told.notices == [("warning", "tts_lost")]
        assert speaker.chain.active is None


async def test_a_late_failure_of_a_voice_that_is_tried_beside_counts_against_no_other_text() -> None:
    """All were lost; the first speaks again, while what was tried with the text before fails."""
    first = Mouth(lambda text, number: [APIConnectionError()])
    async with speaking(first, Mouth(lambda text, number: [APIConnectionError()])) as speaker:
        await speaker.say(PARTS[0])
        assert speaker.told.asides == [SAYS.cannot_speak]

        def speaks(text: str, number: int) -> list[float | Exception]:
            first.emit("error", SimpleNamespace(error=APIConnectionError()))
            return plainly(text, number)

        first.speaks = speaks
        assert await speaker.say(" ".join(PARTS)) > 8
        assert speaker.told.asides == [SAYS.cannot_speak]
        assert speaker.told.notices[-1] == ("info", "tts_back")
        assert speaker.chain.active is speaker.chain.rungs[0]


async def test_a_voice_that_fails_while_one_moment_is_said_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(text: str, number: int) -> list[float | Exception]:
        return [0.3, APIConnectionError()]

    async with speaking(Mouth(breaks), other := Mouth(plainly)) as speaker:
        await speaker.say(" ".join(PARTS))
        assert " ".join(other.said).endswith(PARTS[2])


async def test_a_pace_is_kept_for_the_voice_that_spoke() -> None:
    slow, quick = Mouth(lambda text, number: [APIConnectionError()]), Mouth(lambda text, number: [len(text) / 20])
    async with speaking(slow, quick) as speaker:
        await speaker.say(" ".join(PARTS))
        await speaker.say(" ".join(PARTS))
        assert speaker.attendant._paces == {1: pytest.approx(20, rel=0.1)}


@pytest.mark.parametrize("letters_a_second", [11, 14, 15, 17])
async def test_a_voice_that_fails_after_its_last_word_is_not_told(letters_a_second: int) -> None:
    async def voice(text: AsyncIterable[str]) -> AsyncIterator[rtc.AudioFrame]:
        said = "".join([piece async for piece in text])
        samples = int(len(said) / letters_a_second * RATE)
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
    for text, seconds in (
        (PARTS[1], 4.3),
        ("Музей открывается каждый день ровно в девять часов утра.", 4.0),
        ("博物馆每天早上九点准时开门。欢迎大家来参观。", 4.4),
    ):
        spoken = Spoken()
        spoken.note(rtc.AudioFrame(bytes(int(RATE * seconds / 2) * 2), RATE, 1, int(RATE * seconds / 2)))
        assert 0.35 < spoken.rest_of(text) / len(text) < 0.65


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
