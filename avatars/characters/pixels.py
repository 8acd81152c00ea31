"""SVG text to pixels."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PixelArray = NDArray[np.uint8]
"""(height, width, 4), RGBA with the colours multiplied by alpha."""

_lock = threading.Lock()
_engine: Any = None


def rasterise(svg: str, *, width: int, height: int, over: PixelArray | None = None) -> PixelArray:
    """(height, width, 4), RGBA with the colours multiplied by alpha: the drawing stretched to the size, on nothing or
    `over` a picture of this shape.

    ThorVG starts once per process, with no threads of its own; one drawing at a time is rendered in it.
    """
    global _engine
    # They load a shared library: only when something is drawn.
    from thorvg_python.base import Result
    from thorvg_python.canvas.sw import SwCanvas
    from thorvg_python.engine import Engine
    from thorvg_python.paint.picture import Picture

    with _lock:
        if _engine is None:
            _engine = Engine(threads=0)
        canvas = SwCanvas(_engine)
        try:
            canvas.set_target(width, height)
            buffer = canvas.buffer_arr
            assert buffer is not None  # set_target made it
            if over is not None:
                behind = np.ascontiguousarray(over)  # has to live until it is copied
                ctypes.memmove(buffer, behind.ctypes.data, behind.nbytes)
            picture = Picture(_engine)
            result = picture.load_data(svg.encode(), "svg", None, True)
            if result != Result.SUCCESS:
                raise ValueError(f"this drawing cannot be read: {result.name}")
            picture.set_size(width, height)
            canvas.add(picture)
            canvas.update()
            canvas.draw(clear=over is None)
            canvas.sync()
        finally:
            canvas.destroy()
    # The array keeps the buffer alive.
    return np.ctypeslib.as_array(buffer).view(np.uint8).reshape(height, width, 4)


def laid_over(behind: PixelArray, front: PixelArray) -> PixelArray:
    """`front` on top of `behind`."""
    rest = np.asarray(cv2.merge([255 - front[..., 3]] * 4), dtype=np.uint8)
    return np.asarray(cv2.add(masked(behind, rest), front), dtype=np.uint8)


def masked(picture: PixelArray, mask: PixelArray) -> PixelArray:
    """The picture where the mask, in all its channels, is 255; less of it where it is less."""
    return np.asarray(cv2.multiply(picture, mask, scale=1 / 255), dtype=np.uint8)
