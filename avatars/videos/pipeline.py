"""Makes one video from its spec: speech, face and file at the same time. Knows no rows.

Speech is spoken here, where keys may be opened, and sent to the child process that renders. The child gets no secret of
a provider, and is ended when it takes too long, holds too much memory, or when nobody wants the video any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from avatars.engines import ENGINES, get_engine
from avatars.engines.base import Face
from avatars.engines.config import engine_config
from avatars.faces import resolve_face
from avatars.videos.children import child_environment, memory_of
from avatars.videos.rendering import END_OF_SCENE, HEADER, RenderRequest, SceneFace
from avatars.videos.report import SpokenWords, StageFailed, VideoReport
from avatars.videos.spec import PAUSE, VideoSpec
from avatars.videos.stages import StageName
from avatars.videos.stages.compose import Composed
from avatars.videos.stages.speech import PieceFolder, SpokenPiece, speak_scene
from molts.errors import MoltsError, TooLarge, Unavailable
from molts.machine import usable_cores
from projects.providers.base import KeyedRung
from projects.providers.shared.sentences import spoken_size

logger = logging.getLogger(__name__)

VERSION = 1
"""Of how a video is rendered: another one renders anew what an attempt before had rendered."""
LOOK_SECONDS = 0.25
"""How often the child is looked at."""
PREPARE_SECONDS = 300.0
SLOWEST = 60.0
"""Seconds of rendering for a second of video, at most: some models take long."""
LONGEST_SECONDS = 3.5 * 3600
"""Less than the task may take (`tasks.RUN_SECONDS`), whose end would leave no reason."""
MOST_MEMORY = 3 << 30
BYTES_A_SECOND = 15.0
"""Of a script, while it is not known how long it is when spoken."""
RENDERED = 0.95
"""Progress when all frames are there: the rest is putting them together and away."""


@dataclass(frozen=True)
class SceneVoices:
    """The voices of one scene with their keys opened. They live in memory only."""

    rungs: tuple[KeyedRung, ...]


@dataclass(frozen=True)
class RenderedVideo:
    """A video that is done, with what was spoken for it."""

    file: Path
    thumbnail: Path
    composed: Composed
    pieces: tuple[SpokenPiece, ...]
    key: str


def make_video(*, spec: VideoSpec, voices: Sequence[SceneVoices], folder: Path, report: VideoReport) -> RenderedVideo:
    """Make the video in `folder`, which keeps what was done for an attempt after this one.

    Raises StageFailed with the stage, and whether another attempt may succeed.
    """
    try:
        for scene in spec.scenes:
            get_engine(scene.avatar.engine)  # it may have gone since
        faces = [resolve_face(scene.avatar) for scene in spec.scenes]
    except MoltsError as error:
        raise StageFailed(StageName.LIPSYNC, error) from error
    return asyncio.run(_Making(spec, voices, faces, folder, report).run())


def video_key(spec: VideoSpec, faces: Sequence[Face]) -> str:
    """Names a rendered video by all that it is made from."""
    made_from = [VERSION, spec.as_json(), [face.key for face in faces]]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


class _Making:
    """One attempt."""

    def __init__(
        self, spec: VideoSpec, voices: Sequence[SceneVoices], faces: Sequence[Face], folder: Path, report: VideoReport
    ) -> None:
        self._spec, self._voices, self._faces, self._report = spec, voices, faces, report
        self._folder = folder
        self._key = video_key(spec, faces)
        # Of this process alone: one that was thought lost may still write.
        self._output = folder / f"{self._key}.{os.getpid()}.mp4"
        self._done = folder / f"{self._key}.json"
        self._pieces: list[SpokenPiece] = []
        self._expected = sum(spoken_size(PAUSE.sub("", scene.script)) for scene in spec.scenes) / BYTES_A_SECOND
        self._is_spoken = False
        self._rendering_since: float | None = None

    async def run(self) -> RenderedVideo:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        done = self._done_before()
        if done is not None:
            await self._speak(None)  # from the pieces that are kept: what was spoken is accounted for
            for stage in (StageName.LIPSYNC, StageName.COMPOSE):
                self._report.begin(stage)
                self._report.end(stage, key=self._key, reused=True)
            return self._rendered(*done)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "avatars.videos.rendering",
            cwd=settings.BASE_DIR,
            env=child_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a signal to the worker is not the child's; it is ended below
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(asdict(self._request())).encode() + b"\n")
        speaking = asyncio.create_task(self._speak(child.stdin))
        answering = asyncio.create_task(self._listen(child))
        watching = asyncio.create_task(self._watch(child))
        tasks = (speaking, answering, watching)
        try:
            return await self._until_done(child, speaking, answering, watching)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()

    async def _until_done(
        self,
        child: asyncio.subprocess.Process,
        speaking: asyncio.Task[None],
        answering: asyncio.Task[dict[str, Any]],
        watching: asyncio.Task[StageFailed],
    ) -> RenderedVideo:
        while not answering.done():
            going_on = {task for task in (speaking, answering, watching) if not task.done()}
            await asyncio.wait(going_on, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                raise watching.result()
            if speaking.done():
                speaking.result()  # raises what went wrong in it
        last = answering.result()
        await child.wait()
        if "made" in last:
            await speaking
            composed = Composed(**last["made"])
            self._keep_done(composed)
            for stage in (StageName.LIPSYNC, StageName.COMPOSE):
                self._report.end(stage, key=self._key, note=f"{composed.frames} frames")
            return self._rendered(self._output, composed)
        if "error" in last:
            error = MoltsError(last["error"], code=last["code"], attr=last["attr"])
            raise StageFailed(StageName(last["stage"]), error, again=last["again"])
        raise StageFailed(StageName.LIPSYNC, Unavailable("The process that renders crashed.", code="crashed"))

    # -- speech --------------------------------------------------------------------------------------------------------
    async def _speak(self, pipe: asyncio.StreamWriter | None) -> None:
        """Speak all scenes into the child's pipe. One that is gone says why elsewhere."""
        report, keys = self._report, []
        report.begin(StageName.SPEECH, "Making the voice")
        pieces = PieceFolder(self._folder)
        try:
            for scene, voices in zip(self._spec.scenes, self._voices, strict=True):
                async for piece in speak_scene(scene, voices.rungs, pieces):
                    self._pieces.append(piece)
                    if piece.text:
                        report.spoken[piece.key] = SpokenWords(
                            piece.provider, piece.model, len(piece.text), piece.seconds
                        )
                    keys.append(piece.key)
                    if self._seconds > self._spec.max_seconds:
                        raise TooLarge(f"The video is longer than {self._spec.max_seconds:g} s.", attr="script")
                    await _send(pipe, HEADER.pack(len(piece.samples)) + piece.samples.tobytes())
                await _send(pipe, HEADER.pack(END_OF_SCENE))
        except MoltsError as error:
            raise StageFailed(StageName.SPEECH, error) from error
        if pipe is not None:
            with suppress(ConnectionError):
                pipe.close()
        self._is_spoken = True
        spoken = [piece for piece in self._pieces if piece.text]
        report.end(
            StageName.SPEECH,
            key=hashlib.sha256("".join(keys).encode()).hexdigest()[:32],
            note=f"{len(spoken)} pieces, {self._seconds:.1f} s",
            reused=all(piece.reused for piece in spoken),
        )

    @property
    def _seconds(self) -> float:
        return sum(piece.seconds for piece in self._pieces)

    # -- the child -----------------------------------------------------------------------------------------------------
    async def _listen(self, child: asyncio.subprocess.Process) -> dict[str, Any]:
        """The child's last line."""
        assert child.stdout is not None
        self._report.begin(StageName.LIPSYNC)
        last: dict[str, Any] = {}
        async for line in child.stdout:
            last = json.loads(line)
            if "text" in last:
                self._tell(last)
        return last

    def _request(self) -> RenderRequest:
        config = engine_config()
        return RenderRequest(
            faces=tuple(
                SceneFace(
                    engine=ENGINES[scene.avatar.engine],
                    key=face.key,
                    portrait=str(face.portrait) if face.portrait else "",
                    options=face.options,
                )
                for scene, face in zip(self._spec.scenes, self._faces, strict=True)
            ),
            output=str(self._output),
            width=self._spec.width,
            height=self._spec.height,
            fps=self._spec.fps,
            cache=str(settings.MOLTS_DATA_DIR / "faces"),
            config={**asdict(config), "run_dir": str(config.run_dir), "addresses": dict(config.addresses)},
            threads=min(4, usable_cores()),
        )

    def _tell(self, said: Mapping[str, Any]) -> None:
        """Progress is what is shown of what will be: how long that is, is guessed until all is spoken."""
        shown, prepared = float(said["shown"]), said["prepared"]
        total = self._seconds if self._is_spoken else max(self._expected, self._seconds)
        seconds_left = None
        if shown > 0:
            self._report.begin(StageName.COMPOSE)
            self._rendering_since = self._rendering_since or time.monotonic()
            took = time.monotonic() - self._rendering_since
            if took > 1:
                seconds_left = max(0.0, took / shown * (total - shown))
        text = said["text"] if prepared is None else f"{said['text']}: {100 * prepared:.0f} %"
        self._report.tell(text, RENDERED * min(1.0, shown / max(total, 0.04)), seconds_left)

    async def _watch(self, child: asyncio.subprocess.Process) -> StageFailed:
        """Returns why the child has to be ended; never while it need not."""
        started = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._report.dropped.is_set():
                return StageFailed(StageName.LIPSYNC, Unavailable("Nobody wants it any more.", code="cancelled"))
            if memory_of(child.pid) > MOST_MEMORY:
                text = f"Rendering took more than {MOST_MEMORY >> 30} GB of memory."
                return StageFailed(StageName.LIPSYNC, Unavailable(text, code="too_much_memory"), again=False)
            most = PREPARE_SECONDS * len(self._faces) + SLOWEST * max(self._expected, self._seconds)
            most = min(most, LONGEST_SECONDS)
            if time.monotonic() - started > most:
                text = f"The video was not done within {most:.0f} s."
                return StageFailed(StageName.LIPSYNC, Unavailable(text, code="too_slow"), again=False)

    # -- what is kept --------------------------------------------------------------------------------------------------
    def _done_before(self) -> tuple[Path, Composed] | None:
        with suppress(FileNotFoundError):
            name, composed = json.loads(self._done.read_text())
            if (output := self._folder / name).exists():
                return output, Composed(**composed)
        return None

    def _keep_done(self, composed: Composed) -> None:
        """Written last: where it is, the video is whole."""
        part = self._done.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps([self._output.name, asdict(composed)]))
        part.replace(self._done)

    def _rendered(self, output: Path, composed: Composed) -> RenderedVideo:
        return RenderedVideo(
            file=output,
            thumbnail=output.with_suffix(".jpg"),
            composed=composed,
            pieces=tuple(self._pieces),
            key=self._key,
        )


async def _send(pipe: asyncio.StreamWriter | None, data: bytes) -> None:
    if pipe is not None:
        with suppress(ConnectionError):
            pipe.write(data)
            await pipe.drain()
