"""A short clip of a face that speaks: a program of its own, so that rendering can be bounded, watched and stopped.

    python -m avatars.engines.clip < request.json

The request is `ClipRequest` as JSON. Lines of JSON come back: {"stage": str, "progress": 0..1} while it works, and last
{"type": media type of the clip} or {"error": str, "attr": str}. Knows neither Django nor LiveKit.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avatars.engines.base import (
    AudioChunk,
    Face,
    FaceState,
    LipSyncEngine,
    LipSyncStream,
    PixelFormat,
    SegmentEnd,
    VideoFormat,
    VideoFrame,
)
from avatars.engines.cache import keep_in
from avatars.engines.config import EngineConfig, configure
from molts.errors import BadConfiguration, MoltsError

FPS = 25
CHUNK_SECONDS = 0.1
MOST_SECONDS = 60.0
FRAME_SECONDS = 20.0  # a frame that takes longer will not come
PIXEL_FORMATS = {PixelFormat.I420: "yuv420p", PixelFormat.RGB24: "rgb24"}
NO_FFMPEG = "FFmpeg is missing on this server, so no clip can be made. Debian, Ubuntu: sudo apt install ffmpeg."


@dataclass(frozen=True)
class ClipRequest:
    """What to render. `engine` is the dotted path of the engine's class, `speech` a mono 16 bit WAV file; the face is
    idle for `lead` seconds before it and `tail` seconds after it. Engines keep what they make once in `cache`;
    `config` are the fields of EngineConfig."""

    engine: str
    face_key: str
    portrait: str
    options: Mapping[str, Any]
    speech: str
    output: str
    cache: str
    config: Mapping[str, Any] = field(default_factory=dict)
    size: int = 512
    lead: float = 0.6
    tail: float = 1.0
    sound: bool = True


@dataclass
class Clip:
    """Frames on their way into a file, and the sound that belongs to them. Frames are repeated or dropped to FPS."""

    speech_rate: int
    output: Path
    codec: str
    shown: float = 0.0  # seconds
    _written: int = 0
    _heard: list[NDArray[np.int16]] = field(default_factory=list)
    _heard_samples: int = 0
    _encoder: subprocess.Popen[bytes] | None = None

    def add_audio(self, chunk: AudioChunk) -> None:
        """Sound that begins at the frame that comes next."""
        silence = max(0, round(self.shown * chunk.sample_rate) - self._heard_samples)
        self._heard += [np.zeros(silence, np.int16), chunk.samples.copy()]
        self._heard_samples += silence + len(chunk.samples)

    def add_frame(self, frame: VideoFrame) -> None:
        """Raises BadConfiguration when FFmpeg has ended."""
        if self._encoder is None:
            self._encoder = self._start(frame)
        self.shown += frame.duration
        assert self._encoder.stdin is not None
        pixels = np.frombuffer(frame.data, np.uint8)
        while self._written < math.floor(self.shown * FPS + 1e-6):
            try:
                self._encoder.stdin.write(pixels.data)
            except BrokenPipeError:
                _finish(self._encoder)
                raise
            self._written += 1

    def finish(self, sound: bool) -> None:
        """Write the file. Raises BadConfiguration when FFmpeg could not."""
        if self._encoder is None:
            raise BadConfiguration("The engine gave no picture.")
        _finish(self._encoder)
        silent = _silent(self.output)
        if not sound or not self._heard:
            silent.replace(self.output)
            return
        heard = self.output.with_suffix(".wav")
        with wave.open(str(heard), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.speech_rate)
            file.writeframes(np.concatenate(self._heard).tobytes())
        audio = ("-c:a", "libopus" if self.output.suffix == ".webm" else "aac", "-b:a", "96k")
        _finish(_ffmpeg("-i", silent, "-i", heard, "-c:v", "copy", *audio, "-movflags", "+faststart", self.output))

    def abandon(self) -> None:
        if self._encoder is not None and self._encoder.poll() is None:
            self._encoder.kill()
            self._encoder.wait(5)

    def _start(self, frame: VideoFrame) -> subprocess.Popen[bytes]:
        given = ("-f", "rawvideo", "-pix_fmt", PIXEL_FORMATS[frame.pixels], "-s", f"{frame.width}x{frame.height}")
        looks = {
            "libx264": ("-preset", "veryfast", "-profile:v", "main", "-crf", "21", "-movflags", "+faststart"),
            "libvpx-vp9": ("-deadline", "realtime", "-cpu-used", "7", "-crf", "32", "-b:v", "0"),
        }[self.codec]
        colours = ("-pix_fmt", "yuv420p", "-c:v", self.codec)
        return _ffmpeg(*given, "-r", FPS, "-i", "-", *colours, *looks, _silent(self.output))


def _silent(output: Path) -> Path:
    return output.with_name(f"silent{output.suffix}")


def _ffmpeg(*arguments: object) -> subprocess.Popen[bytes]:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"]
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _finish(encoder: subprocess.Popen[bytes]) -> None:
    _, errors = encoder.communicate(timeout=60)
    if encoder.returncode:
        raise BadConfiguration(f"FFmpeg could not make the clip: {errors.decode(errors='replace').strip()[-200:]}")


def choose_codec() -> tuple[str, str, str]:
    """(encoder, file suffix, media type): H.264, or VP9 where FFmpeg was built without it."""
    if shutil.which("ffmpeg") is None:
        raise BadConfiguration(NO_FFMPEG)
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, timeout=20, check=False)
    if b" libx264 " in listed.stdout:
        return "libx264", ".mp4", "video/mp4"
    return "libvpx-vp9", ".webm", "video/webm"  # in every FFmpeg


# -- Rendering --------------------------------------------------------------------------------------------------------
async def render(request: ClipRequest) -> str:
    """Make the clip at `request.output`; returns its media type. Raises MoltsError with the reason."""
    keep_in(Path(request.cache))
    if request.config:
        configure(EngineConfig(**{**request.config, "run_dir": Path(request.config["run_dir"])}))
    engine = _load(request.engine)
    face = Face(
        key=request.face_key,
        portrait=Path(request.portrait) if request.portrait else None,
        options=request.options,
    )
    codec, suffix, media_type = choose_codec()
    samples, rate = _read(Path(request.speech))
    video = VideoFormat(request.size, request.size, fps=FPS, idle_fps=FPS)
    tell("Preparing the face", 0.0)
    await asyncio.to_thread(engine.prepare, face, video, lambda done: tell("Preparing the face", done))
    output = Path(request.output)
    clip = Clip(rate, output.with_suffix(suffix), codec)
    stream = await engine.open_stream(face, video)
    try:
        await _play(stream, clip, samples, rate, request)
        clip.finish(request.sound)
    finally:
        clip.abandon()
        await stream.aclose()
    clip.output.replace(output)
    return media_type


async def _play(stream: LipSyncStream, clip: Clip, samples: NDArray[np.int16], rate: int, request: ClipRequest) -> None:
    """Listen for `lead` seconds, speak, then be idle for `tail` seconds."""
    total = min(request.lead + len(samples) / rate + request.tail, MOST_SECONDS)
    speech: asyncio.Task[None] | None = None
    until = MOST_SECONDS
    stream.set_state(FaceState.LISTENING)
    items = aiter(stream)
    try:
        while clip.shown < until:
            async with asyncio.timeout(FRAME_SECONDS):
                item = await anext(items, None)
            if item is None:
                return
            if isinstance(item, AudioChunk):
                clip.add_audio(item)
            elif isinstance(item, SegmentEnd):
                until = clip.shown + request.tail
                stream.set_state(FaceState.IDLE)
            else:
                clip.add_frame(item)
                tell("Rendering", min(1.0, clip.shown / total))
            if speech is None and clip.shown >= request.lead:
                stream.set_state(FaceState.SPEAKING)
                speech = asyncio.create_task(_say(stream, samples, rate))
            if speech is not None and speech.done():
                speech.result()  # raises what went wrong in it
    except TimeoutError:
        raise BadConfiguration(f"The engine gave no picture within {FRAME_SECONDS:g} s.") from None
    finally:
        if speech is not None:
            speech.cancel()


async def _say(stream: LipSyncStream, samples: NDArray[np.int16], rate: int) -> None:
    step = int(rate * CHUNK_SECONDS)
    for start in range(0, len(samples), step):
        await stream.push_audio(AudioChunk(samples[start : start + step], rate))
    await stream.flush()


def _load(dotted_path: str) -> LipSyncEngine:
    module_name, class_name = dotted_path.rsplit(".", 1)
    engine: LipSyncEngine = getattr(import_module(module_name), class_name)()
    return engine


def _read(path: Path) -> tuple[NDArray[np.int16], int]:
    with wave.open(str(path), "rb") as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return samples.reshape(-1, channels)[:, 0].copy(), rate


# -- The program ------------------------------------------------------------------------------------------------------
def tell(stage: str, progress: float) -> None:
    _print({"stage": stage, "progress": round(progress, 3)})


def _print(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), file=_answers, flush=True)


_answers: IO[str] = sys.stdout


def end_with_parent(parent: int) -> None:
    """End this process once the one that started it is gone: nobody would read its answer or end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    global _answers
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    # What a library prints must not get between the lines of the answer.
    _answers, sys.stdout = sys.stdout, sys.stderr
    os.nice(10)  # conversations go first
    try:
        media_type = asyncio.run(render(ClipRequest(**json.load(sys.stdin))))
    except MoltsError as error:
        _print({"error": error.detail, "attr": error.attr or ""})
        return 1
    except Exception as error:  # whatever a model raises: what it says is what helps
        _print({"error": f"The engine failed: {type(error).__name__}: {error}"[:400], "attr": ""})
        return 1
    _print({"type": media_type})
    return 0


if __name__ == "__main__":
    sys.exit(main())
