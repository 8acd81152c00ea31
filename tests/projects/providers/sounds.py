"""A tone in every form in which a server might send it, written by FFmpeg, and bytes that are no sound."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TONE = 440.0


def tone(rate: int, seconds: float = 1.0) -> NDArray[np.float64]:
    """Samples in [-1, 1]."""
    return np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * TONE / rate) * 0.3


def pcm(rate: int = 24000, seconds: float = 1.0) -> bytes:
    return (tone(rate, seconds) * 32767).astype("<i2").tobytes()


def encoded(
    container: str,
    codec: str,
    rate: int = 44100,
    layout: str = "mono",
    options: dict[str, str] | None = None,
    seconds: float = 1.0,
    **codec_options: str,
) -> bytes:
    """The tone, a second long."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.options = codec_options
        channels = 2 if layout == "stereo" else 1
        frame = av.AudioFrame.from_ndarray(
            np.tile(tone(rate, seconds).astype(np.float32), (channels, 1)), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


def extensible_wav(rate: int = 24000) -> bytes:
    """WAVE_FORMAT_EXTENSIBLE, 24 bits."""
    samples = b"".join(struct.pack("<i", int(value * 2**31))[1:] for value in tone(rate))
    guid = struct.pack("<H", 1) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, rate, rate * 3, 3, 24, 22, 24, 4) + guid
    return riff(form, samples)


def riff(form: bytes, samples: bytes, size: int | None = None) -> bytes:
    """A WAV file; `size` is what it says of its own length."""
    size = len(samples) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", min(0xFFFFFFFF, size + 36)) + body


def streaming_wav(size: int, rate: int = 24000) -> bytes:
    """A WAV file whose writer did not know yet how long it would be."""
    return riff(struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16), pcm(rate), size)


def vorbis() -> bytes:
    """FFmpeg's own encoder, which it calls experimental."""
    return encoded("ogg", "vorbis", layout="stereo", strict="experimental")


SOUNDS: dict[str, Callable[[], bytes]] = {
    "WAV of 16 bits": lambda: encoded("wav", "pcm_s16le"),
    "WAV of 24 bits": lambda: encoded("wav", "pcm_s24le"),
    "WAV of 32 bits": lambda: encoded("wav", "pcm_s32le"),
    "WAV of 8 bits": lambda: encoded("wav", "pcm_u8"),
    "WAV of floats": lambda: encoded("wav", "pcm_f32le"),
    "WAV of long floats": lambda: encoded("wav", "pcm_f64le"),
    "WAV by A-law": lambda: encoded("wav", "pcm_alaw", rate=8000),
    "WAV by mu-law": lambda: encoded("wav", "pcm_mulaw", rate=8000),
    "WAV in stereo": lambda: encoded("wav", "pcm_s16le", layout="stereo"),
    "extensible WAV": extensible_wav,
    "WAV without an end": lambda: streaming_wav(0xFFFFFFFF),
    "WAV of no length": lambda: streaming_wav(0),
    "RF64": lambda: encoded("wav", "pcm_s16le", options={"rf64": "always"}),
    "MP3": lambda: encoded("mp3", "libmp3lame", options={"id3v2_version": "0", "write_xing": "0"}),
    "MP3 with ID3": lambda: encoded("mp3", "libmp3lame", options={"id3v2_version": "3"}),
    "MP3 of 24 kHz": lambda: encoded("mp3", "libmp3lame", rate=24000, options={"id3v2_version": "0"}),
    "Opus in OGG": lambda: encoded("ogg", "libopus", rate=48000),
    "Vorbis in OGG": vorbis,
    "FLAC": lambda: encoded("flac", "flac"),
    "AAC": lambda: encoded("adts", "aac"),
    "WebM": lambda: encoded("webm", "libopus", rate=48000),
    "MP4": lambda: encoded("mp4", "aac"),
    "AIFF": lambda: encoded("aiff", "pcm_s16be"),
}  # fmt: skip

WAV_HEADER = struct.pack("<HHIIHH", 1, 1, 24000, 48000, 2, 16)
NOT_SOUND = {
    "an error": (b'{"detail": "voice not found"}' * 1, "JSON instead of audio: voice not found"),
    "a page": (b"<!doctype html><html><body>Bad gateway</body></html>" * 60, "a web page instead of audio"),
    "words": (b"upstream connect error" * 1, "text instead of audio: upstream connect error"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(30_000), "noise|neither"),
    "packed bytes": (np.random.default_rng(2).bytes(60_000), "noise|neither"),
    "bare floats": (tone(24000).astype("<f4").tobytes(), "noise|neither"),
    "swapped bytes": ((tone(24000) * 32767).astype(">i2").tobytes(), "noise|neither"),
    "nothing": (b"", "no sound"),
    "a cut WAV": (streaming_wav(0)[:30], "cannot be decoded|without sound"),
    "a WAV of noise": (riff(WAV_HEADER, np.random.default_rng(3).bytes(48_000)), "noise"),
    "an MP3's name only": (b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(3000), "cannot be decoded|without sound"),
}  # fmt: skip
