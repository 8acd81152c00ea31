"""Frames and speech into an MP4: H.264 and AAC, with its index in front so that it plays while it is loaded.

Pictures are encoded as they come and never lie anywhere as files. Sound is kept until the end, since how loud it is as
a whole is known only then. Knows neither Django nor LiveKit; runs in the child process that renders.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.base import AudioChunk, EngineFailed, PixelFormat, VideoFrame
from avatars.engines.visemes import Samples

SAMPLE_RATE = 48_000
LOUDNESS = -16.0
"""In LUFS: what platforms for speech ask for."""
MOST_GAIN = 30.0  # decibels; what needs more is no speech
PEAK = 10 ** (-1.5 / 20)
QUIETEST = -69.0  # what the meter says of silence
AUDIO_FRAME = 1024  # samples of an AAC frame
THUMBNAIL_AT = 1.0  # seconds: the face speaks by then
BT601, LIMITED_RANGE = 6, 1  # as FFmpeg numbers them; what engines make of colours


@dataclass(frozen=True)
class Composed:
    """What was made."""

    duration: float
    """Seconds of picture."""
    speech_seconds: float
    frames: int
    first_packet_at: float
    """`time.time()` when the first encoded bytes were there."""
    loudness: float | None
    """Of the speech as it came, in LUFS; None for silence."""


@dataclass
class Composition:
    """One video in the making. Frames are repeated or left out so that there are exactly `fps` a second."""

    output: Path
    width: int
    height: int
    fps: int
    threads: int = 2
    shown: float = 0.0  # seconds
    _frames: int = 0
    _heard: list[Samples] = field(default_factory=list)
    _heard_samples: int = 0
    _first_packet_at: float = 0.0
    _thumbnail: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        self._silent = self.output.with_name(f"silent-{self.output.name}")
        self._container = av.open(str(self._silent), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=self.fps)
        self._stream.width, self._stream.height = self.width, self.height
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "21", "profile": "high"}
        encoder = self._stream.codec_context
        encoder.thread_count = self.threads
        encoder.gop_size = 2 * self.fps  # a player finds its place within two seconds
        encoder.time_base = Fraction(1, self.fps)
        encoder.color_range = LIMITED_RANGE
        encoder.colorspace = encoder.color_primaries = encoder.color_trc = BT601

    def add_audio(self, chunk: AudioChunk) -> None:
        """Sound that begins at the frame that comes next."""
        if chunk.sample_rate != SAMPLE_RATE:
            raise EngineFailed(f"The engine gave sound of {chunk.sample_rate} Hz, {SAMPLE_RATE} Hz went in.")
        silence = max(0, round(self.shown * SAMPLE_RATE) - self._heard_samples)
        self._heard += [np.zeros(silence, np.int16), chunk.samples.copy()]
        self._heard_samples += silence + len(chunk.samples)

    def add_frame(self, frame: VideoFrame) -> None:
        """The next picture. Raises EngineFailed for one of another size."""
        if (frame.width, frame.height) != (self.width, self.height):
            raise EngineFailed(
                f"The engine gave a picture of {frame.width}x{frame.height}, {self.width}x{self.height} was asked for."
            )
        self.shown += frame.duration
        while self._frames < math.floor(self.shown * self.fps + 1e-6):
            picture = _as_picture(frame)
            picture.pts = self._frames
            self._mux(self._stream.encode(picture))
            self._frames += 1
        if self._thumbnail is None or self.shown - frame.duration < THUMBNAIL_AT <= self.shown:
            self._thumbnail = _as_bgr(frame)

    def finish(self) -> Composed:
        """Write the video, and its thumbnail beside it. Raises EngineFailed when there was no picture."""
        if not self._frames or self._thumbnail is None:
            raise EngineFailed("The engine gave no picture.")
        self._mux(self._stream.encode(None))
        self._container.close()
        speech = np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)
        loudness = measure_loudness(speech)
        _join(self._silent, level(speech, loudness), self.output)
        self._silent.unlink()
        if not cv2.imwrite(str(self.output.with_suffix(".jpg")), self._thumbnail, [cv2.IMWRITE_JPEG_QUALITY, 85]):
            raise OSError("The thumbnail could not be written.")
        return Composed(
            duration=self._frames / self.fps,
            speech_seconds=len(speech) / SAMPLE_RATE,
            frames=self._frames,
            first_packet_at=self._first_packet_at,
            loudness=loudness,
        )

    def abandon(self) -> None:
        """Leave nothing behind of what was not finished."""
        self._container.close()
        self._silent.unlink(missing_ok=True)

    def _mux(self, packets: list[Any]) -> None:
        if packets and not self._first_packet_at:
            self._first_packet_at = time.time()
        self._container.mux(packets)


# -- Pictures ---------------------------------------------------------------------------------------------------------
def _as_picture(frame: VideoFrame) -> Any:
    """The frame as the encoder takes it. I420 is copied plane by plane, nothing is converted."""
    pixels = np.frombuffer(frame.data, np.uint8)
    if frame.pixels is PixelFormat.RGB24:
        shape = (frame.height, frame.width, 3)
        i420 = cv2.cvtColor(pixels.reshape(shape), cv2.COLOR_RGB2YUV_I420)
        pixels = np.asarray(i420, np.uint8).reshape(-1)
    picture = av.VideoFrame(frame.width, frame.height, "yuv420p")
    start = 0
    for plane in picture.planes:
        size = plane.width * plane.height
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows[: plane.height, : plane.width] = pixels[start : start + size].reshape(plane.height, plane.width)
        start += size
    return picture


def _as_bgr(frame: VideoFrame) -> NDArray[np.uint8]:
    pixels = np.frombuffer(frame.data, np.uint8)
    if frame.pixels is PixelFormat.RGB24:
        return np.asarray(cv2.cvtColor(pixels.reshape(frame.height, frame.width, 3), cv2.COLOR_RGB2BGR), np.uint8)
    i420 = pixels.reshape(frame.height * 3 // 2, frame.width)
    return np.asarray(cv2.cvtColor(i420, cv2.COLOR_YUV2BGR_I420), np.uint8)


# -- Sound ------------------------------------------------------------------------------------------------------------
def measure_loudness(speech: Samples) -> float | None:
    """In LUFS over the whole (EBU R 128); None for silence, and for what is too short to say."""
    said = None
    for frame in _filtered(speech, [("ebur128", "metadata=1")]):
        said = frame.metadata.get("lavfi.r128.I", said)
    loudness = float(said) if said is not None else QUIETEST
    return loudness if loudness > QUIETEST else None


def level(speech: Samples, loudness: float | None) -> Samples:
    """The speech as loud as LOUDNESS, without a peak that clips; as long as it was."""
    if loudness is None:
        return speech
    gain = min(MOST_GAIN, LOUDNESS - loudness)
    steps = [("volume", f"{gain:.2f}dB"), ("alimiter", f"limit={PEAK:.4f}:level=false:latency=true")]
    parts = [frame.to_ndarray().reshape(-1) for frame in _filtered(speech, [*steps, ("aformat", "sample_fmts=s16")])]
    levelled = np.concatenate(parts)[: len(speech)]
    return np.pad(levelled, (0, len(speech) - len(levelled))).astype(np.int16)


def _filtered(speech: Samples, steps: list[tuple[str, str]]) -> list[Any]:
    """The frames that come out of a chain of FFmpeg's filters."""
    graph = av.filter.Graph()
    parts = [
        graph.add_abuffer(sample_rate=SAMPLE_RATE, format="s16", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    ]
    parts += [graph.add(name, arguments) for name, arguments in steps]
    parts.append(graph.add("abuffersink"))
    graph.link_nodes(*parts).configure()
    frames = []
    for picture in [*_audio_frames(speech, SAMPLE_RATE // 10), None]:
        parts[0].push(picture)
        while True:
            try:
                frames.append(parts[-1].pull())
            except (av.BlockingIOError, av.EOFError):
                break
    return frames


def _audio_frames(speech: Samples, size: int) -> list[Any]:
    frames = []
    for start in range(0, len(speech), size):
        frame = av.AudioFrame.from_ndarray(speech[None, start : start + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        frames.append(frame)
    return frames


def _join(silent: Path, speech: Samples, output: Path) -> None:
    """The encoded pictures and the speech in one file."""
    with av.open(str(silent)) as pictures, av.open(str(output), "w", options={"movflags": "+faststart"}) as joined:
        source = pictures.streams.video[0]
        video = joined.add_stream_from_template(source)
        audio = joined.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.codec_context.bit_rate = 128_000
        sounds = iter(_audio_frames(speech, AUDIO_FRAME))
        heard = 0.0
        for packet in pictures.demux(source):
            if packet.dts is None:
                continue
            # Sound and picture go in side by side, so that the writer need not hold one back for the other.
            while heard <= float(packet.dts * packet.time_base) and (sound := next(sounds, None)) is not None:
                heard += AUDIO_FRAME / SAMPLE_RATE
                joined.mux(audio.encode(sound))
            packet.stream = video
            joined.mux(packet)
        for sound in sounds:
            joined.mux(audio.encode(sound))
        joined.mux(audio.encode(None))
