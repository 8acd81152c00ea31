"""Pictures: decoding, fitting to the video's size, I420. With cv2 where the environment has it, else with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .model import ModelError

try:
    import cv2
except ImportError:  # most models' environments have it
    cv2 = None  # type: ignore[assignment]


def decode(data: bytes) -> Any:
    """(height, width, 3), uint8, RGB. Raises ModelError."""
    if cv2 is None:
        raise ModelError("This environment cannot read pictures: pip install opencv-python-headless.")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ModelError("The portrait is not a picture that can be read.", "bad_face")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def crop_to_fit(width: int, height: int, new_width: int, new_height: int) -> tuple[int, int, int, int]:
    """The largest part (left, top, right, bottom) in the middle of a picture that has the new size's shape."""
    scale = min(width / new_width, height / new_height)
    part_width, part_height = max(1, round(new_width * scale)), max(1, round(new_height * scale))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def fit(picture: Any, width: int, height: int) -> Any:
    """(height, width, 3): the middle of the picture, scaled."""
    if picture.shape[:2] == (height, width):
        return picture
    left, top, right, bottom = crop_to_fit(picture.shape[1], picture.shape[0], width, height)
    part = picture[top:bottom, left:right]
    if cv2 is not None:
        shrinks = part.shape[0] > height
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    rows = np.arange(height) * part.shape[0] // height
    columns = np.arange(width) * part.shape[1] // width
    return part[rows[:, None], columns]


def to_i420(picture: Any) -> Any:
    """(height * 3 / 2, width), uint8: Y, then U, then V; BT.601, video range. Even sides; needs cv2."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)


def check(frame: Any, label: str) -> Any:
    """Refuse what is no picture. Returns it contiguous. Raises ModelError that says what came and what was expected."""
    frame = np.asarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or min(frame.shape[:2]) < 16:
        raise ModelError(
            "{} gave a frame of shape {} and type {}; expected height x width x 3 of uint8 (RGB).".format(
                label, "x".join(str(side) for side in frame.shape) or "a number", frame.dtype
            )
        )
    return np.ascontiguousarray(frame)


def wire_pixels() -> str:
    """What RGB frames are sent as: half the bytes where the environment can convert."""
    return "i420" if cv2 is not None else "rgb24"


def to_wire(frame: Any, label: str, width: int, height: int) -> Any:
    """An RGB frame of any size as it is sent: I420 or RGB24 (`wire_pixels`) of the video's size."""
    fitted = fit(check(frame, label), width, height)
    return to_i420(fitted) if cv2 is not None else fitted


def frame_bytes(pixels: str, width: int, height: int) -> int:
    return width * height * 3 // 2 if pixels == "i420" else width * height * 3
