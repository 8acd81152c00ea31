"""One model size down while the machine is short of power, and back when it has power to spare.

`LadderPolicy` decides, from numbers alone. `Ladder` looks at the machine and moves the engine: a model is loaded and
tried before it is used, so conversations never wait for a change. Only models on this machine are rungs: nothing is
fetched because the load rose.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from agent_runtime.speech.transcript import public_name
from molts import machine
from molts.errors import MoltsError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
SMOOTHING_SECONDS = 6.0  # a short peak is no load
UP_FACTOR = 3  # going back is tried after this many times the time of going down
PATIENCE_AT_MOST = 8
RETRY_SECONDS = 600.0  # a model that could not be loaded is left alone so long
SHORT_MEMORY = 0.05  # share of the GPU's memory that is free when it is short


@dataclass(frozen=True)
class LadderSettings:
    """`rungs` from small to large; `high` and `low` are shares of the machine."""

    rungs: tuple[str, ...] = ("tiny", "base", "small", "medium", "large-v3-turbo")
    high: float = 0.8
    low: float = 0.5
    seconds: float = 20.0

    @classmethod
    def from_settings(cls) -> LadderSettings:
        from django.conf import settings

        return cls(
            rungs=tuple(settings.MOLTS_SPEECH_LADDER),
            high=settings.MOLTS_SPEECH_LOAD_HIGH / 100,
            low=settings.MOLTS_SPEECH_LOAD_LOW / 100,
            seconds=float(settings.MOLTS_SPEECH_LOAD_SECONDS),
        )


@dataclass(frozen=True)
class Load:
    """How busy the machine is (0 to 1), and whether the memory that models live in is short."""

    busy: float
    memory_short: bool = False


class LadderPolicy:
    """Says which model to use. Times are seconds of any clock that only goes forward.

    Between the two bounds nothing changes. Going back up is tried later and later (up to PATIENCE_AT_MOST times as
    late) while it turns out each time that the machine cannot bear it: the smaller model itself makes the load fall.
    """

    def __init__(self, settings: LadderSettings, *, home: str, has: Callable[[str], bool] = lambda name: True) -> None:
        """`home`: the model that was chosen; nothing larger is ever used. `has`: whether a model is on this machine."""
        self._settings = settings
        self._has = has
        self.home = self.current = home
        self._rungs = settings.rungs[: settings.rungs.index(home) + 1] if home in settings.rungs else (home,)
        self._strained_since: float | None = None
        self._calm_since: float | None = None
        self._went_up_at: float | None = None
        self._patience = 1
        self._barred_until: dict[str, float] = {}
        self._home_to_come = not has(home)

    def sample(self, now: float, load: Load) -> str | None:
        """Note the load; the name of the model to change to, when it is time.

        Where the chosen model was not here yet, a smaller one stands in until it comes.
        """
        if self._home_to_come and self._has(self.home):
            self._home_to_come = False
            return self.home
        strained = load.memory_short or load.busy > self._settings.high
        calm = not load.memory_short and load.busy < self._settings.low
        self._strained_since = _start(self._strained_since, now) if strained else None
        self._calm_since = _start(self._calm_since, now) if calm else None
        if self._strained_since is not None and now - self._strained_since >= self._settings.seconds:
            return self.below(now)
        if self._calm_since is not None and now - self._calm_since >= self.up_seconds:
            return self.above(now)
        return None

    @property
    def up_seconds(self) -> float:
        """How long it must be calm before a larger model is tried."""
        return self._settings.seconds * UP_FACTOR * self._patience

    @property
    def here(self) -> list[str]:
        """The models on this machine, from the chosen one down."""
        return [name for name in reversed(self._rungs) if self._has(name)]

    @property
    def can_move(self) -> bool:
        """Whether there is anything smaller that could be here one day."""
        return len(self._rungs) > 1

    def below(self, now: float) -> str | None:
        """The next smaller model that can be used."""
        return next((name for name in reversed(self._rungs[: self._position]) if self._usable(name, now)), None)

    def above(self, now: float) -> str | None:
        return next((name for name in self._rungs[self._position + 1 :] if self._usable(name, now)), None)

    def moved(self, now: float, name: str) -> None:
        """The change to `name` is done."""
        went_up = self._rungs.index(name) > self._position
        if went_up:
            self._went_up_at = now
        elif self._went_up_at is not None:
            bore_it = now - self._went_up_at > self.up_seconds
            self._patience = 1 if bore_it else min(2 * self._patience, PATIENCE_AT_MOST)
        self.current = name
        self._strained_since = self._calm_since = None

    def failed(self, now: float, name: str) -> None:
        """`name` could not be loaded: leave it alone for a while."""
        self._barred_until[name] = now + RETRY_SECONDS

    @property
    def sizes_below(self) -> int:
        """How many sizes the model in use is below the chosen one."""
        return len(self._rungs) - 1 - self._position

    @property
    def _position(self) -> int:
        return self._rungs.index(self.current)

    def _usable(self, name: str, now: float) -> bool:
        return now >= self._barred_until.get(name, now) and self._has(name)


def _start(since: float | None, now: float) -> float:
    return now if since is None else since


class Rungs(Protocol):
    """What the ladder needs of the engine."""

    async def load(self, name: str) -> object:
        """Have a model in memory, tried out. Raises MoltsError when that cannot be."""

    def use(self, name: str) -> None:
        """Serve with a loaded model from the next call on."""

    def drop(self, name: str) -> None:
        """Give the memory of a model back."""


@dataclass(frozen=True)
class LadderState:
    """For doctor, metrics and the admin."""

    home: str
    current: str
    below: int = 0
    """How many sizes the model in use is below the chosen one."""
    reason: str = ""
    """Why the model in use is not the chosen one; empty when it is."""
    moves: int = 0
    load: float | None = None
    error: str = ""
    """Why the last change did not come about."""


class Ladder:
    """Moves the engine as the policy says. `run` it as a task."""

    def __init__(
        self,
        engine: Rungs,
        policy: LadderPolicy,
        *,
        read_load: Callable[[], Load],
        clock: Callable[[], float] = time.monotonic,
        reason: str = "",
    ) -> None:
        """`reason`: why the policy does not begin with the chosen model."""
        self._engine = engine
        self._policy = policy
        self._read_load = read_load
        self._clock = clock
        self._busy: float | None = None
        self._read_at = 0.0
        self._changing = asyncio.Lock()
        self._reason, self._error = reason, ""
        self._moves = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # without the ladder conversations go on; without this loop it would stand still for ever
                logger.exception("the load could not be read")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look at the machine once, and change the model when it is time."""
        load = self._smooth(await asyncio.to_thread(self._read_load))
        name = self._policy.sample(self._clock(), load)
        if name is not None:
            await self._change(name, "memory is short" if load.memory_short else f"load {load.busy:.0%}")

    async def fall(self, reason: str) -> bool:
        """Go down at once, out of memory for example, to the next size that can be loaded. False when there is none."""
        while (name := self._policy.below(self._clock())) is not None:
            if await self._change(name, reason):
                return True
        return False

    def state(self) -> dict[str, Any]:
        return asdict(
            LadderState(
                home=public_name(self._policy.home),
                current=public_name(self._policy.current),
                below=self._policy.sizes_below,
                reason=self._reason,
                moves=self._moves,
                load=round(self._busy, 3) if self._busy is not None else None,
                error=self._error,
            )
        )

    def _smooth(self, load: Load) -> Load:
        now = self._clock()
        weight = min(1.0, (now - self._read_at) / SMOOTHING_SECONDS)
        self._busy = load.busy if self._busy is None else self._busy + weight * (load.busy - self._busy)
        self._read_at = now
        return Load(self._busy, load.memory_short)

    async def _change(self, name: str, reason: str) -> bool:
        """Load, use, drop the old one, in this order. False when `name` cannot be used: the old one goes on."""
        async with self._changing:
            old = self._policy.current
            if name == old:
                return True
            try:
                await self._engine.load(name)
                self._engine.use(name)
            except MoltsError as error:
                self._policy.failed(self._clock(), name)
                self._error = error.detail
                logger.warning("speech model %s stays: %s", public_name(old), self._error)
                return False
            self._policy.moved(self._clock(), name)
            self._engine.drop(old)
            self._moves += 1
            self._error = ""
            self._reason = reason if name != self._policy.home else ""
            logger.warning("speech model changed from %s to %s: %s", public_name(old), public_name(name), reason)
            return True


