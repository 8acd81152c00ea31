"""PocketSphinx as a LiveKit component: the decoder in a child process, one utterance at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from livekit.agents import APIConnectionError, APIConnectOptions, APITimeoutError, LanguageCode, stt, utils
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer

from projects.providers.pocketsphinx.options import KEY
from projects.providers.shared.audio import RECOGNISER_RATE, is_silent, is_steady, mono_16k, pcm16

_CHILD = Path(__file__).with_name("child.py")
_START_SECONDS = 30.0
_PADDING = RECOGNISER_RATE * 3 // 8  # silence before and after; the decoder misses a word at the very edge


class PocketSphinxSTT(stt.STT[Any]):
    """Recognises one utterance at a time, English, lower case without punctuation."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._decoder = Decoder()
        self._starting: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        return "en-us"

    @property
    def provider(self) -> str:
        return KEY

    def prewarm(self) -> None:
        """Start the child in the background (about a second); an error shows up at the first recognition."""
        with contextlib.suppress(RuntimeError):  # no running loop: the first recognition starts it
            self._starting = asyncio.get_running_loop().create_task(self._decoder.start_quietly())

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        samples = await asyncio.to_thread(mono_16k, buffer)
        text, confidence = "", 0.0
        if not is_silent(samples) and not is_steady(samples):  # it finds words in any noise, sure of them
            text, confidence = await self._decoder.recognise(pcm16(np.pad(samples, _PADDING)))
        heard = stt.SpeechData(
            language=LanguageCode("en"), text=text, end_time=samples.size / RECOGNISER_RATE, confidence=confidence
        )
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT, request_id=utils.shortuuid("sphinx_"), alternatives=[heard]
        )

    async def aclose(self) -> None:
        if self._starting is not None:
            await utils.aio.cancel_and_wait(self._starting)
        await self._decoder.aclose()


class Decoder:
    """The child process; one utterance at a time. A child that was left in the middle of one is replaced."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def recognise(self, pcm: bytes) -> tuple[str, float]:
        """Text and confidence (0 to 1) of PCM16 mono 16 kHz."""
        deadline = 10.0 + 4 * len(pcm) / (2 * RECOGNISER_RATE)
        async with self._lock:
            try:
                process = await self._running()
                assert process.stdin is not None
                assert process.stdout is not None
                async with asyncio.timeout(deadline):
                    process.stdin.write(struct.pack("<I", len(pcm)) + pcm)
                    await process.stdin.drain()
                    answer = json.loads(await process.stdout.readline())
                    return str(answer["text"]), float(answer["confidence"])
            except TimeoutError:
                await self._kill()
                raise APITimeoutError("PocketSphinx did not answer in time") from None
            except (OSError, ValueError) as error:
                await self._kill()
                raise APIConnectionError("PocketSphinx stopped") from error
            except asyncio.CancelledError:
                await self._kill()
                raise

    async def start_quietly(self) -> None:
        async with self._lock:
            with contextlib.suppress(OSError, TimeoutError):
                await self._running()

    async def aclose(self) -> None:
        """End the child: it stops by itself when its input ends, and is killed when it does not within 2 s."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 2)
        except TimeoutError:
            await self._kill()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            # -I: the folder of the script must not shadow installed packages with modules of the same name
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert self._process.stdout is not None
            ready = await asyncio.wait_for(self._process.stdout.readline(), _START_SECONDS)
            if ready.strip() != b"ready":
                raise OSError("the decoder did not start")
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
