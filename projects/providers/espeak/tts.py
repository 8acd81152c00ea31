"""The espeak-ng voice as a LiveKit component: one child process a sentence, samples passed on as they come."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

from livekit.agents import APIConnectionError, APIConnectOptions, APITimeoutError, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from projects.providers.espeak.options import KEY, EspeakOptions
from projects.providers.espeak.program import MEND, SAMPLE_RATE, default_voice, espeak_command, speakable

_WAV_HEADER_BYTES = 44
_CHUNK_BYTES = 8192


class EspeakTTS(tts.TTS[Any]):
    """Speaks through one child process a sentence. PCM16 mono, 22.05 kHz."""

    def __init__(self, *, options: EspeakOptions, language: str = "en") -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SAMPLE_RATE, num_channels=1)
        self._voice = options.voice or default_voice(language)
        self._command = espeak_command(voice=self._voice, rate=options.rate, pitch=options.pitch)

    @property
    def model(self) -> str:
        return self._voice

    @property
    def provider(self) -> str:
        return KEY

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _EspeakStream(tts=self, input_text=text, conn_options=conn_options, command=self._command)


class _EspeakStream(tts.ChunkedStream):
    def __init__(
        self, *, tts: EspeakTTS, input_text: str, conn_options: APIConnectOptions, command: Sequence[str]
    ) -> None:
        super().__init__(tts=tts, input_text=input_text, conn_options=conn_options)
        self._command = command

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid("espeak_"),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            mime_type="audio/pcm",
            frame_size_ms=50,
        )
        spoken = 0
        async for pcm in _speak(self._command, self._input_text, timeout=self._conn_options.timeout):
            spoken += len(pcm)
            output_emitter.push(pcm)
        if not spoken:  # nothing to pronounce ("..."): a moment of silence, for no audio at all counts as a failure
            output_emitter.push(bytes(SAMPLE_RATE // 20 * 2))


async def _speak(command: Sequence[str], text: str, *, timeout: float) -> AsyncIterator[bytes]:
    """Yield PCM16 chunks of `text`. `timeout` (s) bounds the wait for each chunk. Ends the child on every way out."""
    if not command:
        raise APIConnectionError(f"espeak-ng is not on this machine. {MEND}", retryable=False)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(speakable(text).encode("utf-8", "replace"))
            await asyncio.wait_for(process.stdin.drain(), timeout)
            process.stdin.close()
        header = await _read_header(process.stdout, timeout)
        if header:
            _check_rate(header)
            while chunk := await _read_chunk(process.stdout, timeout):
                yield chunk
        if await asyncio.wait_for(process.wait(), timeout) != 0:
            reason = (await process.stderr.read(400)).decode("utf-8", "replace").strip()
            raise APIConnectionError(f"espeak-ng failed: {reason or process.returncode}", retryable=False)
    except TimeoutError:
        raise APITimeoutError("espeak-ng gave no sound in time") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Not by `wait` alone: it waits for the end of the sound, which nobody reads any more, for ever.
            await process.communicate()


async def _read_chunk(stdout: asyncio.StreamReader, timeout: float) -> bytes:
    """Not by `wait_for`: before Python 3.12 it forgets that it is cancelled when there is something to read, and there
    always is: whoever cancelled had to wait until all of the text was spoken."""
    async with asyncio.timeout(timeout):
        return await stdout.read(_CHUNK_BYTES)


async def _read_header(stdout: asyncio.StreamReader, timeout: float) -> bytes:
    try:
        return await asyncio.wait_for(stdout.readexactly(_WAV_HEADER_BYTES), timeout)
    except asyncio.IncompleteReadError:
        return b""


def _check_rate(header: bytes) -> None:
    """Some voices (MBROLA) speak at another rate than the TTS announced; played as it is, that would be gibberish."""
    rate = struct.unpack_from("<I", header, 24)[0]
    if header[:4] != b"RIFF" or rate != SAMPLE_RATE:
        raise APIConnectionError(f"espeak-ng voice speaks at {rate} Hz, {SAMPLE_RATE} Hz is needed", retryable=False)
