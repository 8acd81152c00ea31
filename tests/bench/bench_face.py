"""Frames of a face on one core: put together from kept poses, against what lip-sync servers on a processor do.

The peer (as LiveTalking and MuseTalk put their frames together, with OpenCV): copy the whole picture of this moment,
blend the mouth's patch onto it with a soft mask, convert RGB to I420. It gets the same picture, the same mouth's area,
and mouths that are ready too. Frames are counted for a second of processor time of this process.

Then what a stream costs while it speaks and while it idles, its parts, and what drawing the poses once took.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatars.characters import get_artist
from avatars.engines.atlas import Atlas, Canvas, open_atlas
from avatars.engines.base import AudioChunk, FaceState, SegmentEnd, VideoFormat, VideoFrame
from avatars.engines.behaviour import Behaviour
from avatars.engines.pose_plan import EYES, MOUTHS, nearest_eyes, nearest_mouth
from avatars.engines.pose_stream import PoseStream
from avatars.engines.poses import Eyes, Head, Mouth
from tests.avatars.engines.speech import RATE, TEXT, mouths, say

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

SIDE = int(os.environ.get("BENCH_FACE_SIDE", "512"))
CHARACTER = os.environ.get("BENCH_FACE_CHARACTER", "mira")
FRAMES, ROUNDS = 2_000, 5
RATIO, FLOOR = 4.0, 2_000


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder = tmp_path_factory.mktemp("poses")
    started = time.process_time()
    atlas = open_atlas(get_artist(CHARACTER), SIDE, SIDE, folder=folder)
    spent = time.process_time() - started
    [file] = folder.glob("*.poses")
    print(
        f"\n{CHARACTER} at {SIDE}x{SIDE}: {len(atlas.grid)} poses of the head, {len(MOUTHS)} mouths, {len(EYES)} pairs"
        f" of eyes; drawn once in {spent:.1f} s of one core, {file.stat().st_size / 1e6:.0f} MB"
    )
    return atlas


def per_second(make: Callable[[int], object]) -> float:
    """Calls for a second of processor time."""
    started = time.process_time()
    for number in range(FRAMES):
        make(number)
    return FRAMES / (time.process_time() - started)


class Peer:
    """A mouth blended onto a picture, as RGB, then converted."""

    def __init__(self, atlas: Atlas) -> None:
        artist, box = get_artist(CHARACTER), atlas.layout.mouth_box
        heads = [Head(yaw=0.02 * step) for step in range(-4, 4)]
        self.rows, self.columns = box.rows, box.columns
        self.pictures = [artist.render(head, Eyes(), Mouth(), width=SIDE, height=SIDE) for head in heads]
        self.mouths = [
            artist.render(Head(), Eyes(), mouth, width=SIDE, height=SIDE)[box.rows, box.columns].astype(np.float32)
            for mouth in MOUTHS
        ]
        soft = np.zeros((box.height, box.width), dtype=np.float32)
        soft[8:-8, 8:-8] = 1.0
        self.mask = cv2.GaussianBlur(soft, (15, 15), 0)[..., None].repeat(3, axis=2)
        self.rest = 1.0 - self.mask

    def frame(self, number: int) -> NDArray[np.uint8]:
        picture = self.pictures[number % len(self.pictures)].copy()
        part = picture[self.rows, self.columns]
        mouth = cv2.multiply(self.mouths[number % len(self.mouths)], self.mask)
        below = cv2.multiply(part.astype(np.float32), self.rest)
        picture[self.rows, self.columns] = cv2.add(mouth, below).astype(np.uint8)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)


def test_frames_a_second_beside_the_peer(atlas: Atlas) -> None:
    cv2.setNumThreads(1)
    canvas, peer, behaviour = Canvas(atlas), Peer(atlas), Behaviour(1)
    talk = mouths(say(TEXT))
    script = [
        (posture.x, posture.y, nearest_eyes(posture.eyes), nearest_mouth(mouth))
        for mouth in talk * (FRAMES // len(talk) + 1)
        for posture in [behaviour.step(0.04, FaceState.SPEAKING, mouth.openness)]
    ]

    def everything_changes(number: int) -> None:
        canvas.show(math.sin(number * 0.7), math.cos(number * 0.9), number % len(EYES), number % len(MOUTHS))

    ours, worst, theirs = [], [], []
    for _ in range(ROUNDS):  # in turns, so that a busy machine is busy for all
        ours.append(per_second(lambda number: canvas.show(*script[number])))
        worst.append(per_second(everything_changes))
        theirs.append(per_second(peer.frame))
    print(f"frames a processor second, median of {ROUNDS} rounds of {FRAMES}")
    print(f"  peer: blend and convert with OpenCV      {median(theirs):8.0f}")
    print(f"  kept poses, everything changes each time {median(worst):8.0f}   {median(worst) / median(theirs):5.1f}x")
    print(f"  kept poses, as when it speaks            {median(ours):8.0f}   {median(ours) / median(theirs):5.1f}x")
    print(f"  goal                                     {FLOOR:8d}   {RATIO:5.1f}x")


async def _speak(stream: PoseStream, seconds: float) -> tuple[float, int]:
    """Processor seconds for a second of speech, and frames."""
    sound = np.resize(say(TEXT), int(seconds * RATE))

    async def push() -> None:
        for start in range(0, len(sound), RATE // 10):
            await stream.push_audio(AudioChunk(sound[start : start + RATE // 10], RATE))
        await stream.flush()

    frames, started = 0, time.process_time()
    pushing = asyncio.create_task(push())
    async for item in stream:
        frames += isinstance(item, VideoFrame)
        if isinstance(item, SegmentEnd):
            break
    await pushing
    return (time.process_time() - started) / seconds, frames


async def _idle(stream: PoseStream, seconds: float) -> tuple[float, int, int]:
    shown = frames = unchanged = 0
    started = time.process_time()
    async for item in stream:
        assert isinstance(item, VideoFrame)
        frames += 1
        unchanged += item.unchanged
        if frames >= seconds * VideoFormat().idle_fps:
            break
        shown += 1
    return (time.process_time() - started) / seconds, frames, unchanged


async def test_a_stream_on_one_core(atlas: Atlas) -> None:
    video = VideoFormat(SIDE, SIDE)
    spent, frames = await _speak(PoseStream(atlas, video, seed=1), 60.0)
    print(f"\nspeaking: {100 * spent:.2f} % of one core at {frames / 60:.1f} frames a second (all but encoding)")
    spent, frames, unchanged = await _idle(PoseStream(atlas, video, seed=1), 120.0)
    share = 100 * unchanged / frames
    print(f"idle: {100 * spent:.2f} % of one core at {frames / 120:.1f} frames a second, {share:.0f} % unchanged")

    sound = np.resize(say(TEXT), 60 * RATE)
    started = time.process_time()
    mouths(sound)
    print(f"mouth shapes from sound: {100 * (time.process_time() - started) / 60:.2f} % of one core (goal: 1 %)")


def test_opening_kept_poses(tmp_path: Path) -> None:
    """A new process reads and checks the file once, then every stream shares it."""
    artist = get_artist(CHARACTER)
    open_atlas(artist, 128, 128, folder=tmp_path)
    started = time.perf_counter()
    for _ in range(100):
        open_atlas(artist, 128, 128, folder=tmp_path)
    print(f"\nopening poses that are open: {1e4 * (time.perf_counter() - started):.0f} us")
