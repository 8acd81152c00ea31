"""What a video is to be: fixed when it is ordered, so that later edits of the agent change nothing in it.

Rows keep it as JSON. It holds no secret: a key is named by its id. To store more, give it a field with a default; where
a part becomes another one, raise `version` and read both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avatars.snapshots import AvatarSnapshot, Rung

RESOLUTIONS: Mapping[str, int] = {"512p": 512, "720p": 720, "1080p": 1080}
"""Pixels of the shorter side."""
ASPECTS: Mapping[str, tuple[int, int]] = {"1:1": (1, 1), "16:9": (16, 9), "9:16": (9, 16), "4:5": (4, 5), "5:4": (5, 4)}
LONGEST_PAUSE = 10.0
PAUSE = re.compile(r"<break\s+time\s*=\s*[\"'](\d+(?:\.\d+)?|\.\d+)\s*(ms|s)[\"']\s*/?>", re.IGNORECASE)
"""A pause in a script, as SSML writes it: `<break time="1.5s"/>`."""
NO_PAUSE = re.compile(r"</?break\b", re.IGNORECASE)
"""What was meant as one and is none."""


class ScriptPause(BaseModel):
    """Silence in a script."""

    model_config = ConfigDict(frozen=True)

    seconds: float


class Scene(BaseModel):
    """One face that says one script. `voices` is the chain that speaks it, best first."""

    model_config = ConfigDict(frozen=True)

    script: str
    language: str
    voices: tuple[Rung, ...]
    avatar: AvatarSnapshot

    def parts(self) -> Iterator[str | ScriptPause]:
        """The script's texts and pauses, in order."""
        start = 0
        for match in PAUSE.finditer(self.script):
            if text := self.script[start : match.start()].strip():
                yield text
            seconds = float(match[1]) / (1000 if match[2].lower() == "ms" else 1)
            yield ScriptPause(seconds=min(seconds, LONGEST_PAUSE))
            start = match.end()
        if text := self.script[start:].strip():
            yield text


class VideoSpec(BaseModel):
    """One video. Its scenes follow on each other; all are of one size."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    scenes: tuple[Scene, ...] = Field(min_length=1)
    width: int
    height: int
    fps: Literal[25, 30] = 25
    max_seconds: float = 600.0

    def as_json(self) -> dict[str, Any]:
        """What rows keep."""
        return self.model_dump(mode="json")


def frame_size(resolution: str, aspect: str) -> tuple[int, int]:
    """Width and height in pixels, both even: ("720p", "16:9") is 1280 x 720."""
    short = RESOLUTIONS[resolution]
    across, down = ASPECTS[aspect]
    unit = short / min(across, down)
    return _even(across * unit), _even(down * unit)


def _even(pixels: float) -> int:
    return 2 * round(pixels / 2)
