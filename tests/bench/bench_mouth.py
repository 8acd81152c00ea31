"""Whether the mouth that a visitor sees follows the voice that it hears: both as they come out of the media server.

For a drawn character and a photo, three voices each: the correlation of the mouth's openness (how high the dark between
the lips is in the middle) with the loudness of the speech, by receive timestamps, and the lag at which it is highest.

pytest tests/bench/bench_mouth.py -m bench -s
"""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.agent_runtime.conftest import redis_server  # noqa: F401 - a fixture
from tests.agent_runtime.stack import Stack
from tests.avatars.engines.speech import RATE as VOICE_RATE
from tests.avatars.engines.speech import TEXT, say
from tests.bench.avatar_process import RATE
from tests.bench.bench_avatar import Talk, media  # noqa: F401 - a fixture
from tests.visitor import Visitor, rms

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]
VOICES = ("en-us", "en-us+f3", "en-gb+m3")
# Where the middle of the mouth is in 512 x 512 (rows, columns), and below which level the dark between the lips is.
MOUTHS = {
    "mira": (slice(255, 320), slice(252, 273), 75),
    "portrait": (slice(268, 360), slice(242, 263), 90),
}
STEP = 0.010  # seconds of the common time axis
WINDOW = 4  # steps of a frame
MOST_LAG = 12  # steps
LEAST, LAG_MS = 0.7, 40


@pytest.mark.parametrize("face", MOUTHS)
async def test_the_mouth_follows_the_voice(media: Stack, face: str) -> None:  # noqa: F811
    async with Talk(media, "ours", face, f"mouth-{face}") as talk:
        assert isinstance(talk.visitor, Visitor)
        talk.visitor.seen.measure = lambda luma: openness(face, luma)
        await asyncio.sleep(3)
        for voice in VOICES:
            began = time.time()
            await talk.say(spoken(voice))
            correlation, lag = follow(talk.visitor, began, time.time())
            print(
                f"\n{face} {voice}: correlation {correlation:.2f} (at least {LEAST}), mouth {lag * 1000:+.0f} ms after "
                f"the voice (within {LAG_MS}), load {os.getloadavg()[0]:.1f}"
            )


def spoken(voice: str) -> NDArray[np.int16]:
    import soxr

    samples: NDArray[np.int16] = soxr.resample(say(TEXT, voice), VOICE_RATE, RATE)
    return samples


def openness(face: str, luma: NDArray[np.uint8]) -> float:
    """Rows from the first to the last that are dark in the middle of the mouth."""
    rows, columns, level = MOUTHS[face]
    dark = np.flatnonzero((luma[rows, columns] < level).any(axis=1))
    return float(dark[-1] - dark[0] + 1) if len(dark) else 0.0


def follow(visitor: Visitor, since: float, until: float) -> tuple[float, float]:
    """(highest correlation, seconds that the mouth comes after the voice)."""
    axis = np.arange(since, until, STEP)
    at, opened = np.array(visitor.seen.since(since - 1)).T
    mouth = opened[np.maximum(0, np.searchsorted(at, axis, side="right") - 1)]  # a frame stands until the next
    heard = np.array([(when, rms(frame)) for when, frame in visitor.heard.frames if since - 1 < when < until + 1])
    loud = np.interp(axis, heard[:, 0], heard[:, 1])
    # A frame shows the mouth of the 40 ms of sound that begin with it.
    voice = np.array([loud[step : step + WINDOW].mean() for step in range(len(axis))])

    def correlation(lag: int) -> float:
        one = mouth[MOST_LAG + lag : len(mouth) - MOST_LAG + lag]
        return float(np.corrcoef(one, voice[MOST_LAG : len(voice) - MOST_LAG])[0, 1])

    best = max(range(-MOST_LAG, MOST_LAG + 1), key=correlation)
    return correlation(best), best * STEP
