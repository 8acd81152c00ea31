"""What all characters have in common: the frame, the pose as a bending of the drawing, and rendering.

A character is drawn once, facing us, in a square of 512 units. A pose moves the points of that drawing: the head is
bent over an egg that turns (points near the front move more than the outline, those behind it move the other way), tilts
about the neck and sways; the chest breathes. Nothing is pasted, so nothing can come apart.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Concatenate, ParamSpec, cast

import numpy as np
from numpy.typing import NDArray

from avatars.characters.pixels import PixelArray, laid_over, masked, rasterise
from avatars.characters.svg import Drawing, Place, Points, ViewBox, used
from avatars.engines.poses import Eyes, Head, Mouth

PixelBox = tuple[int, int, int, int]
"""x, y, width and height of a part of a picture, in pixels."""

SIDE = 512.0
"""Height of the drawing; also its width, when the picture is square."""

YAW, PITCH, ROLL = math.radians(13.0), math.radians(8.0), math.radians(4.5)
"""The largest turns."""


P = ParamSpec("P")


def _one_for_all(make: Callable[Concatenate[Pose, P], Place]) -> Callable[Concatenate[Pose, P], Place]:
    """The same place for the same arguments, not just an equal one: `placed` knows it again."""

    @wraps(make)
    def place(pose: Pose, *args: P.args, **kwargs: P.kwargs) -> Place:
        key = make.__name__, args, *kwargs.items()
        if key not in pose._places:
            pose._places[key] = make(pose, *args, **kwargs)
        return pose._places[key]

    return cast("Callable[Concatenate[Pose, P], Place]", place)


class Pose:
    """The head's pose as functions that move points of the drawing."""

    def __init__(
        self, head: Head, *, centre: tuple[float, float], size: tuple[float, float, float], neck: float
    ) -> None:
        """`centre`, `size` (half width, half height, depth): the egg of the head. `neck`: height that it tilts about."""
        self.head = head
        self._places: dict[tuple[object, ...], Place] = {}
        self._centre = np.array(centre)
        self._size = size
        self._neck = np.array([centre[0], neck])
        self._sin = (math.sin(YAW * head.yaw), math.sin(PITCH * head.pitch))
        self._cos = (math.cos(YAW * head.yaw), math.cos(PITCH * head.pitch))
        angle = ROLL * head.roll
        self._turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        self._sway = np.array([5.0 * head.yaw + 2.0 * head.roll, -2.5 * head.pitch - 1.6 * head.breath])

    def depth(self, points: Points) -> NDArray[np.float64]:
        """How far the egg's front stands out at these points: 0 at and beyond its outline."""
        rx, ry, rz = self._size
        x, y = (points - self._centre).T
        depth: NDArray[np.float64] = rz * np.sqrt(np.maximum(1.0 - (x / rx) ** 2 - (y / ry) ** 2, 0.0))
        return depth

    def _turned(self, points: Points, depth: NDArray[np.float64] | float) -> Points:
        moved = (points - self._centre) * self._cos
        moved[:, 0] += depth * self._sin[0]
        moved[:, 1] -= depth * self._sin[1]
        return self._tilted(moved + self._centre)

    def _tilted(self, points: Points) -> Points:
        tilted: Points = (points - self._neck) @ self._turn + self._neck + self._sway
        return tilted

    @_one_for_all
    def face(self, lift: float = 0.0) -> Place:
        """On the front of the head, `lift` above its surface."""
        return lambda points: self._turned(points, self.depth(points) + lift)

    @_one_for_all
    def hair(self, lift: float = 0.0) -> Place:
        """Over the front of the head, as `face`, but flatter to the sides, so that it keeps covering the outline."""

        def place(points: Points) -> Points:
            rz = self._size[2]
            return self._turned(points, self.depth(points) ** 2 / rz + lift)

        return place

    @_one_for_all
    def at(self, depth: float) -> Place:
        """Part of the head at one depth: 0 is its outline, negative behind."""
        return lambda points: self._turned(points, depth)

    @_one_for_all
    def body(self) -> Place:
        """Chest and shoulders: they breathe."""
        breath = self.head.breath

        def place(points: Points) -> Points:
            moved = points.copy()
            moved[:, 0] += (points[:, 0] - SIDE / 2) * 0.006 * breath
            moved[:, 1] -= 2.4 * breath
            return moved

        return place

    @_one_for_all
    def neck(self, top: float, bottom: float) -> Place:
        """What joins head and body: above `top` it goes with the head's outline, below `bottom` with the body."""

        def place(points: Points) -> Points:
            share = np.clip((points[:, 1] - top) / (bottom - top), 0.0, 1.0)[:, None]
            share = share * share * (3 - 2 * share)
            return self.at(0.0)(points) * (1 - share) + self.body()(points) * share

        return place


