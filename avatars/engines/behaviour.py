"""How a face behaves: where it looks, when it blinks, how the head moves, by what the agent is doing.

Everything is a function of time and of a seed, and smooth but for what is sudden in people too: blinks, and the jumps
of the eyes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from avatars.engines.base import FaceState
from avatars.engines.poses import Eyes

BLINK = ((0.05, 0.5), (0.16, 1.0), (0.25, 0.5))
"""Until when (seconds since it began) the lids are how far closed."""
BLINK_EVERY = (2.0, 6.0)
DOUBLE_BLINKS = 0.15
"""How many blinks are followed by a second one at once."""

BREATH = 4.2
"""Seconds a breath takes."""

AHEAD = (0.0, 0.0)
GLANCES = ((-0.35, 0.0), (0.35, 0.0), (-0.7, 0.15), (0.7, 0.15), (0.0, -0.5))


@dataclass(frozen=True)
class Posture:
    """The head on the grid of poses, each -1 to 1, and the eyes."""

    x: float
    y: float
    eyes: Eyes


@dataclass(frozen=True)
class Manner:
    """What a state is like. `sway`: how far the head wanders about where it rests (`x` to one side, `y` up), `tempo`:
    how fast. `away`: how often the eyes leave the visitor when they could. `nods`: how deep they are."""

    sway: float
    tempo: float
    x: float
    y: float
    brows: float
    away: float
    nods: float


MANNERS = {
    FaceState.IDLE: Manner(sway=0.7, tempo=0.8, x=0.0, y=0.0, brows=0.0, away=0.3, nods=0.0),
    FaceState.LISTENING: Manner(sway=0.5, tempo=0.8, x=0.15, y=0.1, brows=0.2, away=0.06, nods=1.1),
    FaceState.THINKING: Manner(sway=0.4, tempo=0.7, x=0.6, y=0.4, brows=0.25, away=1.0, nods=0.0),
    FaceState.SPEAKING: Manner(sway=0.9, tempo=1.3, x=0.0, y=0.1, brows=0.1, away=0.12, nods=0.0),
}


QUICKEST = 6.0
"""Half widths of the grid of poses in a second: a nod, just while a voice ends, would be quicker than any head."""


class Behaviour:
    """One face's motion. `step` is called once a frame."""

    def __init__(self, seed: int = 0, motion: float = 1.0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a face, not a secret
        self._motion = motion
        self._state = FaceState.IDLE
        self._side = 1.0  # to which the head and the eyes turn away
        self._time = 0.0
        self._phase = self._random.uniform(0.0, 100.0)  # of the wandering
        manner = MANNERS[self._state]
        self._sway, self._tempo, self._x, self._y, self._brows = manner.sway, manner.tempo, manner.x, manner.y, 0.0
        self._voice = self._usual_voice = 0.0
        self._blink_at = self._random.uniform(0.8, 3.0)
        self._second_blink = False
        self._gaze, self._gaze_until = AHEAD, 0.0
        self._shown: tuple[float, float] | None = None
        self._nod = Nod(-1.0, 1.0, 0.0)
        self._nod_at = 2.0

    def step(self, seconds: float, state: FaceState, voice: float = 0.0) -> Posture:
        """The posture `seconds` after the last one. `voice`: how loud it speaks at this moment, 0 to 1."""
        self._time += seconds
        if state != self._state:
            self._enter(state)
        manner = MANNERS[state]
        slow, quick = _share(seconds, 0.6), _share(seconds, 0.2)
        self._sway += slow * (manner.sway - self._sway)
        self._tempo += slow * (manner.tempo - self._tempo)
        self._x += slow * (manner.x * self._side - self._x)
        self._y += slow * (manner.y - self._y)
        self._voice += quick * (voice - self._voice)
        self._usual_voice += _share(seconds, 2.0) * (voice - self._usual_voice)
        emphasis = max(0.0, self._voice - self._usual_voice)
        self._brows += quick * (manner.brows + 1.2 * emphasis - self._brows)
        self._phase += seconds * self._tempo

        if self._time >= self._nod_at:
            self._begin_nod(state, emphasis)
        breath = 0.25 * math.sin(2.0 * math.pi * self._time / BREATH)
        x = self._x + self._sway * _wander(self._phase)
        y = self._y + 0.6 * self._sway * _wander(self._phase + 31.7) + breath + 0.4 * emphasis
        y -= self._nod.depth_at(self._time)
        eyes = Eyes(self._lids(), *self._look(manner), self._brows)
        most = QUICKEST * seconds if self._shown else math.inf
        self._shown = (
            _towards(math.tanh(x * self._motion), self._shown[0] if self._shown else 0.0, most),
            _towards(math.tanh(y * self._motion), self._shown[1] if self._shown else 0.0, most),
        )
        return Posture(*self._shown, eyes)

    def _enter(self, state: FaceState) -> None:
        """People look, and often blink, when something begins."""
        self._state = state
        self._side = self._random.choice((-1.0, 1.0))
        self._gaze_until = self._time + self._random.uniform(0.1, 0.3)
        self._nod_at = self._time + self._random.uniform(1.0, 2.5)
        if self._random.random() < 0.4 and self._blink_at > self._time:
            self._blink_at = min(self._blink_at, self._time + 0.1)

    def _begin_nod(self, state: FaceState, emphasis: float) -> None:
        """Listeners nod now and then, speakers with what they stress."""
        if state == FaceState.LISTENING:
            length = self._random.uniform(0.55, 0.8)
            self._nod = Nod(self._time, length, MANNERS[state].nods * self._random.uniform(0.6, 1.0))
            again = self._random.random() < 0.4
            self._nod_at = self._time + length + (0.0 if again else self._random.uniform(2.5, 6.0))
        elif state == FaceState.SPEAKING and emphasis > 0.12:
            self._nod = Nod(self._time, 0.5, self._random.uniform(0.3, 0.6))
            self._nod_at = self._time + self._random.uniform(0.9, 2.5)

    def _lids(self) -> float:
        since = self._time - self._blink_at
        if since < 0:
            return 0.0
        for until, lids in BLINK:
            if since < until:
                return lids
        self._second_blink = not self._second_blink and self._random.random() < DOUBLE_BLINKS
        self._blink_at = self._time + (0.1 if self._second_blink else self._random.uniform(*BLINK_EVERY))
        return 0.0

    def _look(self, manner: Manner) -> tuple[float, float]:
        if self._time >= self._gaze_until:
            if self._gaze == AHEAD and self._random.random() < manner.away:
                thinking = self._state == FaceState.THINKING
                self._gaze = (0.5 * self._side, 0.6) if thinking else self._random.choice(GLANCES)
                self._gaze_until = self._time + self._random.uniform(0.5, 1.8)
            else:
                self._gaze = AHEAD
                self._gaze_until = self._time + self._random.uniform(0.6, 2.5)
        return self._gaze


@dataclass(frozen=True)
class Nod:
    """The head goes down and comes back."""

    start: float
    length: float
    depth: float

    def depth_at(self, time: float) -> float:
        share = (time - self.start) / self.length
        return self.depth * math.sin(math.pi * share) ** 2 if 0.0 < share < 1.0 else 0.0


def _towards(wanted: float, shown: float, most: float) -> float:
    """`wanted`, or as near to it as a step of `most` from what is `shown` comes."""
    return min(max(wanted, shown - most), shown + most)


def _share(seconds: float, constant: float) -> float:
    """How much of the way an exponential approach goes in this time."""
    return 1.0 - math.exp(-seconds / constant)


def _wander(phase: float) -> float:
    """-1 to 1, slow and without a visible period: sines whose periods have no common multiple."""
    return 0.55 * math.sin(0.83 * phase) + 0.3 * math.sin(1.37 * phase + 1.0) + 0.15 * math.sin(2.41 * phase + 2.0)
