"""Drawing in SVG text, and turning it into pixels with ThorVG (software rendering, no GPU, no system libraries)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 2): x, y."""

Place = Callable[[Points], Points]
"""Where points of the drawing at rest are in a pose."""

COORDINATES = {"M": 1, "L": 1, "C": 3, "Q": 2, "Z": 0}
"""Points after each path command. Paths use these commands only, absolute, each letter written out."""

TOKEN = re.compile(r"[MLCQZ]|-?\d*\.?\d+")


@lru_cache(maxsize=4096)
def parse(path: str) -> tuple[str, Points]:
    """The path with holes for its coordinates (for `%`), and the coordinates."""
    form: list[str] = []
    numbers: list[float] = []
    for token in TOKEN.findall(path):
        if token in COORDINATES:
            form.append(token + "%.2f " * (2 * COORDINATES[token]))
        else:
            numbers.append(float(token))
    points = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    points.setflags(write=False)  # shared by all who draw this path
    return "".join(form), points


def placed(path: str, place: Place) -> str:
    """The path with every point moved by `place`."""
    form, points = parse(path)
    return form % tuple(place(points).ravel().tolist())


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> str:
    """A closed path of four cubic curves, which (unlike an <ellipse>) can be bent by `placed`."""
    ry = rx if ry is None else ry
    kx, ky = 0.5523 * rx, 0.5523 * ry
    return (
        f"M{x - rx:.2f} {y:.2f}C{x - rx:.2f} {y - ky:.2f} {x - kx:.2f} {y - ry:.2f} {x:.2f} {y - ry:.2f}"
        f"C{x + kx:.2f} {y - ry:.2f} {x + rx:.2f} {y - ky:.2f} {x + rx:.2f} {y:.2f}"
        f"C{x + rx:.2f} {y + ky:.2f} {x + kx:.2f} {y + ry:.2f} {x:.2f} {y + ry:.2f}"
        f"C{x - kx:.2f} {y + ry:.2f} {x - rx:.2f} {y + ky:.2f} {x - rx:.2f} {y:.2f}Z"
    )


def strands(one: str, other: str, count: int, phase: int = 0, sway: float = 1.5) -> str:
    """`count` strands of hair between two open paths of the same commands, unevenly spread and a little unruly."""
    form, a = parse(one)
    same_form, b = parse(other)
    if form != same_form:
        raise ValueError("strands: the two paths need the same commands")
    paths = []
    for index in range(count):
        # The golden ratio spreads them without a visible order.
        share = ((index + phase * 0.37) * 0.618034) % 1.0
        points = a + (b - a) * share
        points = points + sway * np.sin(np.arange(points.size).reshape(-1, 2) * 2.4 + index * 1.7 + phase)
        paths.append(form % tuple(points.ravel().tolist()))
    return "".join(paths)


def gradient(name: str, stops: Sequence[str], box: tuple[float, float, float, float] = (0, 0, 0, 1)) -> str:
    """A linear gradient in the shape's own box (0 to 1), x1 y1 x2 y2. A stop is "offset colour [opacity]"."""
    x1, y1, x2, y2 = box
    return f'<linearGradient id="{name}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}">{_stops(stops)}</linearGradient>'


def glow(name: str, stops: Sequence[str], centre: tuple[float, float] = (0.5, 0.5), radius: float = 0.5) -> str:
    """A radial gradient in the shape's own box (0 to 1)."""
    x, y = centre
    return f'<radialGradient id="{name}" cx="{x}" cy="{y}" r="{radius}">{_stops(stops)}</radialGradient>'


def fade(name: str, colour: str, opacity: float) -> str:
    """A radial gradient from the colour to nothing."""
    return glow(name, (f"0 {colour} {opacity}", f".5 {colour} {opacity * 0.55:.3f}", f"1 {colour} 0"))


def soft(name: str, deviation: float) -> str:
    """A blur; its region is larger than the drawing, so that nothing is cut off."""
    return (
        f'<filter id="{name}" filterUnits="userSpaceOnUse" x="-1000" y="-1000" width="2600" height="2600">'
        f'<feGaussianBlur in="SourceGraphic" stdDeviation="{deviation}"/></filter>'
    )


def _stops(stops: Iterable[str]) -> str:
    text = []
    for stop in stops:
        offset, colour, *opacity = stop.split()
        extra = f' stop-opacity="{opacity[0]}"' if opacity else ""
        text.append(f'<stop offset="{offset}" stop-color="{colour}"{extra}/>')
    return "".join(text)


class Drawing:
    """Shapes one over the other. A paint is a colour, or "@name" of a gradient; attributes are SVG's, with `_` for `-`."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._clips = 0

    def path(self, d: str, fill: str = "none", **attributes: object) -> None:
        self._parts.append(f'<path d="{d}" fill="{_paint(fill)}"{_attributes(attributes)}/>')

    def line(self, d: str, stroke: str, width: float, **attributes: object) -> None:
        """An open line with round ends."""
        self._parts.append(
            f'<path d="{d}" fill="none" stroke="{_paint(stroke)}" stroke-width="{width:.2f}" stroke-linecap="round"'
            f' stroke-linejoin="round"{_attributes(attributes)}/>'
        )

    def open(self, **attributes: object) -> None:
        """Starts a group; `close` ends it."""
        self._parts.append(f"<g{_attributes(attributes)}>")

    def clip(self, d: str) -> None:
        """Starts a group that shows only inside the path; `close` ends it."""
        self._clips += 1
        name = f"clip{self._clips}"  # a mask: clipping paths let blurred shapes through
        self._parts.append(f'<mask id="{name}"><path d="{d}" fill="#fff"/></mask><g mask="url(#{name})">')

    def close(self) -> None:
        self._parts.append("</g>")

    def raw(self, text: str) -> None:
        self._parts.append(text)

    def __str__(self) -> str:
        return "".join(self._parts)


def _paint(fill: str) -> str:
    return f"url(#{fill[1:]})" if fill.startswith("@") else fill


def _attributes(attributes: dict[str, object]) -> str:
    text = []
    for name, value in attributes.items():
        if name in ("filter", "mask"):
            value = f"url(#{value})"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        text.append(f' {name.replace("_", "-")}="{value}"')
    return "".join(text)
