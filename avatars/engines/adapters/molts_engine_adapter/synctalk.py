"""SyncTalk: its `StreamingInference.process_audio_chunk`, which takes 1,280 samples (16 kHz, mono, float32) and returns
the frames that they complete (two, once it has its 0.32 s of look-ahead), each (height, width, 3) uint8 RGB.

Run in SyncTalk's own folder and environment. The trained face is the one of SYNCTALK_DATA_PATH and SYNCTALK_WORKSPACE;
a face whose `character` option names another uses the folders of that name beside those.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .model import Chunks, Face, Model, ModelError, Session, Video

CHUNK = 1280
LOOKAHEAD = 0.32
STATE = ("audio_buffer", "mel_buffer", "feature_buffer", "frame_counter")
"""What process_audio_chunk keeps of a conversation: changed before each call, so that all share one model."""


class SyncTalk(Model):
    name = "synctalk"
    label = "SyncTalk"
    lookahead = LOOKAHEAD
    batch = 8
    remembers = True
    frames_per_job = 2
    environment = {
        "data_path": "SYNCTALK_DATA_PATH",
        "workspace": "SYNCTALK_WORKSPACE",
        "portrait": "SYNCTALK_PORTRAIT",
        "torso": "SYNCTALK_TORSO",
        "width": "AVATAR_WIDTH",
        "height": "AVATAR_HEIGHT",
        "fps": "AVATAR_FPS",
        "module": "SYNCTALK_MODULE",
    }
    defaults: Mapping[str, str] = {
        "data_path": "data/May",
        "workspace": "model/trial_may",
        "portrait": "true",
        "torso": "false",
        "width": "512",
        "height": "512",
        "fps": "25",
        "module": "streaming_inference",
    }

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._kind: Any = None
        self._characters: dict[str, Any] = {}

    def load(self) -> None:
        if self.settings["fps"] != "25":
            raise ModelError("SyncTalk makes 25 frames a second: leave AVATAR_FPS at 25.", "missing")
        try:
            self._kind = importlib.import_module(self.settings["module"]).StreamingInference
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"SyncTalk was not found ({error}): start this in SyncTalk's folder, with its Python.", "missing"
            ) from error
        self.character("")

    def character(self, name: str) -> Any:
        """The trained face `name` (empty: the one of the settings), loaded once."""
        if name not in self._characters:
            if name and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ModelError(f"{name!r} is no name of a character.", "bad_face")
            data, workspace = self.settings["data_path"], self.settings["workspace"]
            if name:
                data = os.path.join(os.path.dirname(data), name)
                workspace = os.path.join(os.path.dirname(workspace), "trial_" + name.lower())
            for folder in (data, workspace):
                if not os.path.isdir(folder):
                    raise ModelError(
                        f"SyncTalk's folder {folder} does not exist: set SYNCTALK_DATA_PATH and SYNCTALK_WORKSPACE.",
                        "bad_face" if name else "missing",
                    )
            self._characters[name] = self._kind(
                data_path=data,
                workspace=workspace,
                portrait=is_yes(self.settings["portrait"]),
                torso=is_yes(self.settings["torso"]),
                W=int(self.settings["width"]),
                H=int(self.settings["height"]),
                fps=25,
            )
        return self._characters[name]

    def open(self, face: Face, video: Video) -> Session:
        if video.fps != 25:
            raise ModelError(f"SyncTalk makes 25 frames a second, {video.fps:.1f} were asked for.")
        return SyncTalkSession(self.character(str(face.options.get("character") or "")))

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        results: list[Sequence[Any]] = []
        for session, chunk in jobs:
            assert isinstance(session, SyncTalkSession)
            results.append(session.process(chunk))
        return results

    def measure(self) -> float:
        video = Video(int(self.settings["width"]) // 2 * 2, int(self.settings["height"]) // 2 * 2, 25)
        return self.measure_with(Face(), video)


class SyncTalkSession(Chunks):
    """What StreamingInference remembers of one conversation."""

    def __init__(self, inference: Any) -> None:
        super().__init__(CHUNK, int(LOOKAHEAD * 16_000) + CHUNK)
        self._inference = inference
        self._renew()
        silence = np.zeros(CHUNK, np.float32)
        frames: list[Any] = []
        for _ in range(16):  # it needs eight features before the first frame
            frames = self.process(silence)
            if frames:
                break
        if not frames:
            raise ModelError("SyncTalk gave no frame for 1.3 s of silence.")
        self.idle = frames[:1]
        self._renew()

    def _renew(self) -> None:
        self._inference.reset_streaming_buffers()
        missing = [name for name in STATE if not hasattr(self._inference, name)]
        if missing:
            raise ModelError(
                "This SyncTalk's StreamingInference has no {}: it cannot be shared.".format(", ".join(missing))
            )
        self._state = {name: getattr(self._inference, name) for name in STATE}

    def process(self, chunk: Any) -> list[Any]:
        for name, value in self._state.items():
            setattr(self._inference, name, value)
        frames = self._inference.process_audio_chunk(chunk)
        self._state = {name: getattr(self._inference, name) for name in STATE}
        return list(frames)

    def reset(self) -> None:
        super().reset()
        self._renew()


def is_yes(word: str) -> bool:
    return word.strip().lower() in ("1", "true", "yes", "on")
