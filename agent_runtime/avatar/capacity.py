"""How many faces this machine can show at once, found by encoding a second of one.

Building a frame costs microseconds; what a face costs is encoding its video, and moving sound and picture to the room.
The first is measured here, with the encoder that rooms use; the second is proportional to it (`WHOLE`), as measured by
`tests/bench/bench_avatar.py`.
"""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from agent_runtime.avatar.publisher import VIDEO_BITRATE
from avatars.engines.base import VideoFormat
from molts.machine import usable_cores

WHOLE = 4.0
"""The processor time of a speaking face, in that of encoding its frames: 3.0 in its process, 0.6 in the media server,
and a tenth to spare."""
FOR_FACES = 0.8
"""Of the machine; the rest is for the system and for bursts."""


def measure_slots(video: VideoFormat) -> int:
    """Faces at once, at least one. Takes about a tenth of a second of processor time."""
    share = encoding_share(video) * WHOLE
    return max(1, int(usable_cores() * FOR_FACES / share))


def encoding_share(video: VideoFormat) -> float:
    """Of one core, to encode a face that moves as one that speaks. Counts this thread's time, so that a busy machine is
    not taken for a slow one."""
    import av

    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = video.width, video.height, "yuv420p"
    encoder.bit_rate, encoder.time_base, encoder.thread_count = VIDEO_BITRATE, Fraction(1, round(video.fps)), 1
    encoder.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0"}
    picture = _picture(video)
    rows, columns = slice(video.height // 2, video.height * 3 // 4), slice(video.width // 3, video.width * 2 // 3)
    mouth, count = picture[rows, columns].copy(), round(video.fps)
    began = time.thread_time()
    for number in range(count):
        picture[rows, columns] = np.roll(mouth, number % 5, axis=0)
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        encoder.encode(frame)
    return (time.thread_time() - began) / count * video.fps


def _picture(video: VideoFormat) -> NDArray[np.uint8]:
    """Smooth shapes in I420, as many details as a face has."""
    y, x = np.mgrid[0 : video.height * 3 // 2, 0 : video.width]
    waves = np.sin(x / 23) * np.cos(y / 31) + 0.3 * np.sin((x + y) / 5)
    return np.asarray(128 + 80 * waves / 1.3, dtype=np.uint8)
