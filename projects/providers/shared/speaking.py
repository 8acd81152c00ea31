"""Speaking one text through a voice, outside a conversation: to listen to it before it is chosen, and for videos."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from molts.errors import MoltsError, Unavailable
from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Persona
from projects.providers.shared.probing import describe, vendor_text

SPEAK_SECONDS = 10.0
_CLOSE_SECONDS = 2.0


async def speak(
    *,
    provider: str,
    options: Mapping[str, Any],
    credentials: Credentials,
    persona: Persona,
    text: str,
    seconds: float = SPEAK_SECONDS,
) -> bytes:
    """`text` as a WAV file, spoken as an agent would speak it. One attempt, no fallback.

    Raises BadConfiguration for options that the provider refuses, and Unavailable with the vendor's own words, or
    when there is no voice within `seconds`.
    """
    chosen = get_provider(provider)
    parsed = chosen.parse_options(Kind.TTS, options)
    await asyncio.to_thread(_import_libraries)
    try:
        async with asyncio.timeout(seconds):
            return await _synthesise(chosen.build_tts(options=parsed, credentials=credentials, persona=persona), text)
    except TimeoutError:
        raise Unavailable(f"{chosen.label} did not speak within {seconds:g} s.") from None
    except MoltsError:
        raise
    except Exception as error:  # whatever a vendor's library raises: what it says is what helps
        raise Unavailable(f"{chosen.label}: {in_words(error)}") from error


def _import_libraries() -> None:
    """Seconds of imports the first time, kept off the event loop.

    LiveKit's plugins themselves want the main thread, where the loop runs; what they stand on is here then.
    """
    import openai  # noqa: F401


async def speak_piece(voice: Any, text: str, *, seconds: float = SPEAK_SECONDS) -> tuple[bytes, int]:
    """(mono samples, int16; their rate in Hz) of `text`, spoken by a component that was built before. One attempt.

    Raises Unavailable with the vendor's own words, or when it is not done within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            frame = await _collect(voice, text, seconds)
    except TimeoutError:
        raise Unavailable(f"It did not speak within {seconds:g} s.") from None
    except MoltsError:
        raise
    except Exception as error:  # whatever a vendor's library raises: what it says is what helps
        raise Unavailable(in_words(error)) from error
    samples = memoryview(frame.data).cast("B").cast("h")
    return samples[:: frame.num_channels].tobytes(), frame.sample_rate


async def _collect(voice: Any, text: str, seconds: float) -> Any:
    from livekit.agents import APIConnectOptions

    once = APIConnectOptions(max_retry=0, timeout=seconds)
    return await voice.synthesize(text, conn_options=once).collect()


async def _synthesise(voice: Any, text: str) -> bytes:
    try:
        wav: bytes = (await _collect(voice, text, SPEAK_SECONDS)).to_wav_bytes()
        return wav
    finally:
        # A vendor that does not let go must not hold the answer back.
        with suppress(Exception):
            await asyncio.wait_for(voice.aclose(), _CLOSE_SECONDS)


def in_words(error: BaseException) -> str:
    """The vendor's own words about what went wrong."""
    status = getattr(error, "status_code", None)
    answered = isinstance(status, int) and status > 0
    return f"{status}: {vendor_text(error)}" if answered else describe(error)  # type: ignore[arg-type]
