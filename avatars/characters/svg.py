"""Drawing in SVG text, and turning it into pixels with ThorVG (software rendering, no GPU, no system libraries)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 2): x, y."""

Place = Callable[[Points], Points]
"""Where points of the drawing at rest are in a pose."""


class ViewBox(NamedTuple):
    """A rectangle of the drawing, in its units."""

    left: float
    top: float
    right: float
    bottom: float

    def widened(self, by: float) -> ViewBox:
        return ViewBox(self.left - by, self.top - by, self.right + by, self.bottom + by)


BLUR_REACH = 32.0
"""How far the widest blur carries a shape, and more than enough for smooth edges."""


COORDINATES = {"M": 1, "L": 1, "C": 3, "Q": 2, "Z": 0}
"""Points after each path command. Paths use these commands only, absolute, each letter written out."""

NUMBER = re.compile(r"-?\d*\.?\d+")
TOKEN = re.compile(rf"[MLCQZ]|{NUMBER.pattern}")

DEFINITION = re.compile(r'<(?P<kind>linearGradient|radialGradient|filter) id="(?P<name>[^"]+)".*?</(?P=kind)>')


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


# Poses come in rows that share a head: most paths are placed again and again. A row needs some thousand of them.
@lru_cache(maxsize=4096)
def placed(path: str, place: Place) -> str:
    """The path with every point moved by `place`."""
    form, points = parse(path)
    return form % tuple(place(points).ravel().tolist())


@lru_cache(maxsize=256)
def shifted(
    place: Place, *, before: tuple[float, float] = (0.0, 0.0), after: tuple[float, float] = (0.0, 0.0)
) -> Place:
    """`place` for points that are moved before and after it. The same object for the same arguments, for `placed`."""
    return lambda points: np.add(place(np.add(points, before)), after)


@lru_cache(maxsize=4096)
def seen(path: str, view: ViewBox, *, whole: bool) -> str:
    """The pieces (from one M to the next) of a path that may show in `view`; all or nothing if `whole`."""
    pieces, boxes = _pieces(path)
    left, top, right, bottom = boxes
    shown = (left <= view.right) & (right >= view.left) & (top <= view.bottom) & (bottom >= view.top)
    if whole:
        return path if shown.any() else ""
    return "".join(piece for piece, show in zip(pieces, shown.tolist(), strict=True) if show)


@lru_cache(maxsize=4096)
def _pieces(path: str) -> tuple[list[str], NDArray[np.float64]]:
    """The pieces of a path and the boxes around their points, (4, n): a curve never leaves the box of its points."""
    pieces = [f"M{piece}" for piece in path.split("M") if piece]
    boxes = []
    for piece in pieces:
        numbers = [float(number) for number in NUMBER.findall(piece)]
        xs, ys = numbers[::2], numbers[1::2]
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    return pieces, np.array(boxes).reshape(-1, 4).T


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


@lru_cache(maxsize=256)
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


def used(definitions: str, content: str) -> str:
    """Those of the definitions (gradients, glows, fades, blurs) that the SVG text names: the others cost time."""
    return "".join(text for name, text in _by_name(definitions).items() if f"url(#{name})" in content)


@lru_cache(maxsize=64)
def _by_name(definitions: str) -> dict[str, str]:
    return {match["name"]: match[0] for match in DEFINITION.finditer(definitions)}


def _stops(stops: Iterable[str]) -> str:
    text = []
    for stop in stops:
        offset, colour, *opacity = stop.split()
        extra = f' stop-opacity="{opacity[0]}"' if opacity else ""
        text.append(f'<stop offset="{offset}" stop-color="{colour}"{extra}/>')
    return "".join(text)


@dataclass(frozen=True)
class _Shape:
    path: str
    paint: str
    attributes: str
    reach: float  # how far beyond its path it shows

    def svg(self, view: ViewBox | None) -> str:
        path = self.path
        if view is not None:
            # A gradient is spread over all of a path.
            path = seen(path, view.widened(self.reach), whole=self.paint.startswith("@"))
        return f'<path d="{path}"{self.attributes}/>' if path else ""


@dataclass(frozen=True)
class _Group:
    start: str
    clip: str  # the path outside of which nothing of the group shows, or nothing


class _End:
    """Of a group."""


class Drawing:
    """Shapes one over the other. A paint is a colour, or "@name" of a gradient; attributes are SVG's, with `_` for `-`."""

    def __init__(self, name: str = "") -> None:
        """`name`: unlike those of other drawings of the same document."""
        self._name = name
        self._parts: list[str | _Shape | _Group | _End] = []
        self._clips = 0

    def path(self, d: str, fill: str = "none", **attributes: object) -> None:
        text = f' fill="{_paint(fill)}"{_attributes(attributes)}'
        self._parts.append(_Shape(d, fill, text, _reach(attributes)))

    def line(self, d: str, stroke: str, width: float, **attributes: object) -> None:
        """An open line with round ends."""
        text = (
            f' fill="none" stroke="{_paint(stroke)}" stroke-width="{width:.2f}" stroke-linecap="round"'
            f' stroke-linejoin="round"{_attributes(attributes)}'
        )
        self._parts.append(_Shape(d, stroke, text, _reach(attributes) + width))

    def open(self, **attributes: object) -> None:
        """Starts a group; `close` ends it."""
        self._parts.append(_Group(f"<g{_attributes(attributes)}>", ""))

    def clip(self, d: str) -> None:
        """Starts a group that shows only inside the path; `close` ends it."""
        self._clips += 1
        name = f"{self._name}clip{self._clips}"  # a mask: clipping paths let blurred shapes through
        mask = f'<mask id="{name}"><path d="{d}" fill="#fff"/></mask><g mask="url(#{name})">'
        self._parts.append(_Group(mask, d))

    def close(self) -> None:
        self._parts.append(_End())

    def raw(self, text: str) -> None:
        self._parts.append(text)

    def svg(self, view: ViewBox | None = None) -> str:
        """The SVG text; of what shows in `view`, when there is one: the rest costs time and changes no pixel of it.
        Empty when nothing shows."""
        texts: list[str] = []
        groups: list[tuple[_Group, int]] = []  # those not ended, and where they start
        for part in self._parts:
            if isinstance(part, _Shape):
                if shape := part.svg(view):
                    texts.append(shape)
            elif isinstance(part, _Group):
                groups.append((part, len(texts)))
                texts.append(part.start)
            elif isinstance(part, _End):
                group, start = groups.pop()
                hidden = view is not None and group.clip and not seen(group.clip, view, whole=True)
                if hidden or len(texts) == start + 1:
                    del texts[start:]
                else:
                    texts.append("</g>")
            else:
                texts.append(part)
        return "".join(texts)


def _reach(attributes: dict[str, object]) -> float:
    return BLUR_REACH if "filter" in attributes else 2.0


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
