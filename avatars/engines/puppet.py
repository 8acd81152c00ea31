"""Original characters drawn for this project: they speak on any machine, without a model and without a GPU."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from pydantic import Field, field_validator

from avatars.characters import CHARACTERS, get_artist
from avatars.engines.atlas import Atlas, is_drawn, open_atlas
from avatars.engines.base import EngineOptions, Face, LipSyncEngine, LipSyncStream, Progress, VideoFormat
from avatars.engines.cache import cache_folder
from avatars.engines.pose_stream import PoseStream
from avatars.engines.poses import Artist


class PuppetOptions(EngineOptions):
    """Which character, and how lively."""

    character: str = Field(
        next(iter(CHARACTERS)), title="Character", description="Who it is.", json_schema_extra={"enum": [*CHARACTERS]}
    )
    motion: float = Field(
        1.0, ge=0.0, le=1.0, title="Motion", description="How far the head moves, from nearly still to lively."
    )

    @field_validator("character")
    @classmethod
    def _is_drawn(cls, character: str) -> str:
        if character not in CHARACTERS:
            raise ValueError(f"there is no character {character!r}, choose one of {', '.join(CHARACTERS)}")
        return character


class PuppetEngine(LipSyncEngine):
    key: ClassVar[str] = "puppet"
    label: ClassVar[str] = "Drawn character"
    description: ClassVar[str] = (
        "A character drawn for molts: speaks on any machine and needs no GPU, model or picture."
    )
    options: ClassVar[type[EngineOptions]] = PuppetOptions

    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        self._atlas(face, video, progress)

    def is_prepared(self, face: Face, video: VideoFormat) -> bool:
        return is_drawn(self._artist(face), video.width, video.height, folder=cache_folder("poses"))

    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        options = self._options(face)
        atlas = await asyncio.to_thread(self._atlas, face, video, None)
        return PoseStream(atlas, video, motion=options.motion, seed=random.randrange(1 << 30))  # noqa: S311

    def _options(self, face: Face) -> PuppetOptions:
        options = self.parse_options(face.options)
        assert isinstance(options, PuppetOptions)
        return options

    def _artist(self, face: Face) -> Artist:
        return get_artist(self._options(face).character)

    def _atlas(self, face: Face, video: VideoFormat, progress: Progress | None) -> Atlas:
        artist = self._artist(face)
        return open_atlas(artist, video.width, video.height, folder=cache_folder("poses"), progress=progress)
