"""SadTalker: makes a whole video of a portrait and a sound file; for video jobs, not for conversations.

Facts: `src.gradio_demo.SadTalker(checkpoint_path, config_path, lazy_load=True).test(source_image, driven_audio, ...,
result_dir=...)` returns the path of an MP4 at 25 frames a second. It moves both files away, so it is given copies.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .model import SAMPLE_RATE, Face, Model, ModelError, Session, Video
from .pictures import decode

READ = 8  # frames of one job


class SadTalker(Model):
    name = "sadtalker"
    label = "SadTalker"
    live = False
    most_sessions = 4
    batch = 1
    remembers = True
    frames_per_job = READ
    audio_seconds = 600.0
    frame_seconds = 3600.0
    environment = {"checkpoints": "SADTALKER_CHECKPOINTS", "config": "SADTALKER_CONFIG"}
    defaults: Mapping[str, str] = {"checkpoints": "checkpoints", "config": "src/config", "module": "src.gradio_demo"}

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._talker: Any = None

    def load(self) -> None:
        if not os.path.isdir(self.settings["checkpoints"]):
            raise ModelError(
                "There is no {}: set SADTALKER_CHECKPOINTS.".format(self.settings["checkpoints"]), "missing"
            )
        try:
            kind = importlib.import_module(self.settings["module"]).SadTalker
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"SadTalker was not found ({error}): start this in SadTalker's folder, with its Python.", "missing"
            ) from error
        self._talker = kind(self.settings["checkpoints"], self.settings["config"], lazy_load=True)

    def open(self, face: Face, video: Video) -> Session:
        if video.fps != 25:
            raise ModelError(f"SadTalker makes 25 frames a second, {video.fps:.1f} were asked for.")
        return SadTalkerSession(self._talker, face)

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        results: list[Sequence[Any]] = []
        for session, sound in jobs:
            assert isinstance(session, SadTalkerSession)
            if sound is not None and len(sound):
                session.animate(sound)
            results.append(session.read())
        return results


class SadTalkerSession(Session):
    """One utterance at a time: collected whole, animated, then read from SadTalker's video as the client wants it."""

    def __init__(self, talker: Any, face: Face) -> None:
        self.idle = [decode(face.portrait)]
        self._talker = talker
        self._face = face
        self._video: Any = None
        self._folder: Any = None
        self._clean()

    def _clean(self) -> None:
        self._sound: list[Any] = []
        self._finished = self._begun = self._ended = False

    def push(self, samples: Any) -> None:
        self._sound.append(samples)

    def finish(self) -> None:
        self._finished = True

    def next_job(self) -> Any:
        """The sound the first time, then empty: read on."""
        if not self._finished or self._ended:
            return None
        if not self._begun:
            self._begun = True
            return np.concatenate(self._sound)
        return np.zeros(0, np.float32)

    def animate(self, sound: Any) -> None:
        import cv2

        self._folder = tempfile.mkdtemp(prefix="molts-sadtalker-")
        portrait, speech = os.path.join(self._folder, "portrait.png"), os.path.join(self._folder, "speech.wav")
        with open(portrait, "wb") as file:
            file.write(self._face.portrait)
        with wave.open(speech, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(SAMPLE_RATE)
            writer.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        options = self._face.options
        path = self._talker.test(
            portrait,
            speech,
            preprocess=str(options.get("preprocess") or "crop"),
            still_mode=bool(options.get("still", True)),
            use_enhancer=bool(options.get("enhance", False)),
            batch_size=2,
            size=int(options.get("size") or 256),
            pose_style=int(options.get("pose_style") or 0),
            exp_scale=float(options.get("expression") or 1.0),
            result_dir=os.path.join(self._folder, "results"),
        )
        if not path or not os.path.isfile(str(path)):
            raise ModelError("SadTalker gave no video; it found no face in the portrait, perhaps.", "bad_face")
        self._video = cv2.VideoCapture(str(path))

    def read(self) -> list[Any]:
        frames: list[Any] = []
        while len(frames) < READ:
            there, frame = self._video.read()
            if not there:
                self._ended = True
                break
            frames.append(np.ascontiguousarray(frame[:, :, ::-1]))
        return frames

    def reset(self) -> None:
        self._clean()
        self.close()

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
