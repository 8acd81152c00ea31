"""Any common sound file as 16 kHz mono samples, in chunks and in bounded memory.

The work is done by a child process (`decode_child`); the pipe between the two holds it back when nobody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent_runtime.speech.transcript import SAMPLE_RATE
from molts.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 2 * SAMPLE_RATE  # a second
STALL_SECONDS = 60.0
"""The longest wait for the next second of sound. Before the first one the child reads the whole file once."""

KINDS = "WAV, MP3, OGG, Opus, FLAC, M4A, MP4, WebM, AAC, AIFF"
_CHILD = Path(__file__).with_name("decode_child.py")
_NOT_AUDIO, _NO_SOUND, _TOO_LONG, _DAMAGED = 3, 4, 5, 6


class UnreadableAudio(BadInput):
    """The file is not sound, or nothing of it can be decoded."""

    code = "invalid_audio"


class AudioTooLong(BadInput):
    code = "audio_too_long"


async def decode_audio(
    path: Path, *, max_seconds: float, stall_seconds: float = STALL_SECONDS
) -> AsyncGenerator[NDArray[np.float32], None]:
    """Yield the samples of the file (float32, -1 to 1), about a second at a time. Ends the child on every way out.

    Raises UnreadableAudio when it holds no sound, AudioTooLong when it lasts longer than `max_seconds` (nearly always
    before the first samples), Unavailable when decoding stalls.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(_CHILD), str(path), str(max_seconds)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2 * CHUNK_BYTES,
    )
    assert process.stdout is not None
    try:
        async with contextlib.aclosing(_read_chunks(process.stdout, stall_seconds)) as chunks:
            async for chunk in chunks:
                yield np.frombuffer(chunk, dtype="<i2").astype(np.float32) / 32768.0
        async with asyncio.timeout(stall_seconds):
            status = await process.wait()
        _check(status, max_seconds)
    except TimeoutError:
        raise Unavailable(f"Reading the sound stood still for {stall_seconds:.0f} s. Try again later.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Not `wait`: that hangs while the pipe holds what nobody has read.
            await process.communicate()


async def _read_chunks(stream: asyncio.StreamReader, stall_seconds: float) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            # Not `wait_for`: in Python 3.11 it can swallow a cancellation.
            async with asyncio.timeout(stall_seconds):
                chunk = await stream.readexactly(CHUNK_BYTES)
            yield chunk
        except asyncio.IncompleteReadError as end:
            if whole := end.partial[: len(end.partial) // 2 * 2]:
                yield whole
            return


def _check(status: int, max_seconds: float) -> None:
    """Raise what an exit status of the child means."""
    if status == 0:
        return
    if status == _TOO_LONG:
        raise AudioTooLong(f"The audio is longer than {_length(max_seconds)}. Send it in shorter parts.", attr="file")
    if status == _NO_SOUND:
        raise UnreadableAudio("The file has no sound track.", attr="file")
    if status in (_NOT_AUDIO, _DAMAGED):
        raise UnreadableAudio(f"The file is not sound that can be read. Send one of {KINDS}.", attr="file")
    raise UnreadableAudio("The file is damaged: decoding it failed.", attr="file")


def _length(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