class Character(ABC):
    """An artist who draws. A subclass says what, from back to front. What goes with the head alone is painted once for
    all eyes and mouths of that head; the rest is small."""

    name: str
    zoom: float = 1.0
    """Enlarges the figure about the middle of the lower edge."""

    @property
    def key(self) -> str:
        return f"{self.name}-{_fingerprint()}"

    @property
    @abstractmethod
    def definitions(self) -> str:
        """SVG of the gradients, glows and blurs that the drawings (not the scene) use."""

    @abstractmethod
    def scene(self) -> str:
        """SVG of what is behind and never moves, from x -400 to 912 and y -400 to 912 at least."""

    @abstractmethod
    def body(self, head: Head) -> Drawing:
        """All that the face covers."""

    @abstractmethod
    def skin(self, head: Head) -> Drawing:
        """The face without its features; shows only inside of `outline`."""

    @abstractmethod
    def outline(self, head: Head, mouth: Mouth) -> str:
        """The path around the face."""

    @abstractmethod
    def chin(self, head: Head, mouth: Mouth) -> Drawing:
        """What moves with the mouth on the skin; shows only inside of `outline`."""

    @abstractmethod
    def middle(self, head: Head, mouth: Mouth) -> Drawing:
        """On the face, behind the eyes: the nose."""

    @abstractmethod
    def eyes(self, head: Head, eyes: Eyes) -> Drawing:
        """Eyes and brows."""

    @abstractmethod
    def mouth(self, head: Head, mouth: Mouth) -> Drawing:
        """The mouth and all about it."""

    @abstractmethod
    def front(self, head: Head) -> Drawing:
        """What is before the face."""

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3), RGB. The square of the drawing fills the height (or the width, when that is smaller);
        the scene goes on beside or above it."""
        return self.render_part(head, eyes, mouth, width=width, height=height, box=(0, 0, width, height))

    def render_part(
        self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int, box: PixelBox
    ) -> NDArray[np.uint8]:
        """What `render` gives within `box` (x, y, width, height), for less."""
        frame = _Frame(width, height, box)
        picture = _without_features(self, head, mouth, frame)
        features = self.middle(head, mouth), self.eyes(head, eyes), self.mouth(head, mouth)
        picture = frame.paint(self, *features, over=picture)
        picture = laid_over(picture, frame.cut(_front(self, head, frame.whole)))
        return np.ascontiguousarray(picture[..., :3])


@dataclass(frozen=True)
class _Frame:
    """A part of a picture of this size."""

    width: int
    height: int
    box: PixelBox

    @property
    def whole(self) -> _Frame:
        return _Frame(self.width, self.height, (0, 0, self.width, self.height))

    def cut(self, picture: PixelArray) -> PixelArray:
        """This part of the whole picture."""
        x, y, width, height = self.box
        return picture[y : y + height, x : x + width]

    def paint(self, character: Character, *drawings: Drawing, over: PixelArray | None = None) -> PixelArray:
        """The drawings one over the other, on nothing or over what is in this frame already."""
        view, zoom = self.view, character.zoom
        shift_x, shift_y = SIDE / 2 * (1 - zoom), SIDE * (1 - zoom)
        seen = ViewBox(
            (view.left - shift_x) / zoom,
            (view.top - shift_y) / zoom,
            (view.right - shift_x) / zoom,
            (view.bottom - shift_y) / zoom,
        )
        seen = seen.widened(2 * self._unit / zoom)
        content = "".join(drawing.svg(seen) for drawing in drawings)
        if not content and over is not None:
            return over
        return self.paint_svg(
            f"<defs>{used(character.definitions, content)}</defs>"
            f'<g transform="matrix({zoom} 0 0 {zoom} {shift_x:.3f} {shift_y:.3f})">{content}</g>',
            over,
        )

    def paint_svg(self, content: str, over: PixelArray | None = None) -> PixelArray:
        left, top, right, bottom = self.view
        _, _, width, height = self.box
        document = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.6f} {top:.6f} {right - left:.6f} {bottom - top:.6f}"'
            f' width="{width}" height="{height}">{content}</svg>'
        )
        return rasterise(document, width=width, height=height, over=over)

    @property
    def view(self) -> ViewBox:
        """What of the drawing it shows."""
        x, y, width, height = self.box
        unit = self._unit
        left, top = (SIDE - self.width * unit) / 2 + x * unit, (SIDE - self.height * unit) * 0.6 + y * unit
        return ViewBox(left, top, left + width * unit, top + height * unit)

    @property
    def _unit(self) -> float:
        """Of the drawing, a pixel."""
        return SIDE / min(self.width, self.height)


# Poses are made in rows that share a head: what does not change in a row is painted once.
@lru_cache(maxsize=4)
def _without_features(character: Character, head: Head, mouth: Mouth, frame: _Frame) -> PixelArray:
    outline = Drawing()
    outline.path(character.outline(head, mouth), "#fff")
    skin = frame.paint(character, character.chin(head, mouth), over=frame.cut(_skin(character, head, frame.whole)))
    body = frame.cut(_body(character, head, frame.whole))
    return laid_over(body, masked(skin, frame.paint(character, outline)))


@lru_cache(maxsize=2)
def _skin(character: Character, head: Head, frame: _Frame) -> PixelArray:
    return frame.paint(character, character.skin(head))


@lru_cache(maxsize=2)
def _front(character: Character, head: Head, frame: _Frame) -> PixelArray:
    return frame.paint(character, character.front(head))


@lru_cache(maxsize=2)
def _body(character: Character, head: Head, frame: _Frame) -> PixelArray:
    return frame.paint(character, character.body(head), over=_scene(character, frame))


@lru_cache(maxsize=2)
def _scene(character: Character, frame: _Frame) -> PixelArray:
    return frame.paint_svg(character.scene())


@lru_cache
def _fingerprint() -> str:
    """Changes with the source of the drawings and with what renders them."""
    digest = hashlib.sha256(version("thorvg-python").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
