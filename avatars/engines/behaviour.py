"""How a face behaves: where it looks, when it blinks, how the head moves, by what the agent is doing.

Everything is a smooth function of time and of a seed: no step in any value but those that are sudden in people too
(blinks, and the jumps of the eyes).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from avatars.engines.base import FaceState
from avatars.engines.poses import Eyes

BLINK = ((0.04, 0.5), (0.16, 1.0), (0.24, 0.5))
"""Until when (seconds since it began) the lids are how far closed."""


@dataclass(frozen=True)
class Posture:
    """The head on the grid of poses, each -1 to 1, and the eyes."""

    x: float
    y: float
    eyes: Eyes


@dataclass(frozen=True)
class _Manner:
    """What a state is like: how far the head sways, where it rests, the brows."""

    sway: float
    tempo: float
    x: float
    y: float
    brows: float


MANNERS = {
    FaceState.IDLE: _Manner(sway=0.45, tempo=0.8, x=0.0, y=0.0, brows=0.0),
    FaceState.LISTENING: _Manner(sway=0.35, tempo=0.8, x=0.0, y=0.05, brows=0.15),
    FaceState.THINKING: _Manner(sway=0.3, tempo=0.7, x=0.35, y=0.25, brows=0.2),
    FaceState.SPEAKING: _Manner(sway=0.75, tempo=1.4, x=0.0, y=0.1, brows=0.1),
}


class Behaviour:
    """One face's motion. `step` is called once a frame."""

    def __init__(self, seed: int = 0, motion: float = 1.0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a face, not a secret
        self._motion = motion
        self._time = self._phase = 0.0
        self._offset = self._random.uniform(0, 100)
        self._sway, self._x, self._y, self._brows, self._voice = 0.3, 0.0, 0.0, 0.0, 0.0
        self._tempo = 0.8
        self._blink_at = self._random.uniform(0.8, 3.0)
        self._blink_again = False
        self._gaze = (0.0, 0.0)
        self._gaze_until = 0.0
        self._nod_at, self._nod_depth, self._nod_length = 2.0, 0.0, 0.6
        self._side = 1.0
        self._state = FaceState.IDLE

    def step(self, seconds: float, state: FaceState, voice: float = 0.0) -> Posture:
        """The posture `seconds` after the last one. `voice`: how loud it speaks at this moment, 0 to 1."""
        self._time += seconds
        if state != self._state:
            self._enter(state)
        manner = MANNERS[state]
        slow, quick = 1.0 - math.exp(-seconds / 0.5), 1.0 - math.exp(-seconds / 0.12)
        self._sway += slow * (manner.sway - self._sway)
        self._tempo += slow * (manner.tempo - self._tempo)
        self._x += slow * (manner.x * self._side - self._x)
        self._y += slow * (manner.y - self._y)
        self._voice += quick * (voice - self._voice)
        self._brows += quick * (manner.brows + 0.5 * max(0.0, self._voice - 0.5) - self._brows)
        self._phase += seconds * self._tempo
        lids = self._lids(seconds)
        gaze_x, gaze_y = self._look(state)
        x = self._x + self._sway * self._wander(0.0)
        breath = 0.12 * math.sin(2 * math.pi * self._time / 4.2)
        y = self._y + 0.6 * self._sway * self._wander(31.7) + breath + 0.25 * self._voice - self._nod(state)
        return Posture(
            math.tanh(x * self._motion), math.tanh(y * self._motion), Eyes(lids, gaze_x, gaze_y, self._brows)
        )

    def _enter(self, state: FaceState) -> None:
        self._state = state
        self._side = self._random.choice((-1.0, 1.0))
        self._gaze_until = self._time + self._random.uniform(0.1, 0.3)
        self._nod_at = self._time + self._random.uniform(1.2, 3.0)

    def _wander(self, offset: float) -> float:
        """-1 to 1, slow and without a visible period: sines whose periods share no common multiple."""
        t = self._phase + self._offset + offset
        return 0.55 * math.sin(t * 0.83) + 0.3 * math.sin(t * 1.37 + 1.0) + 0.15 * math.sin(t * 2.41 + 2.0)

    def _lids(self, seconds: float) -> float:
        since = self._time - self._blink_at
        if since < 0:
            return 0.0
        for until, lids in BLINK:
            if since < until:
                return lids
        if self._blink_again or self._random.random() > 0.15:
            self._blink_at = self._time + self._random.uniform(2.0, 6.0)
            self._blink_again = False
        else:
            self._blink_at = self._time + 0.12
            self._blink_again = True
        return 0.0

    def _look(self, state: FaceState) -> tuple[float, float]:
        if self._time >= self._gaze_until:
            away = {FaceState.THINKING: 0.7, FaceState.IDLE: 0.25, FaceState.SPEAKING: 0.12}.get(state, 0.0)
            if self._gaze == (0.0, 0.0) and self._random.random() < away:
                if state == FaceState.THINKING:
                    self._gaze = (0.5 * self._side, 0.6)
                else:
                    self._gaze = (self._random.choice((-0.35, 0.35, -0.7, 0.7)), 0.0)
                self._gaze_until = self._time + self._random.uniform(0.5, 1.6)
            else:
                self._gaze = (0.0, 0.0)
                self._gaze_until = self._time + self._random.uniform(0.8, 3.0)
        return self._gaze

    def _nod(self, state: FaceState) -> float:
        since = self._time - self._nod_at
        if since > self._nod_length:
            self._nod_at = self._time + self._random.uniform(2.5, 7.0)
            self._nod_depth = self._random.uniform(0.5, 0.9) if state == FaceState.LISTENING else 0.0
            return 0.0
        if since < 0:
            return 0.0
        return self._nod_depth * math.sin(math.pi * since / self._nod_length) ** 2
