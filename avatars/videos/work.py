"""What a maker is given and what it gives back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from avatars.videos.models import VideoJob
from avatars.videos.report import VideoReport


@dataclass
class Work:
    """One attempt at a job. `folder` is gone afterwards; `dropped` is set when nobody wants the job any more, or
    another worker has it."""

    job: VideoJob
    folder: Path
    report: VideoReport = field(default_factory=VideoReport)

    @property
    def dropped(self) -> threading.Event:
        return self.report.dropped

    def tell(self, stage: str, progress: float = 0.0) -> None:
        """Say how far it is; the row has it within a second."""
        self.report.text, self.report.progress = stage, progress


@dataclass(frozen=True)
class Made:
    """A clip. `suffix` is that of its file name."""

    clip: bytes
    suffix: str
    media_type: str


@dataclass(frozen=True)
class MadeVideo:
    """A video of an agent, as files that are still to be published."""

    file: Path
    thumbnail: Path
    duration: float
