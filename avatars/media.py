"""Pictures from outside: what an upload really is, and a clean copy of it."""

from __future__ import annotations

import io
import uuid
import warnings
from typing import IO

from django.core.files.base import ContentFile
from PIL import Image, ImageOps, UnidentifiedImageError

from molts.errors import BadInput

MAX_UPLOAD_BYTES = 10_000_000
MAX_UPLOAD_PIXELS = 40_000_000  # decoded that is 160 MB: enough for any camera, too little to fill the memory
MIN_SIDE = 64
MAX_SIDE = 1024
FORMATS = ("PNG", "JPEG", "WEBP")


def clean_portrait(upload: IO[bytes]) -> ContentFile[bytes]:
    """A PNG of the uploaded picture, upright, at most 1024 pixels a side, without anything else that the file held.

    What it is, is read from its bytes; name and declared type are not asked. Raises BadInput for what is no PNG, JPEG
    or WebP, is broken, too large or too small.
    """
    data = upload.read(MAX_UPLOAD_BYTES + 1)
    if len(data) > MAX_UPLOAD_BYTES:
        raise _refused(f"The file is too large: at most {MAX_UPLOAD_BYTES // 1_000_000} MB.")
    if not data:
        raise _refused("The file is empty.")
    output = io.BytesIO()
    _upright(_decode(data)).save(output, format="PNG", optimize=True)
    # A name of our own: the visitor's file name may hold anything, and an old portrait stays for the agent's revisions.
    return ContentFile(output.getvalue(), name=f"{uuid.uuid4().hex}.png")


def _decode(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is judged right below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(*image.size)
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # a JPEG is decoded no larger than needed
        image.load()
    except UnidentifiedImageError as error:
        raise _refused("This is no picture that can be used: upload a PNG, JPEG or WebP.") from error
    except Image.DecompressionBombError as error:
        raise _refused(_too_many_pixels()) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _refused("The picture is broken: save it again and upload the copy.") from error
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_UPLOAD_PIXELS:
        raise _refused(_too_many_pixels())
    if min(width, height) < MIN_SIDE:
        raise _refused(f"The picture is too small: at least {MIN_SIDE} pixels a side.")


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    # A mode in which scaling blends colours, not palette numbers; transparency stays.
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    image = image.convert("RGBA" if has_alpha else "RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    clean = Image.new(image.mode, image.size)
    clean.paste(image)  # pixels only: metadata such as the place of a photograph stays behind
    return clean


def _too_many_pixels() -> str:
    return f"The picture has too many pixels: at most {MAX_UPLOAD_PIXELS // 1_000_000} million."


def _refused(text: str) -> BadInput:
    return BadInput(text, attr="portrait")
