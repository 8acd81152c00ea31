from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from avatars.media import MAX_UPLOAD_BYTES, clean_portrait
from molts.errors import BadInput


def encoded(image: Image.Image, format: str, **options: Any) -> io.BytesIO:
    output = io.BytesIO()
    image.save(output, format, **options)
    output.seek(0)
    return output


def opened(upload: io.BytesIO) -> Image.Image:
    image = Image.open(clean_portrait(upload).open())
    image.load()
    return image


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "becomes"), [((64, 64), (64, 64)), ((2048, 1024), (1024, 512)), ((1000, 3000), (341, 1024))]
)
def test_it_makes_a_png_of_at_most_1024_pixels(format: str, size: tuple[int, int], becomes: tuple[int, int]) -> None:
    image = opened(encoded(Image.new("RGB", size, "teal"), format))

    assert (image.format, image.size) == ("PNG", becomes)


def test_it_leaves_everything_but_the_pixels_behind() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    upload = encoded(Image.new("RGB", (100, 100)), "JPEG", exif=exif, comment=b"secret comment")
    upload = io.BytesIO(upload.getvalue() + b"<?php echo 'tail'; ?>")

    data = clean_portrait(upload).read()

    for trace in (b"taken at home", b"secret comment", b"php"):
        assert trace not in data


def test_it_turns_a_photograph_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    image = opened(encoded(Image.new("RGB", (300, 100)), "JPEG", exif=exif))

    assert image.size == (100, 300)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16", "CMYK"])
def test_it_takes_every_colour_mode(mode: str) -> None:
    format = "JPEG" if mode == "CMYK" else "PNG"

    image = opened(encoded(Image.new(mode, (80, 80)), format))

    assert image.mode in ("RGB", "RGBA")
    assert (image.mode == "RGBA") == (mode in ("RGBA", "LA"))


def png_claiming(width: int, height: int) -> io.BytesIO:
    """The first bytes of a PNG that says it is this large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    )


@pytest.mark.parametrize(
    ("upload", "words"),
    [
        (io.BytesIO(b""), "empty"),
        (io.BytesIO(b"MZ this is a program"), "PNG, JPEG or WebP"),
        (io.BytesIO(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "PNG, JPEG or WebP"),
        (encoded(Image.new("RGB", (100, 100)), "GIF"), "PNG, JPEG or WebP"),
        (encoded(Image.new("RGB", (100, 100)), "TIFF"), "PNG, JPEG or WebP"),
        (io.BytesIO(b"\xff\xd8\xff\xe0" + b"\0" * MAX_UPLOAD_BYTES), "at most 10 MB"),
        (io.BytesIO(encoded(Image.effect_noise((300, 300), 90), "JPEG").getvalue()[:5000]), "broken"),
        (io.BytesIO(encoded(Image.effect_noise((300, 300), 90), "PNG").getvalue()[:5000]), "broken"),
        (png_claiming(200, 200), "broken"),
        (png_claiming(9000, 9000), "too many pixels"),
        (png_claiming(100_000, 100_000), "too many pixels"),
        (encoded(Image.new("RGB", (10, 500)), "PNG"), "too small"),
    ],
    ids=lambda value: value if isinstance(value, str) else "picture",
)
def test_it_refuses_what_is_no_usable_picture(upload: io.BytesIO, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        clean_portrait(upload)
    assert caught.value.attr == "portrait"
