"""What all characters have in common: the frame, the pose as a bending of the drawing, and rendering.

A character is drawn once, facing us, in a square of 512 units. A pose moves the points of that drawing: the head is
bent over an egg that turns (points near the front move more than the outline, those behind it move the other way), tilts
about the neck and sways; the chest breathes. Nothing is pasted, so nothing can come apart.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.characters.pixels import rasterise
from avatars.characters.svg import Place, Points
from avatars.engines.poses import Eyes, Head, Mouth

Box = tuple[int, int, int, int]
"""x, y, width and height of a part of a picture, in pixels."""

SIDE = 512.0
"""Height of the drawing; also its width, when the picture is square."""

YAW, PITCH, ROLL = math.radians(13.0), math.radians(8.0), math.radians(4.5)
"""The largest turns."""


class Pose:
    """The head's pose as functions that move points of the drawing."""

    def __init__(
        self, head: Head, *, centre: tuple[float, float], size: tuple[float, float, float], neck: float
    ) -> None:
        """`centre`, `size` (half width, half height, depth): the egg of the head. `neck`: height that it tilts about."""
        self.head = head
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
        away = ((points - self._centre) / (rx, ry)) ** 2
        depth: NDArray[np.float64] = rz * np.sqrt(np.clip(1.0 - away.sum(axis=1), 0.0, 1.0))
        return depth

    def _turned(self, points: Points, depth: NDArray[np.float64] | float) -> Points:
        offset = points - self._centre
        x = offset[:, 0] * self._cos[0] + depth * self._sin[0]
        y = offset[:, 1] * self._cos[1] - depth * self._sin[1]
        moved = np.stack([x, y], axis=1) + self._centre
        return self._tilted(moved)

    def _tilted(self, points: Points) -> Points:
        tilted: Points = (points - self._neck) @ self._turn + self._neck + self._sway
        return tilted

    def face(self, lift: float = 0.0) -> Place:
        """On the front of the head, `lift` above its surface."""
        return lambda points: self._turned(points, self.depth(points) + lift)

    def hair(self, lift: float = 0.0) -> Place:
        """Over the front of the head, as `face`, but flatter to the sides, so that it keeps covering the outline."""

        def place(points: Points) -> Points:
            rz = self._size[2]
            return self._turned(points, self.depth(points) ** 2 / rz + lift)

        return place

    def at(self, depth: float) -> Place:
        """Part of the head at one depth: 0 is its outline, negative behind."""
        return lambda points: self._turned(points, depth)

    def body(self) -> Place:
        """Chest and shoulders: they breathe."""
        breath = self.head.breath

        def place(points: Points) -> Points:
            moved = points.copy()
            moved[:, 0] += (points[:, 0] - SIDE / 2) * 0.006 * breath
            moved[:, 1] -= 2.4 * breath
            return moved

        return place

    def neck(self, top: float, bottom: float) -> Place:
        """What joins head and body: above `top` it goes with the head's outline, below `bottom` with the body."""

        def place(points: Points) -> Points:
            share = np.clip((points[:, 1] - top) / (bottom - top), 0.0, 1.0)[:, None]
            share = share * share * (3 - 2 * share)
            return self.at(0.0)(points) * (1 - share) + self.body()(points) * share

        return place


class Character(ABC):
    """An artist who draws. A subclass says what, from back to front: the scene, which never moves; the body, which goes
    with the head alone; and the face."""

    name: str
    zoom: float = 1.0
    """Enlarges the figure about the middle of the lower edge."""

    @property
    def key(self) -> str:
        return f"{self.name}-{_fingerprint()}"

    @abstractmethod
    def scene(self) -> str:
        """SVG of what is behind, from x -400 to 912 and y -400 to 912 at least."""

    @abstractmethod
    def body(self, head: Head) -> str:
        """SVG of all that the face covers, with the definitions it uses."""

    @abstractmethod
    def face(self, head: Head, eyes: Eyes, mouth: Mouth) -> str:
        """SVG of the face and what is before it, with the definitions it uses."""

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3), RGB. The square of the drawing fills the height (or the width, when that is smaller);
        the scene goes on beside or above it."""
        return self.render_part(head, eyes, mouth, width=width, height=height, box=(0, 0, width, height))

    def render_part(
        self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int, box: Box
    ) -> NDArray[np.uint8]:
        """What `render` gives within `box` (x, y, width, height), for less."""
        left, top, wide, high = box
        behind = _without_face(self, head, width, height)[top : top + high, left : left + wide]
        face = _document(self.face(head, eyes, mouth), width, height, zoom=self.zoom, box=box)
        pixels = rasterise(face, width=wide, height=high, over=behind)
        return np.ascontiguousarray(pixels[..., :3])


def _document(content: str, width: int, height: int, *, zoom: float = 1.0, box: Box | None = None) -> str:
    """An SVG document of a picture of this size, or of the part of it in `box`."""
    x, y, wide, high = box or (0, 0, width, height)
    unit = SIDE / min(width, height)  # units of the drawing a pixel
    left, top = (SIDE - width * unit) / 2 + x * unit, (SIDE - height * unit) * 0.6 + y * unit
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.6f} {top:.6f} {wide * unit:.6f} {high * unit:.6f}"'
        f' width="{wide}" height="{high}">'
        f'<g transform="matrix({zoom} 0 0 {zoom} {SIDE / 2 * (1 - zoom):.3f} {SIDE * (1 - zoom):.3f})">{content}</g></svg>'
    )


# Poses are made in rows that share a head: what does not change in a row is drawn once.
@lru_cache(maxsize=4)
def _without_face(character: Character, head: Head, width: int, height: int) -> NDArray[np.uint8]:
    body = _document(character.body(head), width, height, zoom=character.zoom)
    return rasterise(body, width=width, height=height, over=_scene(character, width, height))


@lru_cache(maxsize=4)
def _scene(character: Character, width: int, height: int) -> NDArray[np.uint8]:
    return rasterise(_document(character.scene(), width, height), width=width, height=height)


@lru_cache
def _fingerprint() -> str:
    """Changes with the source of the drawings and with what renders them."""
    digest = hashlib.sha256(version("thorvg-python").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
