"""Engines for tests, loaded by the child process that renders clips: quick, and broken in chosen ways."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from avatars.engines.atlas import Atlas, open_atlas
from avatars.engines.base import EngineHealth, Face, LipSyncStream, Progress, VideoFormat
from avatars.engines.cache import cache_folder
from avatars.engines.puppet import PuppetEngine
from molts.errors import BadInput
from tests.avatars.engines.artist import RoundFace

HERE = "tests.avatars.stand_in"


class Round(PuppetEngine):
    """A few ellipses that speak."""

    def _atlas(self, face: Face, video: VideoFormat, progress: Progress | None) -> Atlas:
        return open_atlas(RoundFace(), video.width, video.height, folder=cache_folder("poses"), progress=progress)


class Faceless(Round):
    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        raise BadInput("No face was found in this picture.", attr="portrait")


class Crashing(Round):
    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        print("a library prints what it likes")
        os._exit(7)


class Endless(Round):
    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        time.sleep(600)


class NeedsPortrait(Round):
    needs_portrait: ClassVar[bool] = True


class Silent(Round):
    def health(self) -> EngineHealth:
        time.sleep(1)
        return EngineHealth(True, "ready")
