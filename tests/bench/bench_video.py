"""How soon a video is there, and what its composition costs beside picture files that go into `ffmpeg`.

pytest tests/bench/bench_video.py -m bench -s          MOLTS_BENCH_VIDEOS=10 says how many scripts
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatars.engines.base import PixelFormat, VideoFrame
from avatars.snapshots import AvatarSnapshot, Rung
from avatars.videos.ordering import plan_video
from avatars.videos.pipeline import SceneVoices, make_video
from avatars.videos.report import VideoReport
from avatars.videos.spec import Scene
from avatars.videos.stages.compose import Composition
from projects.providers.base import KeyedRung

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

VIDEOS = int(os.environ.get("MOLTS_BENCH_VIDEOS", "10"))
AVATAR = AvatarSnapshot(name="Ada", engine="puppet", options={"character": "mira"})
FPS = 25
# About ten seconds each when spoken; the number makes each one new.
TEXT = (
    "This is film number {}. In the morning the sun comes over the sea, and the day is warm and bright. "
    "At noon a little wind comes from the west and brings some clouds."
)


def spent() -> float:
    """Seconds of processor time of this process and of all its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


@pytest.mark.parametrize(("resolution", "aspect"), [("512p", "1:1"), ("1080p", "16:9")])
def test_how_soon_a_video_is_there(resolution: str, aspect: str, tmp_path: Path) -> None:
    """From the call to the file. The first one has its poses drawn, or finds them where they are kept."""

    def one(number: int) -> tuple[float, float, float, float]:
        scene = Scene(script=TEXT.format(number), language="en", voices=(Rung(provider="espeak"),), avatar=AVATAR)
        spec = plan_video(scenes=[scene], resolution=resolution, aspect=aspect, fps=FPS)
        began, at, work = time.monotonic(), time.time(), spent()
        voices = [SceneVoices((KeyedRung("espeak"),))]
        made = make_video(spec=spec, voices=voices, folder=tmp_path / str(number), report=VideoReport())
        took = time.monotonic() - began
        return took, made.composed.first_packet_at - at, made.composed.duration, spent() - work

    first = one(0)
    print(f"\n{resolution} {aspect}: the first {first[0]:.1f} s, first bytes after {first[1]:.1f} s")
    rest = [one(number) for number in range(1, VIDEOS + 1)]
    took, begun, length, work = (median(column) for column in zip(*rest, strict=True))
    slowest = max(each[0] for each in rest)
    print(
        f"  {VIDEOS} scripts of {length:.1f} s: median {took:.1f} s, slowest {slowest:.1f} s, first bytes {begun:.1f} s"
    )
    print(f"  {took / length:.2f} s for a second of video, {60 * work / length:.0f} processor seconds for a minute")


def test_composition_beside_picture_files(tmp_path: Path) -> None:
    """Frames a processor second for the same pictures, preset and quality; PNG files into `ffmpeg` beside ours."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not here")
    size, count = 512, 250
    pictures = moving_pictures(size, count)

    def ours() -> Path:
        output = tmp_path / "ours.mp4"
        composition = Composition(output, size, size, FPS, threads=1)
        for picture in pictures:
            composition.add_frame(VideoFrame(picture, size, size, PixelFormat.RGB24, 1 / FPS))
        composition.finish()
        return output

    def files() -> Path:
        output, folder = tmp_path / "files.mp4", tmp_path / "png"
        folder.mkdir(exist_ok=True)
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(folder / f"{number:04d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        encode = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-profile:v", "high", "-threads", "1")
        command = ["ffmpeg", "-y", "-v", "error", "-framerate", str(FPS), "-i", str(folder / "%04d.png"), *encode]
        subprocess.run([*command, "-pix_fmt", "yuv420p", str(output)], check=True, timeout=300)
        return output

    rates: dict[str, list[float]] = {"ours": [], "files": []}
    shown: dict[str, float] = {}
    for _ in range(3):
        for name, make in (("ours", ours), ("files", files)):
            rate, output = measured(make, count)
            rates[name].append(rate)
            shown[name] = sharpness(output, pictures)
    ours_rate, files_rate = median(rates["ours"]), median(rates["files"])
    print(f"\ncomposition: {ours_rate:.0f} frames a processor second, PNG files into ffmpeg {files_rate:.0f}: ", end="")
    print(f"{ours_rate / files_rate:.1f}x; PSNR {shown['ours']:.2f} and {shown['files']:.2f} dB")


def measured(make: Callable[[], Path], count: int) -> tuple[float, Path]:
    work = spent()
    output = make()
    return count / (spent() - work), output


def moving_pictures(size: int, count: int) -> list[NDArray[np.uint8]]:
    """A soft picture in which something moves, as of a face before a wall."""
    across, down = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    wall = np.stack([180 + 60 * across, 170 + 50 * down, 150 + 40 * across * down], axis=-1).astype(np.uint8)
    pictures = []
    for number in range(count):
        picture = wall.copy()
        cv2.circle(picture, (size // 2 + round(6 * np.sin(number / 9)), size // 2), size // 4, (214, 160, 130), -1)
        opened = round(size / 40 * (1 + np.sin(number / 2)))
        cv2.ellipse(picture, (size // 2, size * 5 // 8), (size // 12, opened), 0, 0, 360, (120, 30, 40), -1)
        pictures.append(picture)
    return pictures


def sharpness(file: Path, pictures: list[NDArray[np.uint8]]) -> float:
    """PSNR in decibels of what is decoded against what went in."""
    with av.open(str(file)) as container:
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(seen) == len(pictures)
    error = np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(seen, pictures, strict=True)])
    return float(10 * np.log10(255**2 / error))
