"""A face is never frozen, never jumps, and shows what the agent does."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatars.engines.base import FaceState
from avatars.engines.behaviour import AHEAD, Behaviour, Posture

SECONDS = 0.04
LARGEST_STEP = 0.25
"""Of the half width of the grid of poses, in a frame: about a pixel and a half of 512."""


def live(state: FaceState, seconds: float = 120.0, *, seed: int = 1, motion: float = 1.0) -> list[Posture]:
    behaviour = Behaviour(seed, motion)
    return [
        behaviour.step(SECONDS, state, 0.5 + 0.5 * math.sin(frame) if state == FaceState.SPEAKING else 0.0)
        for frame in range(int(seconds / SECONDS))
    ]


def blinks(postures: list[Posture]) -> list[float]:
    """When each began."""
    lids = [posture.eyes.lids for posture in postures]
    return [frame * SECONDS for frame in range(1, len(lids)) if lids[frame] > 0 and lids[frame - 1] == 0]


def away(postures: list[Posture]) -> float:
    """For which share of the time the eyes are not on the visitor."""
    return sum((posture.eyes.gaze_x, posture.eyes.gaze_y) != AHEAD for posture in postures) / len(postures)


def test_the_seed_decides_all() -> None:
    assert live(FaceState.IDLE, seed=4) == live(FaceState.IDLE, seed=4)
    assert live(FaceState.IDLE, seed=4) != live(FaceState.IDLE, seed=5)


def test_it_is_never_frozen() -> None:
    for state in FaceState:
        postures = live(state)
        for start in range(0, len(postures) - 50, 25):
            seen = {(round(posture.x, 2), round(posture.y, 2)) for posture in postures[start : start + 50]}
            assert len(seen) > 3, f"{state} stands still for two seconds"


@given(
    st.lists(st.tuples(st.sampled_from(FaceState), st.integers(1, 60), st.floats(0.0, 1.0)), max_size=30), st.integers()
)
@example([(FaceState.LISTENING, 39, 1.0), (FaceState.IDLE, 1, 0.0)], 39)  # a nod, while a voice ends
@settings(max_examples=60, deadline=None)
def test_the_head_never_jumps(script: list[tuple[FaceState, int, float]], seed: int) -> None:
    behaviour = Behaviour(seed)
    last = behaviour.step(SECONDS, FaceState.IDLE)
    for state, frames, voice in script:
        for _ in range(frames):
            posture = behaviour.step(SECONDS, state, voice)
            assert abs(posture.x - last.x) < LARGEST_STEP
            assert abs(posture.y - last.y) < LARGEST_STEP
            assert abs(posture.eyes.brows - last.eyes.brows) < 0.3
            assert abs(posture.x) <= 1
            assert abs(posture.y) <= 1
            last = posture


def test_it_blinks_as_people_do() -> None:
    for state in FaceState:
        times = blinks(live(state, 600.0))
        gaps = [after - before for before, after in pairwise(times)]
        assert 10 <= len(times) / 10 <= 25, f"{state}: blinks a minute"
        assert max(gaps) < 7.0
        assert any(gap < 0.5 for gap in gaps), "at times twice"
        assert len({round(gap, 1) for gap in gaps}) > 20, "not by the clock"


def test_a_blink_is_seen_also_at_the_rate_of_idle_frames() -> None:
    behaviour = Behaviour(2)
    lids = [behaviour.step(0.08, FaceState.IDLE).eyes.lids for _ in range(1000)]
    assert lids.count(1.0) > 20


def test_who_thinks_looks_away_and_who_listens_does_not() -> None:
    assert away(live(FaceState.THINKING)) > 0.3
    assert away(live(FaceState.LISTENING)) < 0.1
    assert away(live(FaceState.SPEAKING)) < 0.15


def test_who_listens_nods() -> None:
    heights = [posture.y for posture in live(FaceState.LISTENING)]
    nods = sum(heights[frame] > heights[frame + 8] + 0.35 for frame in range(0, len(heights) - 8, 15))
    assert nods > 5


def test_who_speaks_moves_more() -> None:
    def path(state: FaceState) -> float:
        postures = live(state)
        return sum(math.dist((a.x, a.y), (b.x, b.y)) for a, b in pairwise(postures))

    assert path(FaceState.SPEAKING) > 1.5 * path(FaceState.IDLE)


def test_motion_scales_the_head_but_not_the_eyes() -> None:
    still = live(FaceState.SPEAKING, motion=0.0)
    assert {(posture.x, posture.y) for posture in still} == {(0.0, 0.0)}
    assert len(blinks(still)) > 10
