"""A server's speech on its way into LiveKit: decoded while it comes."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from livekit.agents import tts
from livekit.agents.utils import codecs

from projects.providers.shared.sound import (
    HEAD_BYTES,
    RAW_SAMPLES,
    WAV,
    NoiseGate,
    SoundFormat,
    UnusableSound,
    choose_form,
    decode,
    read_wav,
    recognise,
)

DECODE_SECONDS = 20.0  # for what is left when the last byte has come


class SoundReader:
    """Takes the bytes of one answer and pushes PCM16 to `emitter`, mono, at `rate`. Each method may raise
    UnusableSound; close it on every way out."""

    def __init__(self, emitter: tts.AudioEmitter, *, asked: str, content_type: str, rate: int) -> None:
        self._emitter = emitter
        self._asked = asked
        self._content_type = content_type
        self._rate = rate
        self._head = b""
        self._form: SoundFormat | None = None
        self._left: int | None = None  # bytes of samples in a file that has something else after them
        self._gate = NoiseGate("")
        self._loop = asyncio.get_running_loop()
        self._encoded = codecs.StreamBuffer()
        self._decoded: asyncio.Future[None] = self._loop.create_future()
        self._decoded.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, if ever, here

    def push(self, data: bytes) -> None:
        if self._form is None:
            self._head += data
            if len(self._head) < HEAD_BYTES and recognise(self._head, is_all=False) in (None, WAV):
                return
            data = self._begin()
        self._take(data)

    async def finish(self) -> None:
        """All bytes have come: return when all of them are decoded."""
        if self._form is None:
            if not self._head:
                raise UnusableSound("the server sent no sound")
            self._take(self._begin())
        if self._form is not RAW_SAMPLES:
            self._encoded.end_input()
            try:
                await asyncio.wait_for(asyncio.shield(self._decoded), DECODE_SECONDS)
            except TimeoutError:
                raise UnusableSound(f"the server's sound was not decoded within {DECODE_SECONDS:.0f} s") from None
        self._play(self._gate.end())

    def close(self) -> None:
        self._encoded.close()

    def _begin(self) -> bytes:
        self._form = choose_form(
            self._head[:HEAD_BYTES], asked=self._asked, content_type=self._content_type, rate=self._rate
        )
        self._gate = NoiseGate(self._form.name)
        head, self._head = self._head, b""
        if wav := read_wav(head):
            self._form, self._left, head = wav.form, wav.length, head[wav.start :]
        if self._form is not RAW_SAMPLES:
            # A thread of its own: it waits for bytes most of the time, and the pool's are few.
            threading.Thread(target=self._decode, args=(self._form,), name="sound-decoder", daemon=True).start()
        return head

    def _take(self, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if self._form is RAW_SAMPLES:
            self._play(self._gate.push(data))
            return
        if self._decoded.done():
            self._decoded.result()
        self._encoded.write(data)

    def _play(self, pcm: bytes) -> None:
        if pcm:
            self._emitter.push(pcm)

    def _decode(self, form: SoundFormat) -> None:
        """In the decoder's thread."""
        error: Exception | None = None
        try:
            for pcm in decode(self._file(form), form, self._rate):
                self._in_loop(self._hear, pcm)
        except Exception as raised:  # whatever it is, it is the answer's end
            error = raised
        self._in_loop(self._end, error)

    def _file(self, form: SoundFormat) -> Any:
        if form.streams:
            return self._encoded
        return io.BytesIO(b"".join(iter(partial(self._encoded.read, HEAD_BYTES), b"")))

    def _in_loop(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop has ended, and nobody listens
            self._encoded.close()

    def _hear(self, pcm: bytes) -> None:
        if self._decoded.done():
            return
        try:
            self._play(self._gate.push(pcm))
        except (UnusableSound, RuntimeError) as error:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._decoded.done():
            return
        if error is None:
            self._decoded.set_result(None)
        else:
            self._decoded.set_exception(error)
        self._encoded.close()
