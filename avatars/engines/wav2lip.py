"""`wav2lip`: any portrait, its mouth made by the Wav2Lip model in an engine host of this machine."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from avatars.engines.base import (
    EngineHealth,
    EngineOptions,
    Face,
    LipSyncEngine,
    LipSyncStream,
    Progress,
    VideoFormat,
)
from avatars.engines.config import engine_config
from avatars.engines.host import launch
from avatars.engines.host.stream import open_host_stream
from molts.errors import BadInput

KEY = "wav2lip"
MOST_PIXELS = 40_000_000
SMALLEST_FACE = 64  # pixels
MEND = (
    "Export the weights that its authors publish (for research and personal use only) to ONNX and set "
    "MOLTS_WAV2LIP_MODEL to the file; docs/engines.md says how."
)

Share = Annotated[float, Field(ge=0, le=1)]
Box = tuple[float, float, float, float]


class Wav2LipOptions(EngineOptions):
    box: tuple[Share, Share, Share, Share] | None = Field(
        default=None,
        title="Face",
        description="Where the face is, as left, top, right, bottom, each a share of the picture from 0 to 1; from "
        "above the eyebrows to just below the chin. Empty: found by itself.",
    )

    @field_validator("box")
    @classmethod
    def _in_order(cls, box: Box | None) -> Box | None:
        if box is not None and (box[2] - box[0] < 0.02 or box[3] - box[1] < 0.02):
            raise ValueError("left, top, right, bottom, in this order")
        return box


class Wav2Lip(LipSyncEngine):
    key = KEY
    label = "Wav2Lip"
    description = (
        "Moves the mouth of any portrait with a neural network. Blurrier than the others, and the least demanding."
    )
    options: ClassVar[type[EngineOptions]] = Wav2LipOptions
    needs_portrait = True

    def check_face(self, face: Face) -> None:
        self._box(face)

    def health(self) -> EngineHealth:
        state = launch.ask(KEY)
        if state is not None:
            return launch.as_health(state)
        if KEY in engine_config().addresses:
            return EngineHealth(False, f"nobody answers at {launch.address_of(KEY)}", "Start its engine host there.")
        model = engine_config().wav2lip_model
        if not model:
            return EngineHealth(False, "has no weights", MEND)
        if not Path(model).expanduser().exists():
            return EngineHealth(False, f"there is no {model}", MEND)
        return EngineHealth(True, "starts with the first conversation")

    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        self._box(face)
        self._start()

    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        box = await asyncio.to_thread(self._box, face)
        await asyncio.to_thread(self._start)
        assert face.portrait is not None
        return await open_host_stream(
            launch.address_of(KEY),
            label=self.label,
            video=video,
            key=face.key,
            portrait=await asyncio.to_thread(face.portrait.read_bytes),
            options={"box": box},
            secret=engine_config().secret,
        )

    def _start(self) -> None:
        config = engine_config()
        if KEY not in config.addresses:
            launch.start(KEY, {"model": config.wav2lip_model, "threads": str(config.wav2lip_threads)})

    def _box(self, face: Face) -> Box:
        options = self.parse_options(face.options)
        assert isinstance(options, Wav2LipOptions)
        picture = read_portrait(face.portrait)
        return options.box or find_box(picture)


def read_portrait(path: Path | None) -> NDArray[np.uint8]:
    """(height, width), grey. Raises BadInput."""
    from PIL import Image

    if path is None:
        raise BadInput("This engine needs a portrait.", attr="portrait")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise BadInput(
                    f"The portrait has {picture.width}x{picture.height} pixels: at most {MOST_PIXELS / 1e6:.0f} M.",
                    attr="portrait",
                )
            return np.asarray(picture.convert("L"))
    except (OSError, Image.DecompressionBombError) as error:
        raise BadInput("The portrait is not a picture that can be read.", attr="portrait") from error


def find_box(picture: NDArray[np.uint8]) -> Box:
    """Where the only face is, as Wav2Lip was trained to see it: eyebrows to chin. Raises BadInput."""
    import cv2

    scale = min(1.0, 1000 / max(picture.shape))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    smallest = max(24, min(small.shape) // 12)
    found: Any = _cascade().detectMultiScale(cv2.equalizeHist(small), 1.1, 6, minSize=(smallest, smallest))
    if len(found) == 0:
        raise BadInput("No face was found in the portrait: mark it by hand (option `box`).", attr="portrait")
    found = sorted(found, key=lambda box: -box[2])
    if len(found) > 1 and found[1][2] > 0.6 * found[0][2]:
        raise BadInput(
            f"{len(found)} faces were found in the portrait: mark one by hand (option `box`).", attr="portrait"
        )
    left, top, width, height = (side / scale for side in found[0])
    if width < SMALLEST_FACE:
        raise BadInput(f"The face is only {width:.0f} pixels wide: at least {SMALLEST_FACE}.", attr="portrait")
    # The cascade's square is wider than the face and ends at the chin.
    edges = (left + 0.09 * width, top + 0.08 * height, left + 0.91 * width, top + 1.1 * height)
    sides = (picture.shape[1], picture.shape[0]) * 2
    shares = [min(1.0, max(0.0, edge / side)) for edge, side in zip(edges, sides, strict=True)]
    return shares[0], shares[1], shares[2], shares[3]


@cache
def _cascade() -> Any:
    import cv2

    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))
