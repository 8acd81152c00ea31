"""Speaking one text outside a conversation, through the real espeak-ng and a vendor on loopback."""

from __future__ import annotations

import io
import time
import wave

import pytest

from molts.errors import BadConfiguration, Unavailable
from projects.providers.base import Credentials, Persona
from projects.providers.shared.speaking import speak
from tests.projects.providers.conftest import FakeVendor

KEY = "sk-canary-1234567890"


def seconds_of(data: bytes) -> float:
    with wave.open(io.BytesIO(data)) as file:
        return int(file.getnframes()) / int(file.getframerate())


async def say(
    vendor: FakeVendor | None = None, *, provider: str = "openai", seconds: float = 10, text: str = "Hi."
) -> bytes:
    credentials = Credentials(api_key=KEY, base_url=vendor.url) if vendor else Credentials()
    return await speak(
        provider=provider,
        options={},
        credentials=credentials,
        persona=Persona(language="en"),
        text=text,
        seconds=seconds,
    )


async def test_it_gives_a_wav_of_what_a_local_voice_says() -> None:
    short, long = await say(provider="espeak"), await say(provider="espeak", text="One two three four five six seven.")

    assert 0.1 < seconds_of(short) < seconds_of(long) < 6


async def test_it_gives_a_wav_of_what_a_vendor_says(vendor: FakeVendor) -> None:
    vendor.audio, vendor.audio_type = bytes(2 * 24_000), "audio/pcm"

    assert seconds_of(await say(vendor)) == pytest.approx(1.0, abs=0.1)
    assert vendor.bodies[0]["input"] == "Hi."


@pytest.mark.parametrize(
    ("mood", "words"), [("refuse", "401: Incorrect API key provided"), ("busy", "429: Rate limit reached.")]
)
async def test_it_says_what_the_vendor_said_and_asks_once(vendor: FakeVendor, mood: str, words: str) -> None:
    vendor.mood = mood

    with pytest.raises(Unavailable) as caught:
        await say(vendor)

    assert words in caught.value.detail
    assert KEY not in caught.value.detail
    assert len(vendor.requests) == 1


async def test_it_refuses_a_text_in_place_of_sound(vendor: FakeVendor) -> None:
    vendor.mood = "wrong_json"

    with pytest.raises(Unavailable, match="JSON instead of audio"):
        await say(vendor)


async def test_it_waits_no_longer_than_its_deadline(vendor: FakeVendor) -> None:
    vendor.mood = "hang"
    started = time.monotonic()

    with pytest.raises(Unavailable, match=r"did not speak within 0\.5 s"):
        await say(vendor, seconds=0.5)

    assert time.monotonic() - started < 4


async def test_it_refuses_wrong_options_before_it_speaks() -> None:
    with pytest.raises(BadConfiguration, match="rate"):
        await speak(provider="espeak", options={"rate": 1}, credentials=Credentials(), persona=Persona(), text="Hi.")
