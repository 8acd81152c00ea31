"""What a maker is given and what it gives back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from avatars.videos.models import VideoJob


@dataclass
class Work:
    """One attempt at a job. `folder` is gone afterwards; `dropped` is set when nobody wants the job any more, or
    another worker has it."""

    job: VideoJob
    folder: Path
    stage: str = "Waiting"
    progress: float = 0.0
    dropped: threading.Event = field(default_factory=threading.Event)

    def tell(self, stage: str, progress: float = 0.0) -> None:
        """Say how far it is; the row has it within a second."""
        self.stage, self.progress = stage, progress


@dataclass(frozen=True)
class Made:
    """A video. `suffix` is that of its file name."""

    clip: bytes
    suffix: str
    media_type: str
