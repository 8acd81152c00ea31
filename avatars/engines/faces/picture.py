"""A portrait's file as an array of colours."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from molts.errors import BadInput

Picture = NDArray[np.uint8]
"""(height, width, 3), RGB."""

MAX_PIXELS = 40_000_000
MIN_SIDE = 96
BEHIND = (214, 214, 218)
"""What is seen through a transparent picture."""


def read_picture(path: Path) -> Picture:
    """The picture upright (EXIF), opaque, in colour. Raises BadInput (`portrait`) for what cannot be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is judged right below
            with Image.open(path) as image:
                check_size(*image.size)
                upright = ImageOps.exif_transpose(image).convert("RGBA")
    except FileNotFoundError as error:
        raise BadInput("The picture is missing: upload it again.", attr="portrait") from error
    except Image.DecompressionBombError as error:
        raise BadInput(_too_large(), attr="portrait") from error
    except UnidentifiedImageError as error:
        raise BadInput("This is no picture that can be used: upload a PNG, JPEG or WebP.", attr="portrait") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadInput("The picture is broken: save it again and upload the copy.", attr="portrait") from error
    opaque = Image.new("RGBA", upright.size, (*BEHIND, 255))
    opaque.alpha_composite(upright)
    return np.asarray(opaque.convert("RGB"))


def check_size(width: int, height: int) -> None:
    """Raise BadInput for a picture that is too large to decode or too small to show a face."""
    if width * height > MAX_PIXELS:
        raise BadInput(_too_large(), attr="portrait")
    if min(width, height) < MIN_SIDE:
        raise BadInput(
            f"The picture is too small ({width} x {height}): at least {MIN_SIDE} pixels a side.", attr="portrait"
        )


def _too_large() -> str:
    return f"The picture has too many pixels: at most {MAX_PIXELS // 1_000_000} million."
