"""Models for tests of the host itself, given to it as `tests.avatars.engines.faulty:Class`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from avatars.engines.adapters.molts_engine_adapter.model import Chunks, Model, ModelError


class Session(Chunks):
    def __init__(self, number: int) -> None:
        super().__init__(640, 0)
        self.number = number
        self.idle = [np.full((64, 64, 3), 10, np.uint8)]


class Steady(Model):
    """A frame for each 640 samples, as bright as its session's number. Settings: seconds (a call takes), batch."""

    name = "steady"
    label = "Steady"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.batch = int(settings.get("batch", 8))
        self.frame_seconds = float(settings.get("frame_seconds", 5))
        self.opened = 0

    def load(self) -> None:
        time.sleep(float(self.settings.get("load", 0)))

    def open(self, face: Any, video: Any) -> Session:
        if face.options.get("bad"):
            raise ModelError("There is no such face.", "bad_face")
        self.opened += 1
        return Session(self.opened)

    def measure(self) -> float:
        return float(self.settings.get("speed", 100))

    def render(self, jobs: Any) -> list[Any]:
        time.sleep(float(self.settings.get("seconds", 0)))
        return [[np.full((64, 64, 3), 20 * session.number, np.uint8)] for session, _ in jobs]


class Unloadable(Steady):
    label = "Unloadable"

    def load(self) -> None:
        raise ModelError("Unloadable has no weights: get them.", "missing")


class TooFew(Steady):
    """Gives every other frame."""

    label = "TooFew"

    def render(self, jobs: Any) -> list[Any]:
        self.opened += 1
        return [frames if self.opened % 2 else [] for frames in super().render(jobs)]


class Remembering(Steady):
    """Each frame is as bright as the number of jobs its session has had. The second session fails in its third."""

    label = "Remembering"
    remembers = True

    def render(self, jobs: Any) -> list[Any]:
        time.sleep(float(self.settings.get("seconds", 0)))
        results = []
        for session, _ in jobs:
            session.jobs = getattr(session, "jobs", 0) + 1
            if session.number == 2 and session.jobs == 3:
                raise RuntimeError("CUDA out of memory")
            results.append([np.full((64, 64, 3), 5 * session.jobs, np.uint8)])
        return results
