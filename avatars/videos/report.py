"""How far a video is: told by what makes it, read from another thread by whoever writes it down or shows it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from avatars.videos.stages import StageName
from molts.errors import MoltsError


class StageFailed(MoltsError):
    """A stage could not do its work. `again` says that another attempt may succeed."""

    def __init__(self, stage: StageName, error: MoltsError, *, again: bool | None = None) -> None:
        super().__init__(error.detail, code=error.code, attr=error.attr)
        self.stage = stage
        self.http_status = error.http_status
        self.retryable = error.retryable if again is None else again


@dataclass
class StageReport:
    """One stage of one attempt. Times are of `time.time()`. `key` names what it made by all that it was made from;
    `reused`: an attempt before had made it."""

    started_at: float
    ended_at: float | None = None
    key: str = ""
    note: str = ""
    reused: bool = False


@dataclass(frozen=True)
class SpokenWords:
    """What a voice was used for."""

    provider: str
    model: str
    characters: int
    seconds: float


@dataclass
class VideoReport:
    """Everything that is told while a video is made. `dropped` is set by whoever does not want it any more."""

    stages: dict[StageName, StageReport] = field(default_factory=dict)
    text: str = "Waiting"
    progress: float = 0.0
    """Of the whole video, 0 to 1."""
    seconds_left: float | None = None
    spoken: dict[str, SpokenWords] = field(default_factory=dict)
    """By the keys of pieces: one that occurs twice was spoken once."""
    dropped: threading.Event = field(default_factory=threading.Event)

    def begin(self, stage: StageName, text: str = "") -> None:
        """A stage has begun; beginning it twice is beginning it once."""
        self.stages.setdefault(stage, StageReport(time.time()))
        self.text = text or self.text

    def end(self, stage: StageName, *, key: str = "", note: str = "", reused: bool = False) -> None:
        """A stage is done."""
        begun = self.stages.get(stage) or StageReport(time.time())
        self.stages[stage] = StageReport(begun.started_at, time.time(), key, note, reused)

    def tell(self, text: str, progress: float, seconds_left: float | None = None) -> None:
        """Say how far the video is. Progress never goes back."""
        self.text = text
        self.progress = max(self.progress, min(1.0, progress))
        self.seconds_left = seconds_left
