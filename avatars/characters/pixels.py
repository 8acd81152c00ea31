"""SVG text to pixels."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_lock = threading.Lock()
_engine: Any = None


def rasterise(svg: str, *, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 4), RGBA with the colours multiplied by alpha. The drawing is stretched to the size.

    ThorVG starts once per process, with no threads of its own; one drawing at a time is rendered in it.
    """
    global _engine
    import thorvg_python as tvg  # loads a shared library: only when something is drawn

    with _lock:
        if _engine is None:
            _engine = tvg.Engine(threads=0)
        canvas = tvg.SwCanvas(_engine)
        try:
            canvas.set_target(width, height)
            picture = tvg.Picture(_engine)
            result = picture.load_data(svg.encode(), "svg", None, True)
            if result != tvg.Result.SUCCESS:
                raise ValueError(f"this drawing cannot be read: {result.name}")
            picture.set_size(width, height)
            canvas.add(picture)
            canvas.update()
            canvas.draw(True)
            canvas.sync()
            pixels: NDArray[np.uint8] = (
                np.frombuffer(canvas.buffer_arr, dtype=np.uint8).reshape(height, width, 4).copy()
            )
            return pixels
        finally:
            canvas.destroy()
