"""What a model must offer so that the engine host can serve it. One subclass of Model for each model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000


class ModelError(Exception):
    """The model cannot do it; the text goes to whoever asked. `code`: failed, full, bad_face or missing."""

    def __init__(self, text: str, code: str = "failed") -> None:
        super().__init__(text)
        self.code = code


class Video:
    """What was asked for: even width and height in pixels, frames a second."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.width = width
        self.height = height
        self.fps = fps


class Face:
    """Who is to speak: the portrait's encoded bytes (may be empty) and the engine's options for it."""

    def __init__(self, key: str = "", portrait: bytes = b"", options: Mapping[str, Any] | None = None) -> None:
        self.key = key
        self.portrait = portrait
        self.options = dict(options or {})


class Session:
    """One face in one conversation. All but `Model.render` is called in the host's loop and must be quick; it is never
    called while a job of this session is being rendered.
    """

    idle: Sequence[Any] = ()
    """Frames to show in a loop (forth and back) while it does not speak; at least one."""

    def push(self, samples: Any) -> None:
        """Speech: float32 between -1 and 1, mono, 16 kHz."""
        raise NotImplementedError

    def finish(self) -> None:
        """No more speech for this utterance."""
        raise NotImplementedError

    def next_job(self) -> Any:
        """The next piece of work for `Model.render`, or None: more speech is needed, or the utterance is done."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget this utterance: it is done, or the visitor interrupted."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what it holds."""


class Model:
    """A lip-sync model on one device. Everything but the attributes is called in one thread, the model's own."""

    name = ""
    label = ""
    live = True
    pixels = "rgb24"  # what `render` gives: rgb24 (height, width, 3) or i420 (flat, of the video's size)
    fps = 25.0
    lookahead = 0.0  # seconds of sound after a frame that must be known to make it
    batch = 8  # most jobs in one call
    jobs_at_once = 1  # of one session in one call
    remembers = False  # whether a job changes what its session remembers, so that none may be rendered a second time
    frames_per_job = 1
    most_sessions = 64
    audio_seconds = 10.0  # how much speech may wait
    frame_seconds = 5.0  # when a frame that is due counts as failed
    missing_frames = 5  # that many at the end of an utterance are made up for by repeating the last

    def __init__(self, settings: Mapping[str, str]) -> None:
        """`settings`: the values of --set and of the model's environment variables."""
        self.settings = dict(settings)

    def load(self) -> None:
        """Load the weights. Raises ModelError (code `missing`) with how to get what is missing."""

    def open(self, face: Face, video: Video) -> Session:
        """Raises ModelError (`bad_face`) when this face cannot be used."""
        raise NotImplementedError

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        """Frames of each job, in the order of the jobs; a stateful model may give them later than asked for."""
        raise NotImplementedError

    def measure(self) -> float | None:
        """Frames a second in full batches on this device; None where no face is at hand to try."""
        return None

    def measure_with(self, face: Face, video: Video, seconds: float = 1.5) -> float:
        """Frames a second with this face, on noise."""
        session = self.open(face, video)
        try:
            noise = np.random.default_rng(1).normal(0, 0.05, int((seconds + 2 * self.lookahead) * SAMPLE_RATE))
            session.push(noise.astype(np.float32))
            session.finish()
            count, started = 0, 0.0
            while True:
                jobs: list[tuple[Session, Any]] = []
                while len(jobs) < self.jobs_at_once:
                    job = session.next_job()
                    if job is None:
                        break
                    jobs.append((session, job))
                if not jobs:
                    break
                made = sum(len(frames) for frames in self.render(jobs))
                if started:  # the first call warms up
                    count += made
                else:
                    started = time.perf_counter()
            return count / max(time.perf_counter() - started, 1e-6) if started else 0.0
        finally:
            session.close()

    def close(self) -> None:
        """Free the device."""


class Chunks(Session):
    """Cuts speech into chunks of `size` samples for a model that takes them in turn, and feeds `tail` samples of
    silence after the end, so that a model that looks ahead gives its last frames too. A job is one chunk."""

    def __init__(self, size: int, tail: int) -> None:
        self._size = size
        self._tail = tail
        self._clean()

    def _clean(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._finished = False
        self._silence_left = 0

    def push(self, samples: Any) -> None:
        self._waiting = np.concatenate([self._waiting, samples])

    def finish(self) -> None:
        self._finished = True
        short = -len(self._waiting) % self._size
        self._waiting = np.concatenate([self._waiting, np.zeros(short + self._tail, np.float32)])

    def next_job(self) -> Any:
        if len(self._waiting) < self._size and not (self._finished and len(self._waiting)):
            return None
        chunk, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        return np.pad(chunk, (0, self._size - len(chunk)))

    def reset(self) -> None:
        self._clean()
