"""Ditto: its `StreamSDK` in online mode, which takes 6,480 samples (three frames before, five now, two after, and 80)
every 3,200 and gives RGB frames to its writer from a thread of its own.

Facts: frame n belongs to samples 640 n and on; the first come some 20 frames late, and at the end more silence must be
given until all have come. Each conversation has its own StreamSDK, since it holds the conversation's state and threads.
"""

from __future__ import annotations

import importlib
import os
import queue
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .model import Face, Model, ModelError, Session, Video
from .pictures import decode

FRAME = 640
CHUNKSIZE = (3, 5, 2)
CHUNK = sum(CHUNKSIZE) * FRAME + 80  # 6480
STRIDE = CHUNKSIZE[1] * FRAME
MOST_SILENCE = 8  # chunks after an utterance: 40 frames, of which some 25 are Ditto's delay
LOOK = np.zeros(0, np.float32)
WAIT_SECONDS = 0.02
FRAME_SECONDS = 8.0


class Ditto(Model):
    name = "ditto"
    label = "Ditto"
    lookahead = 1.0
    batch = 4
    remembers = True
    frames_per_job = 5
    frame_seconds = FRAME_SECONDS
    most_sessions = 8
    environment = {"cfg_pkl": "DITTO_CFG_PKL", "data_root": "DITTO_DATA_ROOT", "slots": "DITTO_SLOTS"}
    defaults: Mapping[str, str] = {
        "cfg_pkl": "./checkpoints/ditto_cfg/v0.4_hubert_cfg_trt_online.pkl",
        "data_root": "./checkpoints/ditto_trt_Ampere_Plus",
        "module": "stream_pipeline_online",
    }

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._kind: Any = None
        self._free: list[Any] = []

    def load(self) -> None:
        try:
            self._kind = importlib.import_module(self.settings["module"]).StreamSDK
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"Ditto was not found ({error}): start this in ditto-talkinghead's folder, with its Python.",
                "missing",
            ) from error
        for setting, variable in (("cfg_pkl", "DITTO_CFG_PKL"), ("data_root", "DITTO_DATA_ROOT")):
            if not os.path.exists(self.settings[setting]):
                raise ModelError(f"There is no {self.settings[setting]}: set {variable}.", "missing")
        self._free.append(self._kind(self.settings["cfg_pkl"], self.settings["data_root"]))

    def open(self, face: Face, video: Video) -> Session:
        if video.fps != 25:
            raise ModelError(f"Ditto makes 25 frames a second, {video.fps:.1f} were asked for.")
        if not face.portrait:
            raise ModelError("Ditto needs a portrait.", "bad_face")
        sdk = self._free.pop() if self._free else self._kind(self.settings["cfg_pkl"], self.settings["data_root"])
        return DittoSession(sdk, face, self._free.append)

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        results: list[Sequence[Any]] = []
        for session, job in jobs:
            assert isinstance(session, DittoSession)
            results.append(session.run(job))
        return results


class Sink:
    """Stands where StreamSDK has its video writer."""

    def __init__(self) -> None:
        self.frames: queue.Queue[Any] = queue.Queue(200)

    def __call__(self, frame: Any, fmt: str = "bgr") -> None:
        if fmt == "bgr":
            frame = frame[..., ::-1]
        with_room = time.monotonic() + 30
        while True:
            try:
                self.frames.put(np.array(frame), timeout=1)
                return
            except queue.Full:
                if time.monotonic() > with_room:
                    return

    def close(self) -> None:
        pass


class DittoSession(Session):
    """Feeds one StreamSDK. Every frame that was asked for has a label in order: wanted, or made of silence or
    interrupted speech and to be dropped when it comes."""

    def __init__(self, sdk: Any, face: Face, give_back: Any) -> None:
        self._sdk = sdk
        self._give_back = give_back
        self._folder = tempfile.TemporaryDirectory(prefix="molts-ditto-")
        source = os.path.join(self._folder.name, "portrait.png")
        with open(source, "wb") as file:
            file.write(face.portrait)
        self.idle = [decode(face.portrait)]
        self._labels: deque[list[bool]] = deque()  # one-element lists, so that `reset` can change them
        self._sink = Sink()
        try:
            sdk.setup(source, os.path.join(self._folder.name, "unused"), online_mode=True, fps=25)
            sdk.writer.close()
        except Exception:
            self._folder.cleanup()
            raise
        sdk.writer = self._sink
        sdk.setup_Nd(N_d=1_000_000)
        self._sound = np.zeros(CHUNKSIZE[0] * FRAME, np.float32)
        self._clean()

    def _clean(self) -> None:
        self._samples = 0  # of this utterance that were not given a label yet
        self._finished = False
        self._silence = 0
        self._last_came = time.monotonic()

    def push(self, samples: Any) -> None:
        self._sound = np.concatenate([self._sound, samples])
        self._samples += len(samples)

    def finish(self) -> None:
        self._finished = True
        self._last_came = time.monotonic()

    def _pending(self) -> bool:
        return any(label[0] for label in self._labels)

    def next_job(self) -> Any:
        """A chunk of sound, or an empty one: see whether frames have come."""
        if len(self._sound) < CHUNK:
            if self._finished and self._samples <= 0 and self._silence < MOST_SILENCE and self._pending():
                self._silence += 1
            elif not self._finished or self._samples <= 0:
                return LOOK if self._pending() else None
            self._sound = np.pad(self._sound, (0, CHUNK - len(self._sound)))
        chunk, self._sound = self._sound[:CHUNK], self._sound[STRIDE:]
        for _ in range(CHUNKSIZE[1]):
            self._labels.append([self._samples > 0])
            self._samples = max(0, self._samples - FRAME)
        return chunk

    def run(self, chunk: Any) -> list[Any]:
        """Give Ditto the chunk; the wanted ones among the frames that have come."""
        if len(chunk):
            self._sdk.run_chunk(chunk, CHUNKSIZE)
        trouble = getattr(self._sdk, "worker_exception", None)
        if trouble is not None:
            raise ModelError(f"Ditto failed: {type(trouble).__name__}: {trouble}")
        wanted: list[Any] = []
        try:
            while self._labels:
                frame = self._sink.frames.get(timeout=0 if wanted else WAIT_SECONDS)
                self._last_came = time.monotonic()
                if self._labels.popleft()[0]:
                    wanted.append(frame)
        except queue.Empty:
            pass
        if self._finished and self._pending() and time.monotonic() - self._last_came > FRAME_SECONDS:
            raise ModelError(f"Ditto gave no frame for {FRAME_SECONDS:.0f} s.")
        return wanted

    def reset(self) -> None:
        for label in self._labels:
            label[0] = False
        self._sound = np.zeros(CHUNKSIZE[0] * FRAME, np.float32)
        self._clean()

    def close(self) -> None:
        try:
            self._sdk.close()
            self._give_back(self._sdk)
        finally:
            self._folder.cleanup()
