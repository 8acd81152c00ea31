"""All poses of a face, kept ready: a frame is put together by copying, never by drawing.

An artist draws every pose of a plan once. The result is one file, mapped read-only, so that all processes of a machine
share its pages. It holds, in I420, a whole picture for each pose of the head, and for each of these a patch for every
mouth and every pair of eyes. Poses of the head lie on a grid (yaw x pitch) of steps of about a pixel; between two
neighbours the luma is blended, so that slow motion flows although the poses are few.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.base import EngineFailed, Progress
from avatars.engines.poses import REST, Artist, Eyes, Head, Mouth, PartArtist

VERSION = 1
"""Of the file. Another layout, other poses: another number."""

MAGIC = b"molts poses\n"
HEADER = struct.Struct("<12sIII")  # magic, version, length of the description, its checksum
ALIGNMENT = 4096

MAX_BYTES = 80_000_000
"""What a face may take at up to 512 x 512. Larger pictures may take four times as much."""
BUILD_TIMEOUT = 300.0
UNUSED_DAYS = 14

Bytes = NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle in pixels, with even corners and sides."""

    x: int
    y: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.x, self.x + self.width)

    @property
    def halved(self) -> Box:
        """The same rectangle in a chroma plane."""
        return Box(self.x // 2, self.y // 2, self.width // 2, self.height // 2)

    @property
    def i420_size(self) -> int:
        return self.width * self.height * 3 // 2

    def overlaps(self, other: Box) -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


class PosesOverlap(ValueError):
    """Mouth and eyes of the artist share pixels: they cannot be kept as patches of their own."""


# -- which poses ------------------------------------------------------------------------------------------------------
OPENNESS = (0.0, 0.1, 0.22, 0.36, 0.52, 0.72, 1.0)
LIPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""One axis from protruded ("oo") over rest to spread ("ee"): lips cannot do both."""


def lips_of(mouth: Mouth) -> float:
    """Where a mouth stands on the axis of the lips, -1 to 1."""
    spread = max(0.0, 2.0 * mouth.width - 1.0)
    return spread if spread > mouth.rounding else -mouth.rounding


def mouth_of(openness: float, lips: float) -> Mouth:
    return Mouth(openness, 0.5 + (0.5 if lips > 0 else 0.35) * lips, max(0.0, -lips))


MOUTHS = tuple(mouth_of(openness, lips) for openness in OPENNESS for lips in LIPS)

EYES = (
    Eyes(),
    Eyes(brows=0.6),
    Eyes(brows=-0.4),
    Eyes(gaze_x=-0.35),
    Eyes(gaze_x=0.35),
    Eyes(gaze_x=-0.7, gaze_y=0.15),
    Eyes(gaze_x=0.7, gaze_y=0.15),
    Eyes(gaze_x=-0.5, gaze_y=0.6, brows=0.4),
    Eyes(gaze_x=0.5, gaze_y=0.6, brows=0.4),
    Eyes(gaze_y=-0.5),
    Eyes(lids=0.5),
    Eyes(lids=0.5, brows=0.6),
    Eyes(lids=1.0),
    Eyes(lids=1.0, brows=0.6),
)

YAW, PITCH = 0.6, 0.6
"""How far the head turns and nods. Beyond this the steps between poses would show."""
GRIDS = ((13, 9), (11, 7), (9, 7), (9, 5), (7, 5), (5, 3))
"""Poses of the head, yaw x pitch, finest first: the finest that fits is taken."""


@dataclass(frozen=True)
class Grid:
    """Poses of the head: `columns` turns of the head from left to right, `rows` nods from down to up."""

    columns: int
    rows: int

    def __len__(self) -> int:
        return self.columns * self.rows

    def heads(self) -> list[Head]:
        """All poses, a column at a time. The body breathes in as the head rises, the head tilts as it turns."""
        return [
            Head(yaw=yaw, pitch=pitch, roll=0.5 * yaw, breath=pitch / PITCH)
            for yaw in np.linspace(-YAW, YAW, self.columns).tolist()
            for pitch in np.linspace(-PITCH, PITCH, self.rows).tolist()
        ]

    def between(self, x: float, y: float) -> tuple[int, int, float]:
        """Two neighbouring poses and the weight of the second that come nearest to the point (x, y), each -1 to 1.

        The point is moved onto the nearest of the sides and diagonals of its cell, at most a fifth of a step away, so
        that two pictures suffice where a bilinear blend would take four.
        """
        column, u = self._cell(x, self.columns)
        row, v = self._cell(y, self.rows)
        side = abs(v - 0.5), abs(u - 0.5)  # the further from the middle, the nearer to a side
        to_side = 0.5 - max(side)
        rising, falling = abs(u - v), abs(u + v - 1.0)  # distances to the diagonals, times the square root of two
        if to_side <= 0.7071 * min(rising, falling):
            if side[0] >= side[1]:
                row += round(v)
                return self._pair(column, row, column + 1, row, u)
            column += round(u)
            return self._pair(column, row, column, row + 1, v)
        if rising <= falling:
            return self._pair(column, row, column + 1, row + 1, (u + v) / 2)
        return self._pair(column, row + 1, column + 1, row, (u + 1.0 - v) / 2)

    def _cell(self, position: float, count: int) -> tuple[int, float]:
        if count == 1:
            return 0, 0.0
        place = (min(1.0, max(-1.0, position)) + 1.0) / 2.0 * (count - 1)
        cell = min(int(place), count - 2)
        return cell, place - cell

    def _pair(self, column_a: int, row_a: int, column_b: int, row_b: int, weight: float) -> tuple[int, int, float]:
        last_column, last_row = self.columns - 1, self.rows - 1
        return (
            min(column_a, last_column) * self.rows + min(row_a, last_row),
            min(column_b, last_column) * self.rows + min(row_b, last_row),
            weight,
        )


def nearest_mouth(mouth: Mouth) -> int:
    """Which of MOUTHS comes nearest."""
    row = min(range(len(OPENNESS)), key=lambda i: abs(OPENNESS[i] - mouth.openness))
    lips = lips_of(mouth)
    return row * len(LIPS) + min(range(len(LIPS)), key=lambda i: abs(LIPS[i] - lips))


def nearest_eyes(eyes: Eyes) -> int:
    """Which of EYES comes nearest. Lids count most: a blink must not be lost for a glance."""

    def distance(kept: Eyes) -> float:
        seen = 1.0 - eyes.lids  # behind closed lids the gaze does not count
        return (
            8.0 * (kept.lids - eyes.lids) ** 2
            + seen * ((kept.gaze_x - eyes.gaze_x) ** 2 + (kept.gaze_y - eyes.gaze_y) ** 2)
            + 0.7 * (kept.brows - eyes.brows) ** 2
        )

    return min(range(len(EYES)), key=lambda i: distance(EYES[i]))


# -- the file ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Layout:
    """What a file holds, and where."""

    width: int
    height: int
    columns: int
    rows: int
    mouths: int
    eyes: int
    mouth_box: Box
    eyes_box: Box
    moving_box: Box  # nothing outside of it ever changes
    checksum: int = 0  # of everything behind the description

    @property
    def heads(self) -> int:
        return self.columns * self.rows

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of the three arrays: whole pictures, mouths, eyes."""
        return (
            (self.heads, self.width * self.height * 3 // 2),
            (self.heads, self.mouths, self.mouth_box.i420_size),
            (self.heads, self.eyes, self.eyes_box.i420_size),
        )

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)


class _Patches:
    """Patches of one kind, by pose of the head: luma and chroma as arrays of planes."""

    def __init__(self, data: Bytes, box: Box) -> None:
        heads, count, _ = data.shape
        pixels = box.width * box.height
        self.box = box
        self.luma = data[..., :pixels].reshape(heads, count, box.height, box.width)
        self.chroma = data[..., pixels:].reshape(heads, count, 2, box.height // 2, box.width // 2)


class Atlas:
    """The poses of one face at one size. Read-only, shared by all streams of all processes."""

    def __init__(self, layout: Layout, data: Bytes) -> None:
        self.layout = layout
        self.grid = Grid(layout.columns, layout.rows)
        self.width, self.height = layout.width, layout.height
        parts, start = [], 0
        for shape in layout.shapes:
            size = int(np.prod(shape))
            parts.append(data[start : start + size].reshape(shape))
            start += size
        whole, mouths, eyes = parts
        pixels = self.width * self.height
        self.bases = whole
        self.luma = whole[:, :pixels].reshape(-1, self.height, self.width)
        self.chroma = whole[:, pixels:].reshape(-1, 2, self.height // 2, self.width // 2)
        self.mouths = _Patches(mouths, layout.mouth_box)
        self.eyes = _Patches(eyes, layout.eyes_box)

    @cached_property
    def rest(self) -> int:
        """The pose in which the head looks straight ahead."""
        return self.grid.between(0.0, 0.0)[0]


class Canvas:
    """One frame that is changed from pose to pose: only what differs from the last frame is copied."""

    BLENDS = 4
    """Steps between two neighbouring poses."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self.data: Bytes = atlas.bases[atlas.rest].copy()
        pixels = atlas.width * atlas.height
        self._luma = self.data[:pixels].reshape(atlas.height, atlas.width)
        self._chroma = self.data[pixels:].reshape(2, atlas.height // 2, atlas.width // 2)
        self._head: tuple[int, int, int] | None = None
        self._mouth = self._eyes = -1

    def show(self, x: float, y: float, eyes: int, mouth: int) -> bool:
        """Show this pose: the head at (x, y) of its grid, each -1 to 1, and these of EYES and MOUTHS.

        Returns whether anything changed.
        """
        first, second, weight = self._atlas.grid.between(x, y)
        blend = round(weight * self.BLENDS)
        if blend == self.BLENDS:
            first, blend = second, 0
        if blend == 0:
            second = first
        head = (first, second, blend)
        moved = head != self._head
        if moved:
            box, half = self._atlas.layout.moving_box, self._atlas.layout.moving_box.halved
            self._mix(self._atlas.luma[:, box.rows, box.columns], head, self._luma[box.rows, box.columns])
            nearer = second if 2 * blend > self.BLENDS else first
            self._chroma[:, half.rows, half.columns] = self._atlas.chroma[nearer, :, half.rows, half.columns]
        if moved or eyes != self._eyes:
            self._patch(self._atlas.eyes, eyes, head)
        if moved or mouth != self._mouth:
            self._patch(self._atlas.mouths, mouth, head)
        changed = moved or eyes != self._eyes or mouth != self._mouth
        self._head, self._eyes, self._mouth = head, eyes, mouth
        return changed

    def _patch(self, patches: _Patches, index: int, head: tuple[int, int, int]) -> None:
        first, second, blend = head
        box, half = patches.box, patches.box.halved
        self._mix(patches.luma[:, index], head, self._luma[box.rows, box.columns])
        nearer = second if 2 * blend > self.BLENDS else first
        self._chroma[:, half.rows, half.columns] = patches.chroma[nearer, index]

    def _mix(self, planes: Bytes, head: tuple[int, int, int], out: Bytes) -> None:
        first, second, blend = head
        if blend:
            share = blend / self.BLENDS
            cv2.addWeighted(planes[first], 1.0 - share, planes[second], share, 0.0, dst=out)
        else:
            np.copyto(out, planes[first])


# -- opening and building ---------------------------------------------------------------------------------------------
_open: dict[Path, tuple[int, Atlas]] = {}
_open_lock = Lock()


def open_atlas(artist: Artist, width: int, height: int, *, folder: Path, progress: Progress | None = None) -> Atlas:
    """The poses of this artist at this size, drawn first when they are not in `folder`. Takes seconds then: call it in
    a thread. Two that ask at once draw them once. A damaged file is made anew.

    Raises PosesOverlap for an artist whose mouth and eyes share pixels, EngineFailed when another process that draws
    them does not come to an end.
    """
    name = hashlib.sha256(f"{VERSION}\n{artist.key}\n{width}x{height}".encode()).hexdigest()[:32]
    path = folder / f"{name}.poses"
    if (atlas := _read(path)) is not None:
        return atlas
    with _locked(path.with_suffix(".lock")):
        if (atlas := _read(path)) is None:
            _forget_unused(folder)
            _build(artist, width, height, path, progress or (lambda share: None))
            atlas = _read(path)
    if atlas is None:
        raise EngineFailed("The poses of the face were drawn but cannot be read back: is the disk in order?")
    return atlas


def _read(path: Path) -> Atlas | None:
    """The file's poses, None when there is no such file or it is damaged. Read and checked once in a process."""
    try:
        inode = path.stat().st_ino
    except OSError:
        return None
    with _open_lock:
        known = _open.get(path)
        if known is not None and known[0] == inode:
            return known[1]
    atlas = _map(path)
    if atlas is None:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # in use: not to be forgotten
    with _open_lock:
        _open[path] = (inode, atlas)
    return atlas


def _map(path: Path) -> Atlas | None:
    try:
        with path.open("rb") as file:
            magic, version, length, checksum = HEADER.unpack(file.read(HEADER.size))
            described = file.read(length)
        if (magic, version) != (MAGIC, VERSION) or zlib.crc32(described) != checksum:
            return None
        layout = _described(described)
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=_aligned(HEADER.size + length))
    except (OSError, ValueError, struct.error, KeyError, TypeError):
        return None
    # Reads every page: the first frames of a conversation then wait for no disk.
    if data.size != layout.size or zlib.crc32(data.data) != layout.checksum:
        return None
    return Atlas(layout, np.asarray(data))


def _described(text: bytes) -> Layout:
    values = json.loads(text)
    boxes = {name: Box(*values.pop(name)) for name in ("mouth_box", "eyes_box", "moving_box")}
    return Layout(**values, **boxes)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _build(artist: Artist, width: int, height: int, path: Path, progress: Progress) -> None:
    """Draw everything and write the file: under another name first, so that a file with the right name is whole."""
    drawing = _Drawing(artist, width, height)
    layout = drawing.layout()
    temporary = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        with temporary.open("wb") as file:
            start = _aligned(HEADER.size + len(_description(layout)) + 16)  # the checksum may have more digits
            file.truncate(start + layout.size)
        data = np.memmap(temporary, dtype=np.uint8, mode="r+", offset=start)
        atlas = Atlas(layout, data)
        heads = atlas.grid.heads()
        for index, head in enumerate(heads):
            drawing.fill(atlas, index, head)
            progress((index + 1) / len(heads))
        data.flush()
        layout = Layout(**{**layout.__dict__, "checksum": zlib.crc32(data.data)})
        text = _description(layout).ljust(start - HEADER.size)
        with temporary.open("r+b") as file:
            file.write(HEADER.pack(MAGIC, VERSION, len(text), zlib.crc32(text)) + text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _description(layout: Layout) -> bytes:
    return json.dumps(asdict(layout)).encode()


class _Drawing:
    """What an artist draws for one file."""

    def __init__(self, artist: Artist, width: int, height: int) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"Width and height must be even, not {width}x{height}.")
        self._artist, self._width, self._height = artist, width, height

    def layout(self) -> Layout:
        """Which pixels each part changes, from the outermost poses, and the finest grid that fits."""
        extremes = [
            Head(yaw, pitch, 0.5 * yaw, pitch / PITCH) for yaw in (-YAW, 0, YAW) for pitch in (-PITCH, 0, PITCH)
        ]
        mouths = [mouth_of(1.0, lips) for lips in (-1.0, 0.0, 1.0)] + [mouth_of(0.0, 1.0), mouth_of(0.0, -1.0)]
        eyes = [each for each in EYES if each.lids in (0.0, 1.0)]
        rest = self._whole(Head(), Eyes(), Mouth())
        moving = np.zeros((self._height, self._width), dtype=bool)
        mouth_area, eyes_area = moving.copy(), moving.copy()
        for head in extremes:
            base = self._whole(head, *REST[1:])
            moving |= (base != rest).any(axis=2)
            for mouth in mouths:
                mouth_area |= (self._whole(head, Eyes(), mouth) != base).any(axis=2)
            for pair in eyes[::3] if head.yaw and head.pitch else eyes:
                eyes_area |= (self._whole(head, pair, Mouth()) != base).any(axis=2)
        mouth_box, eyes_box = self._box(mouth_area), self._box(eyes_area)
        if mouth_box.overlaps(eyes_box):
            raise PosesOverlap(f"The mouth {tuple(mouth_box)} and the eyes {tuple(eyes_box)} share pixels.")
        moving_box = self._box(moving | mouth_area | eyes_area)
        limit = MAX_BYTES * (1 if self._width * self._height <= 512 * 512 else 4)
        layouts = (
            Layout(self._width, self._height, *grid, len(MOUTHS), len(EYES), mouth_box, eyes_box, moving_box)
            for grid in GRIDS
        )
        layout = None
        for layout in layouts:
            if layout.size <= limit:
                break
        assert layout is not None
        return layout

    def fill(self, atlas: Atlas, index: int, head: Head) -> None:
        """Draw all of one pose of the head."""
        atlas.bases[index] = to_i420(self._whole(head, *REST[1:]))
        for patches, poses in (
            (atlas.mouths, [(Eyes(), mouth) for mouth in MOUTHS]),
            (atlas.eyes, [(pair, Mouth()) for pair in EYES]),
        ):
            pixels = patches.box.width * patches.box.height
            for place, (eyes, mouth) in enumerate(poses):
                planes = to_i420(self._part(head, eyes, mouth, patches.box))
                patches.luma[index, place].reshape(-1)[:] = planes[:pixels]
                patches.chroma[index, place].reshape(-1)[:] = planes[pixels:]

    def _whole(self, head: Head, eyes: Eyes, mouth: Mouth) -> Bytes:
        return self._artist.render(head, eyes, mouth, width=self._width, height=self._height)

    def _part(self, head: Head, eyes: Eyes, mouth: Mouth, box: Box) -> Bytes:
        if isinstance(self._artist, PartArtist):
            return self._artist.render_part(head, eyes, mouth, width=self._width, height=self._height, box=box)
        return self._whole(head, eyes, mouth)[box.rows, box.columns]

    def _box(self, changed: NDArray[np.bool_]) -> Box:
        """Around all that changed, with a margin for the poses between the outermost, even-aligned."""
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if not rows.size:
            return Box(0, 0, 2, 2)  # nothing moves: an artist of a still picture
        margin = max(2, self._height // 256)
        left, top = (max(0, int(side[0]) - margin) // 2 * 2 for side in (columns, rows))
        right = min(self._width, (int(columns[-1]) + margin + 2) // 2 * 2)
        bottom = min(self._height, (int(rows[-1]) + margin + 2) // 2 * 2)
        return Box(left, top, right - left, bottom - top)


def to_i420(picture: NDArray[np.uint8]) -> Bytes:
    """(height, width, 3) RGB, even sides, to the bytes of its planes Y, U, V (BT.601, as video uses it)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2YUV_I420), dtype=np.uint8).reshape(-1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file. The system frees it when its holder dies. Raises EngineFailed after BUILD_TIMEOUT."""
    until = time.monotonic() + BUILD_TIMEOUT
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise EngineFailed("Another process has been drawing this face for minutes.") from None
                time.sleep(0.05)
        yield


def _forget_unused(folder: Path) -> None:
    """Delete what nobody opened for long, and what a killed process left half done."""
    now = time.time()
    for pattern, days in (("*.poses", UNUSED_DAYS), ("*.part", 1)):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > days * 86_400:
                    path.unlink()


__all__: Sequence[str] = (
    "EYES", "MOUTHS", "Atlas", "Box", "Canvas", "Grid", "PosesOverlap", "nearest_eyes", "nearest_mouth", "open_atlas",
    "to_i420",
)  # fmt: skip
