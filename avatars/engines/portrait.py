"""Any photo of a person speaks: its face is found in the picture, and the picture itself is bent."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from avatars.engines.atlas import Atlas, PosesOverlap, from_i420, is_drawn, open_atlas
from avatars.engines.base import EngineOptions, Face, LipSyncEngine, LipSyncStream, Progress, VideoFormat
from avatars.engines.cache import cache_folder
from avatars.engines.marked import FractionBox, FractionPoint
from avatars.engines.pose_stream import PoseStream
from molts.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avatars.engines.faces.artist import PortraitArtist


class PortraitOptions(EngineOptions):
    """How lively, and where the face is when it is not found by itself.

    Marks are fractions of the picture's width and height, (0, 0) its upper left corner; left and right are the
    picture's. What is not marked is found (`avatars.engines.faces.marks.find_face`, whose answer has these fields too).
    """

    motion: float = Field(
        1.0, ge=0.0, le=1.0, title="Motion", description="How far the head moves, from nearly still to lively."
    )
    face: FractionBox | None = Field(
        None,
        title="Face",
        description="Left, top, width and height of the face, for pictures with several faces or none that is found.",
    )
    eyes: tuple[FractionPoint, FractionPoint] | None = Field(None, title="Eyes", description="Left and right pupil.")
    mouth: tuple[FractionPoint, FractionPoint, FractionPoint, FractionPoint] | None = Field(
        None,
        title="Mouth",
        description="Left and right corner, then the middle of the inner edge of upper and lower lip: the same point"
        " twice when the lips are closed.",
    )
    chin: FractionPoint | None = Field(None, title="Chin", description="Its lowest point.")


class PortraitEngine(LipSyncEngine):
    key: ClassVar[str] = "portrait"
    label: ClassVar[str] = "Portrait photo"
    description: ClassVar[str] = "Any photo of a face speaks, on any machine: needs no GPU and no model."
    options: ClassVar[type[EngineOptions]] = PortraitOptions
    needs_portrait: ClassVar[bool] = True

    def check_face(self, face: Face) -> None:
        self._artist(face).check()

    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        self._atlas(face, video, progress)

    def is_prepared(self, face: Face, video: VideoFormat) -> bool:
        return is_drawn(self._artist(face), video.width, video.height, folder=cache_folder("poses"))

    def still(self, face: Face, video: VideoFormat) -> NDArray[np.uint8]:
        return from_i420(self._atlas(face, video, None).picture, video.width, video.height)

    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        atlas = await asyncio.to_thread(self._atlas, face, video, None)
        motion = self._options(face).motion
        return PoseStream(atlas, video, motion=motion, seed=random.randrange(1 << 30))  # noqa: S311

    def _options(self, face: Face) -> PortraitOptions:
        options = self.parse_options(face.options)
        assert isinstance(options, PortraitOptions)
        return options

    def _artist(self, face: Face) -> PortraitArtist:
        from avatars.engines.faces.artist import PortraitArtist
        from avatars.engines.faces.marks import MarksByHand

        if face.portrait is None:
            raise BadInput("This engine needs a picture: upload a photo of a face.", attr="portrait")
        options = self._options(face)
        return PortraitArtist(face.portrait, MarksByHand(options.face, options.eyes, options.mouth, options.chin))

    def _atlas(self, face: Face, video: VideoFormat, progress: Progress | None) -> Atlas:
        artist = self._artist(face)
        try:
            return open_atlas(artist, video.width, video.height, folder=cache_folder("poses"), progress=progress)
        except PosesOverlap as error:
            raise BadInput(
                "Eyes and mouth lie too close together in this picture. Mark them by hand, or use another picture.",
                attr="portrait",
            ) from error
