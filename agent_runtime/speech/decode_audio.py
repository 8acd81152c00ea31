"""Any common sound file as 16 kHz mono samples, in chunks and in bounded memory.

The work is done by a child process (`decode_child`); the pipe between the two holds it back when nobody reads. Where
the file's clock leaves something out the place comes as a `Hole`, however long: silence would cost time and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent_runtime.speech.transcript import SAMPLE_RATE
from molts.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.float32]

CHUNK_BYTES = 2 * SAMPLE_RATE  # a second
STALL_SECONDS = 60.0
"""The longest wait for the next second of sound. Before the first one the child reads the whole file once."""

KINDS = "WAV, MP3, OGG, Opus, FLAC, M4A, MP4, WebM, AAC, AIFF"
_CHILD = Path(__file__).with_name("decode_child.py")
_NOT_AUDIO, _NO_SOUND, _TOO_LONG, _DAMAGED = 3, 4, 5, 6


@dataclass(frozen=True)
class Hole:
    """So many samples of the file's time have no sound."""

    samples: int


class UnreadableAudio(BadInput):
    """The file is not sound, or nothing of it can be decoded."""

    code = "invalid_audio"


class AudioTooLong(BadInput):
    code = "audio_too_long"


async def decode_audio(
    path: Path, *, max_seconds: float, stall_seconds: float = STALL_SECONDS
) -> AsyncGenerator[Sound | Hole, None]:
    """Yield the samples of the file (float32, -1 to 1), about a second at a time. Ends the child on every way out.

    Times are the container's: what comes before the first sound, and what is left out between two, is a Hole.

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
        async with contextlib.aclosing(_read_records(process.stdout, stall_seconds)) as records:
            async for record in records:
                yield record
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


async def _read_records(stream: asyncio.StreamReader, stall_seconds: float) -> AsyncGenerator[Sound | Hole, None]:
    """What the child writes, until it ends: of what it left unfinished its exit status tells."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            # Not `wait_for`: in Python 3.11 it can swallow a cancellation.
            async with asyncio.timeout(stall_seconds):
                (size,) = struct.unpack("<q", await stream.readexactly(8))
                chunk = await stream.readexactly(size) if 0 < size <= CHUNK_BYTES else b""
            if size > CHUNK_BYTES:
                return
            yield np.frombuffer(chunk, dtype="<i2").astype(np.float32) / 32768.0 if chunk else Hole(-size)


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
