"""The program that renders a video: a process of its own, so that it can be bounded, watched and stopped.

    python -m avatars.videos.rendering < request and speech

The first line is a `RenderRequest` as JSON. Speech follows scene by scene, each part with HEADER before it: the number
of samples (mono, int16, 48 kHz), or END_OF_SCENE. Lines of JSON come back: {"text", "shown"} while it works, and last
{"made": ...} or {"error", "code", "attr", "stage", "again"}. Knows neither Django nor LiveKit, and holds no secret of a
provider.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from avatars.engines.base import Face, LipSyncEngine, VideoFormat
from avatars.engines.cache import keep_in
from avatars.engines.clip import end_with_parent
from avatars.engines.config import EngineConfig, configure
from avatars.engines.visemes import Samples
from avatars.videos.stages import StageName
from avatars.videos.stages.compose import Composed, Composition
from avatars.videos.stages.lipsync import Performance
from molts.errors import MoltsError

HEADER = struct.Struct("<I")
END_OF_SCENE = 0xFFFFFFFF
MOST_PARTS = 8  # that wait here; more of them wait in the pipe
TELL_SECONDS = 0.2
LARGEST_FILE = 4 << 30
NICENESS = 10


@dataclass(frozen=True)
class SceneFace:
    """The face of one scene. `engine` is the dotted path of the engine's class, `key` names the face in caches."""

    engine: str
    key: str
    portrait: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RenderRequest:
    """What to render. `config` are the fields of EngineConfig; engines keep what they make once in `cache`."""

    faces: tuple[SceneFace, ...]
    output: str
    width: int
    height: int
    fps: int
    cache: str
    config: Mapping[str, Any]
    threads: int = 2

    @classmethod
    def read(cls, line: bytes) -> RenderRequest:
        values = json.loads(line)
        return cls(**{**values, "faces": tuple(SceneFace(**face) for face in values["faces"])})


class SpeechPipe:
    """Speech as it comes through a pipe, read by a thread of its own that nobody waits for."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Samples | EOFError | None] = asyncio.Queue(MOST_PARTS)
        threading.Thread(target=self._read, name="speech", daemon=True).start()

    async def scene(self) -> AsyncIterator[Samples]:
        """The speech of the next scene, part by part. Raises EOFError when whoever sends it is gone."""
        while (part := await self._parts.get()) is not None:
            if isinstance(part, EOFError):
                raise part
            yield part

    def _read(self) -> None:
        is_open = True
        while is_open:
            try:
                part: Samples | EOFError | None = self._next()
            except EOFError as error:
                part, is_open = error, False
            with suppress(RuntimeError):  # the loop is over
                asyncio.run_coroutine_threadsafe(self._parts.put(part), self._loop).result()

    def _next(self) -> Samples | None:
        (count,) = HEADER.unpack(self._exactly(HEADER.size))
        return None if count == END_OF_SCENE else np.frombuffer(self._exactly(2 * count), np.int16)

    def _exactly(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise EOFError("The speech ended in the midst of a scene.")
        return data


async def render(request: RenderRequest, source: IO[bytes]) -> Composed:
    """Make the video at `request.output` of the speech in `source`. Raises MoltsError with the reason."""
    speech = SpeechPipe(source)
    keep_in(Path(request.cache))
    configure(EngineConfig(**{**request.config, "run_dir": Path(request.config["run_dir"])}))
    composition = Composition(Path(request.output), request.width, request.height, request.fps, request.threads)
    try:
        for face in request.faces:
            await _perform(face, request, composition, speech)
        tell("Putting sound and picture together", composition.shown)
        return await asyncio.to_thread(composition.finish)
    except BaseException:
        composition.abandon()
        raise


async def _perform(given: SceneFace, request: RenderRequest, composition: Composition, speech: SpeechPipe) -> None:
    engine = _load(given.engine)
    portrait = Path(given.portrait) if given.portrait else None
    face = Face(key=given.key, portrait=portrait, options=given.options)
    video = VideoFormat(request.width, request.height, fps=request.fps, idle_fps=request.fps)
    shown = composition.shown
    tell("Preparing the face", shown)
    await asyncio.to_thread(engine.prepare, face, video, lambda done: tell("Preparing the face", shown, done))
    stream = await engine.open_stream(face, video)
    teller = _Teller(composition)
    try:
        await Performance(stream, composition).run(speech.scene(), teller.tell)
    finally:
        await stream.aclose()


class _Teller:
    """Tells how far it is, but not of every frame."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self._told_at = 0.0

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            tell("Rendering", self._composition.shown)


def _load(dotted_path: str) -> LipSyncEngine:
    module_name, class_name = dotted_path.rsplit(".", 1)
    engine: LipSyncEngine = getattr(import_module(module_name), class_name)()
    return engine


# -- The program ------------------------------------------------------------------------------------------------------
def tell(text: str, shown: float, prepared: float | None = None) -> None:
    _print({"text": text, "shown": round(shown, 3), "prepared": prepared})


def _print(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), file=_answers, flush=True)


_answers: IO[str] = sys.stdout


def _fail(text: str, *, code: str, stage: StageName, attr: str | None = None, again: bool = False) -> int:
    _print({"error": text[:500], "code": code, "attr": attr, "stage": stage.value, "again": again})
    return 1


def main() -> int:
    global _answers
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    # What a library prints must not get between the lines of the answer.
    _answers, sys.stdout = sys.stdout, sys.stderr
    os.nice(max(0, NICENESS - os.nice(0)))  # conversations go first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    source = sys.stdin.buffer
    try:
        composed = asyncio.run(render(RenderRequest.read(source.readline()), source))
    except MoltsError as error:
        return _fail(error.detail, code=error.code, attr=error.attr, stage=StageName.LIPSYNC, again=error.retryable)
    except OSError as error:
        return _fail(
            f"The video could not be written: {error.strerror or type(error).__name__}.",
            code="unavailable",
            stage=StageName.COMPOSE,
            again=True,
        )
    except EOFError as error:
        return _fail(str(error), code="unavailable", stage=StageName.SPEECH, again=True)
    except Exception as error:  # whatever a model raises: what it says is what helps
        text = f"The engine failed: {type(error).__name__}: {error}"
        return _fail(text, code="engine_failed", stage=StageName.LIPSYNC)
    _print({"made": asdict(composed)})
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the thread that reads may wait for speech that nobody wants any more