class Processor:
    """Load of the processor since the last call: of the machine, or of what our container may use if that is more."""

    def __init__(self, root: Path = machine.ROOT) -> None:
        self._root = root
        self._at, self._used = time.monotonic(), machine.seconds_used(root)

    def __call__(self) -> Load:
        import psutil

        busy = psutil.cpu_percent(interval=None) / 100
        at, used, limit = time.monotonic(), machine.seconds_used(self._root), machine.core_limit(self._root)
        if limit and used is not None and self._used is not None and at > self._at:
            busy = max(busy, min(1.0, (used - self._used) / (at - self._at) / limit))
        self._at, self._used = at, used
        return Load(busy)


def read_gpu() -> Load:
    """Load and memory of the busiest GPU, as `nvidia-smi` tells it; blocks for some milliseconds."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Load(0.0)
    return parse_gpu(told)


def parse_gpu(told: str) -> Load:
    """From lines such as `37, 20100, 24564`. A figure that a GPU does not tell ("[N/A]") says nothing."""
    busy, short = 0.0, False
    for line in told.strip().splitlines():
        used, free, total = (float(word) if _is_number(word) else None for word in line.split(","))
        busy = max(busy, (used or 0.0) / 100)
        short = short or bool(free is not None and total and free / total < SHORT_MEMORY)
    return Load(busy, short)


def _is_number(word: str) -> bool:
    return word.strip().replace(".", "", 1).isdigit()
