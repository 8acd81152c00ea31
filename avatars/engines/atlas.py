"""All poses of a face, kept ready: a frame is put together by copying, never by drawing.

An artist draws every pose of a plan once. The result is one file, mapped read-only, so that all processes of a machine
share its pages. It holds, in I420, one whole picture, and for each pose of the head a patch with all that moves and one
for every mouth and every pair of eyes. Poses of the head lie on a grid (yaw x pitch) in steps of one or two pixels;
between two neighbours the luma is blended, so that slow motion flows although the poses are few.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.base import EngineFailed, Progress
from avatars.engines.pose_plan import EYES, GRIDS, MOUTHS, OUTERMOST_EYES, Grid, mouth_of
from avatars.engines.poses import REST, Artist, Eyes, Head, Mouth, PartArtist

VERSION = 1
"""Of the file. Another layout, other poses: another number."""

MAGIC = b"molts poses\n"
HEADER = struct.Struct("<12sIII")  # magic, version, length of the description, its checksum
ALIGNMENT = 4096

MAX_BYTES = 88_000_000
"""What a face may take at up to 512 x 512. Larger pictures may take four times as much."""
ROUNDING = 2
"""Values of a pixel's colours that are no difference: shading that follows the mouth's move by a hair."""
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


# -- the file ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Layout:
    """What a file holds: one picture, and for each pose of the head a patch of all that moves, of each mouth and of
    each pair of eyes."""

    width: int
    height: int
    columns: int
    rows: int
    mouths: int
    eyes: int
    moving_box: Box  # nothing outside of it ever changes
    mouth_box: Box
    eyes_box: Box
    checksum: int = 0  # of everything behind the description

    @property
    def grid(self) -> Grid:
        return Grid(self.columns, self.rows)

    @property
    def picture_size(self) -> int:
        return self.width * self.height * 3 // 2

    @property
    def patches(self) -> tuple[tuple[int, Box], ...]:
        """How many for each pose of the head, and where, in the order of the file."""
        return (1, self.moving_box), (self.mouths, self.mouth_box), (self.eyes, self.eyes_box)

    @property
    def size(self) -> int:
        return self.picture_size + len(self.grid) * sum(count * box.i420_size for count, box in self.patches)


class Patches:
    """All patches of one place, by pose of the head and number, as planes of luma and of chroma (U, V)."""

    def __init__(self, data: Bytes, heads: int, count: int, box: Box) -> None:
        pixels = box.width * box.height
        data = data.reshape(heads, count, box.i420_size)
        self.box, self.half = box, box.halved
        self.luma = data[..., :pixels].reshape(heads, count, box.height, box.width)
        self.chroma = data[..., pixels:].reshape(heads, count, 2, self.half.height, self.half.width)


class Atlas:
    """The poses of one face at one size. Read-only, shared by all streams of all processes."""

    def __init__(self, layout: Layout, data: Bytes) -> None:
        self.layout, self.grid = layout, layout.grid
        self.width, self.height = layout.width, layout.height
        self.picture = data[: layout.picture_size]
        parts, start = [], layout.picture_size
        for count, box in layout.patches:
            end = start + len(self.grid) * count * box.i420_size
            parts.append(Patches(data[start:end], len(self.grid), count, box))
            start = end
        self.moving, self.mouths, self.eyes = parts


class Canvas:
    """One frame that is changed from pose to pose: only what differs from the last frame is copied."""

    BLENDS = 4
    """Steps between two neighbouring poses of the head."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self.data: Bytes = np.array(atlas.picture)
        pixels = atlas.width * atlas.height
        self._luma = self.data[:pixels].reshape(atlas.height, atlas.width)
        self._chroma = self.data[pixels:].reshape(2, atlas.height // 2, atlas.width // 2)
        self._shown: tuple[tuple[int, int, int], int, int] | None = None

    def show(self, x: float, y: float, eyes: int, mouth: int) -> bool:
        """Show this pose: the head at (x, y) of its grid, each -1 to 1, and these of EYES and MOUTHS.

        Returns whether anything changed.
        """
        head = self._head(x, y)
        if self._shown == (head, eyes, mouth):
            return False
        last_head, last_eyes, last_mouth = self._shown or (None, None, None)
        moved = head != last_head
        if moved:
            self._put(self._atlas.moving, 0, head)
        if moved or eyes != last_eyes:
            self._put(self._atlas.eyes, eyes, head)
        if moved or mouth != last_mouth:
            self._put(self._atlas.mouths, mouth, head)
        self._shown = head, eyes, mouth
        return True

    def _head(self, x: float, y: float) -> tuple[int, int, int]:
        """Two poses of the head and how far between them, 0 to BLENDS - 1."""
        first, second, weight = self._atlas.grid.between(x, y)
        blend = round(weight * self.BLENDS)
        if blend == self.BLENDS:
            first, blend = second, 0
        return first, second if blend else first, blend

    def _put(self, patches: Patches, number: int, head: tuple[int, int, int]) -> None:
        first, second, blend = head
        luma = self._luma[patches.box.rows, patches.box.columns]
        if blend:
            share = blend / self.BLENDS
            cv2.addWeighted(patches.luma[first, number], 1.0 - share, patches.luma[second, number], share, 0.0, luma)
        else:
            np.copyto(luma, patches.luma[first, number])
        # Colour is coarse anyway: that of the nearer pose does.
        nearer = second if 2 * blend > self.BLENDS else first
        self._chroma[:, patches.half.rows, patches.half.columns] = patches.chroma[nearer, number]


# -- opening and building ---------------------------------------------------------------------------------------------
_open: dict[Path, tuple[int, Atlas]] = {}
_open_lock = Lock()


def open_atlas(artist: Artist, width: int, height: int, *, folder: Path, progress: Progress | None = None) -> Atlas:
    """The poses of this artist at this size, drawn first when they are not in `folder`. Takes seconds then: call it in
    a thread. Two that ask at once draw them once. A damaged file is made anew.

    Raises PosesOverlap for an artist whose mouth and eyes share pixels, EngineFailed when another process that draws
    them does not come to an end.
    """
    path = _path(artist, width, height, folder)
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


def is_drawn(artist: Artist, width: int, height: int, *, folder: Path) -> bool:
    """Whether the poses of this artist at this size are in `folder`."""
    return _path(artist, width, height, folder).exists()


def _path(artist: Artist, width: int, height: int, folder: Path) -> Path:
    name = hashlib.sha256(f"{VERSION}\n{artist.key}\n{width}x{height}".encode()).hexdigest()[:32]
    return folder / f"{name}.poses"


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
    values: dict[str, Any] = json.loads(text)
    for name in ("moving_box", "mouth_box", "eyes_box"):
        values[name] = Box(*values[name])
    return Layout(**values)


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
        atlas = Atlas(layout, np.asarray(data))
        atlas.picture[:] = drawing.picture()
        heads = atlas.grid.heads()
        for index, head in enumerate(heads):
            drawing.patches(atlas, index, head)
            progress((index + 1) / len(heads))
        data.flush()
        layout = replace(layout, checksum=zlib.crc32(data.data))
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
        """Which pixels each part changes, found in the outermost poses, and the finest grid that fits."""
        mouths = [mouth_of(1.0, lips) for lips in (-1.0, 0.0, 1.0)] + [mouth_of(0.0, 1.0)]
        rest = self._whole(*REST)
        moving = np.zeros((self._height, self._width), dtype=bool)
        mouth_area, eyes_area = moving.copy(), moving.copy()
        for head in Grid(3, 3).heads():
            base = self._whole(head, *REST[1:])
            moving |= _differ(base, rest)
            for mouth in mouths:
                mouth_area |= _differ(self._whole(head, Eyes(), mouth), base)
            for eyes in EYES if head == Head() else OUTERMOST_EYES:
                eyes_area |= _differ(self._whole(head, eyes, Mouth()), base)
        mouth_box, eyes_box = self._box(mouth_area), self._box(eyes_area)
        if mouth_box.overlaps(eyes_box):
            raise PosesOverlap(f"The mouth {tuple(mouth_box)} and the eyes {tuple(eyes_box)} share pixels.")
        moving_box = self._box(moving | mouth_area | eyes_area)
        limit = MAX_BYTES * (1 if self._width * self._height <= 512 * 512 else 4)
        layouts = [
            Layout(self._width, self._height, grid.columns, grid.rows, len(MOUTHS), len(EYES),
                   moving_box, mouth_box, eyes_box)
            for grid in GRIDS
        ]  # fmt: skip
        return next((layout for layout in layouts if layout.size <= limit), layouts[-1])

    def picture(self) -> Bytes:
        return to_i420(self._whole(*REST))

    def patches(self, atlas: Atlas, index: int, head: Head) -> None:
        """Draw all of one pose of the head."""
        for patches, poses in (
            (atlas.moving, [REST[1:]]),
            (atlas.mouths, [(Eyes(), mouth) for mouth in MOUTHS]),
            (atlas.eyes, [(eyes, Mouth()) for eyes in EYES]),
        ):
            pixels = patches.box.width * patches.box.height
            for number, (eyes, mouth) in enumerate(poses):
                planes = to_i420(self._part(head, eyes, mouth, patches.box))
                patches.luma[index, number].reshape(-1)[:] = planes[:pixels]
                patches.chroma[index, number].reshape(-1)[:] = planes[pixels:]

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


def _differ(one: Bytes, other: Bytes) -> NDArray[np.bool_]:
    """Where two pictures differ by more than roundings, as (height, width)."""
    return np.asarray(cv2.absdiff(one, other).max(axis=2) > ROUNDING)


def to_i420(picture: NDArray[np.uint8]) -> Bytes:
    """(height, width, 3) RGB, even sides, to the bytes of its planes Y, U, V (BT.601, as video uses it)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2YUV_I420), dtype=np.uint8).reshape(-1)


def from_i420(planes: Bytes, width: int, height: int) -> NDArray[np.uint8]:
    """The way back: (height, width, 3), RGB."""
    stacked = planes.reshape(height * 3 // 2, width)
    return np.asarray(cv2.cvtColor(stacked, cv2.COLOR_YUV2RGB_I420), dtype=np.uint8)


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
