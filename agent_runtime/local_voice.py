"""A voice for the few sentences that must be heard when no other voice speaks, and a sound for when it is missing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions

from projects.providers import last_resort
from projects.providers.base import Credentials, Kind, Persona

logger = logging.getLogger(__name__)

VOICE_SECONDS = 3.0  # for each piece of sound
_NOTES = ((660.0, 0.18), (0.0, 0.06), (495.0, 0.32))  # hertz, seconds: two notes, falling
_LOUDNESS = 6_000
_FADE_SECONDS = 0.02


def is_ready() -> bool:
    provider = last_resort(Kind.TTS)
    return provider.readiness(Kind.TTS, provider.parse_options(Kind.TTS, {})).ready


async def say_locally(text: str, *, language: str, rate: int) -> AsyncGenerator[rtc.AudioFrame, None]:
    """`text` at `rate` hertz by this machine's simplest voice; the sound of trouble where it cannot speak."""
    heard = False
    try:
        async with contextlib.aclosing(_speak(text, language, rate)) as frames:
            async for frame in frames:
                heard = True
                yield frame
    except Exception as error:
        logger.warning("the local voice failed", extra={"error": str(error)[:200]})
    if not heard:
        yield sound_of_trouble(rate)


async def _speak(text: str, language: str, rate: int) -> AsyncGenerator[rtc.AudioFrame, None]:
    provider = last_resort(Kind.TTS)
    options = provider.parse_options(Kind.TTS, {})
    voice = provider.build_tts(options=options, credentials=Credentials(), persona=Persona(language=language))
    resampler = rtc.AudioResampler(voice.sample_rate, rate) if voice.sample_rate != rate else None
    once = APIConnectOptions(max_retry=0, timeout=VOICE_SECONDS)
    async with voice, voice.synthesize(text, conn_options=once) as speech:
        async for piece in speech:
            for frame in resampler.push(piece.frame) if resampler else [piece.frame]:
                yield frame
    for frame in resampler.flush() if resampler else []:
        yield frame


def sound_of_trouble(rate: int) -> rtc.AudioFrame:
    """Two falling notes: heard as "something is wrong" in any language."""
    notes = [_note(hertz, seconds, rate) for hertz, seconds in _NOTES]
    samples = np.concatenate(notes).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), rate, 1, len(samples))


def _note(hertz: float, seconds: float, rate: int) -> np.ndarray:
    count, fade = int(seconds * rate), int(_FADE_SECONDS * rate)
    loudness = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / fade)
    note: np.ndarray = _LOUDNESS * loudness * np.sin(2 * np.pi * hertz * np.arange(count) / rate)
    return note
