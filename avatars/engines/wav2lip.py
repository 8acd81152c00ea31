"""`wav2lip`: any portrait, its mouth made by the Wav2Lip model in an engine host of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from avatars.engines.base import (
    EngineFailed,
    EngineHealth,
    EngineOptions,
    Face,
    LipSyncEngine,
    LipSyncStream,
    Need,
    Progress,
    VideoFormat,
)
from avatars.engines.config import engine_config
from avatars.engines.host import launch
from avatars.engines.host.stream import open_host_stream
from avatars.engines.marked import FractionBox, FractionPoint
from molts.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avatars.engines.faces.framing import Framed

KEY = "wav2lip"
HALF_WIDTH, ABOVE_EYES, BELOW_CHIN = 1.1, 0.75, 0.1
"""How far the face goes, in distances between the pupils."""
MEND = (
    "Export the weights that its authors publish (for research and personal use only) to ONNX and set "
    "MOLTS_WAV2LIP_MODEL to the file; docs/engines.md says how."
)

MarkedBox = tuple[float, float, float, float]


class Wav2LipOptions(EngineOptions):
    """Where the face is when it is not found by itself, in shares of the picture: the same marks as `portrait` has."""

    face: FractionBox | None = Field(
        default=None,
        title="Face",
        description="Left, top, width and height of the face, for pictures with several faces or none that is found.",
    )
    eyes: tuple[FractionPoint, FractionPoint] | None = Field(
        default=None, title="Eyes", description="Left and right pupil."
    )
    chin: FractionPoint | None = Field(default=None, title="Chin", description="Its lowest point.")


class Wav2LipEngine(LipSyncEngine):
    key = KEY
    label = "Wav2Lip"
    description = (
        "Moves the mouth of any portrait with a neural network. Blurrier than the others, and the least demanding."
    )
    options: ClassVar[type[EngineOptions]] = Wav2LipOptions
    needs_portrait = True
    needs = (
        Need("the model's weights as an ONNX file", ("MOLTS_WAV2LIP_MODEL",)),
        Need("an NVIDIA GPU for conversations; videos do without"),
    )
    has_host = True

    def check_face(self, face: Face) -> None:
        self._frame(face, VideoFormat())

    def health(self) -> EngineHealth:
        state = launch.ask(KEY)
        if KEY in engine_config().addresses:
            if state is not None:
                return launch.as_health(state)
            return EngineHealth(False, f"nobody answers at {launch.address_of(KEY)}", "Start its engine host there.")
        if lacks := _what_lacks():
            return EngineHealth(False, lacks, MEND)
        if why := launch.trouble(KEY, _settings(), state):
            return EngineHealth(False, why, f"{MEND} Another file or setting is tried at once.")
        if state is not None and not state.get("code"):
            return launch.as_health(state)
        return EngineHealth(True, "starts with the first conversation")

    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        self._frame(face, video)
        self._start()

    def still(self, face: Face, video: VideoFormat) -> NDArray[np.uint8]:
        return self._framed(face, video).picture

    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        portrait, box = await asyncio.to_thread(self._frame, face, video)
        await asyncio.to_thread(self._start)
        return await open_host_stream(
            launch.address_of(KEY),
            label=self.label,
            video=video,
            key=face.key,
            portrait=portrait,
            options={"box": box},
            secret=engine_config().secret,
        )

    def _start(self) -> None:
        if KEY in engine_config().addresses:
            return
        if lacks := _what_lacks():
            raise EngineFailed(f"{self.label}: {lacks}. {MEND}")
        launch.start(KEY, _settings())

    def _frame(self, face: Face, video: VideoFormat) -> tuple[bytes, MarkedBox]:
        """The portrait framed for the video, as PNG, and the face in it. Raises BadInput."""
        import cv2

        framed = self._framed(face, video)
        _, data = cv2.imencode(".png", cv2.cvtColor(framed.picture, cv2.COLOR_RGB2BGR))
        return data.tobytes(), face_box(framed, video)

    def _framed(self, face: Face, video: VideoFormat) -> Framed:
        from avatars.engines.faces.framing import frame
        from avatars.engines.faces.marks import MarksByHand, find_face
        from avatars.engines.faces.picture import read_picture

        options = self.parse_options(face.options)
        assert isinstance(options, Wav2LipOptions)
        if face.portrait is None:
            raise BadInput("This engine needs a picture: upload a photo of a face.", attr="portrait")
        picture = read_picture(face.portrait)
        marks = find_face(picture, MarksByHand(box=options.face, eyes=options.eyes, chin=options.chin))
        return frame(picture, marks, width=video.width, height=video.height)


def _settings() -> dict[str, str]:
    return {"model": engine_config().wav2lip_model, "threads": str(engine_config().wav2lip_threads)}


def _what_lacks() -> str:
    """What no host can do without; "" when all is there."""
    model = engine_config().wav2lip_model
    if not model:
        return "has no weights"
    return "" if Path(model).expanduser().exists() else f"there is no {model}"


def face_box(framed: Framed, video: VideoFormat) -> MarkedBox:
    """The face as Wav2Lip was trained to see it, brows to chin: left, top, right, bottom as shares of the frame."""
    ruler, chin = framed.marks.ruler, framed.marks.chin
    across, down = (ruler.left_eye + ruler.right_eye) / 2
    edges = (
        (across - HALF_WIDTH * ruler.ipd) / video.width,
        (down - ABOVE_EYES * ruler.ipd) / video.height,
        (across + HALF_WIDTH * ruler.ipd) / video.width,
        (chin[1] + BELOW_CHIN * ruler.ipd) / video.height,
    )
    left, top, right, bottom = (min(1.0, max(0.0, float(edge))) for edge in edges)
    return left, top, right, bottom
