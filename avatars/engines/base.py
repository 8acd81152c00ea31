"""What an engine is: it turns speech audio into video frames of a face.

Nothing here knows Django or LiveKit: PCM goes in, frames come out. The same stream serves a live room and a video job;
whoever reads it decides the pace (a room shows each frame for its `duration`, a job takes them as fast as they come).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from molts.errors import BadConfiguration, Busy, MoltsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[float], None]
"""Is told how much of a long preparation is done, 0 to 1."""


class PixelFormat(StrEnum):
    """How a frame's bytes are laid out."""

    I420 = "i420"
    RGB24 = "rgb24"


class FaceState(StrEnum):
    """What the agent is doing, as its face shows it."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True)
class VideoFormat:
    """What a stream is asked for. Width and height are even; rates are frames a second."""

    width: int = 512
    height: int = 512
    fps: float = 25.0
    idle_fps: float = 12.5


@dataclass(frozen=True)
class AudioChunk:
    """Speech: mono samples, int16."""

    samples: NDArray[np.int16]
    sample_rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class SegmentEnd:
    """The end of one utterance of the agent, in place among its audio. It comes out where it went in."""


@dataclass(frozen=True)
class VideoFrame:
    """One picture, to be shown for `duration` seconds. `data` may be shared memory of the engine: read it, do not keep
    or change it past the next frame.

    I420: the Y plane (height x width), then U and V (each height/2 x width/2). RGB24: height x width x 3.
    """

    data: bytes | memoryview | NDArray[np.uint8]
    width: int
    height: int
    pixels: PixelFormat
    duration: float
    unchanged: bool = False
    """The same picture as the last one: it need not be sent again."""


StreamItem = AudioChunk | VideoFrame | SegmentEnd


class LipSyncStream(ABC):
    """One face that speaks. Audio goes in faster than it is heard; items come out in the order in which they play: the
    audio of a frame's time first, then the frame. Between utterances it yields idle frames for as long as it is read.
    """

    @abstractmethod
    async def push_audio(self, audio: AudioChunk) -> None:
        """Speech that follows on what was pushed before. Waits while too much is queued."""

    @abstractmethod
    async def flush(self) -> None:
        """The utterance is complete: a `SegmentEnd` comes out after its last audio."""

    @abstractmethod
    def clear_buffer(self) -> None:
        """Drop all speech that has not come out yet (the visitor interrupts): the next frame closes the mouth. No
        `SegmentEnd` comes for what was dropped."""

    def set_state(self, state: FaceState) -> None:  # noqa: B027 - optional
        """What the face shows while it does not speak. Engines without such behaviour ignore it."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[StreamItem]:
        """Items in the order in which they play. Ends after `aclose`.

        Raises EngineFailed when the engine can yield no more.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Free what the stream holds. May be called twice."""


class EngineOptions(BaseModel):
    """Base of every engine's settings: unknown names are refused, so a typing error cannot pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Face:
    """One avatar, resolved to what an engine needs. `portrait` is the picture's file, `key` names this very version for
    caches: another picture or other options have another key."""

    key: str
    name: str = ""
    portrait: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineHealth:
    """Whether an engine could serve on this machine, in words for `doctor` and the admin."""

    ready: bool
    text: str
    fix: str = ""  # what to do when it is not ready
    slots: int | None = None  # faces at once on this machine, measured; None: not measured yet


@dataclass(frozen=True)
class Need:
    """Something that whoever runs the server must supply, with the environment variables that say where it is."""

    text: str
    variables: tuple[str, ...] = ()


class LipSyncEngine(ABC):
    """An engine: a small object without state of conversations. Heavy imports happen inside its methods."""

    key: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str] = ""
    """One sentence for whoever chooses among engines."""
    options: ClassVar[type[EngineOptions]] = EngineOptions
    needs_portrait: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    """What it takes besides a portrait; nothing for one that runs as it comes."""
    has_host: ClassVar[bool] = False
    """Frames are made in an engine host, which measures how many faces it shows at once; else in the avatar's job."""
    live: ClassVar[bool] = True
    """Fast enough for conversations; others make videos only."""
    sample_rate: ClassVar[int] = 16_000
    """What `push_audio` is best given, in Hz; what is pushed comes out unchanged either way."""

    def parse_options(self, options: Mapping[str, Any]) -> EngineOptions:
        """Check `options` against the schema. Raises BadConfiguration naming engine, field (`attr`) and reason."""
        try:
            return self.options.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "options"
            raise BadConfiguration(f"{self.label}: {where}: {first['msg']}.", attr=where) from error

    def check_face(self, face: Face) -> None:  # noqa: B027 - optional
        """Raise BadInput when this face cannot be used: no face in the picture, two, too small. `attr` is `portrait` or
        `options.<name>`. May take a second; runs in a thread."""

    def health(self) -> EngineHealth:
        """Whether it could serve on this machine now. Quick; touches no network but the engine host's own socket."""
        return EngineHealth(True, "ready")

    def prepare(  # noqa: B027 - optional
        self, face: Face, video: VideoFormat, progress: Progress | None = None
    ) -> None:
        """Make whatever the face needs once (poses, features), so that `open_stream` is quick. Runs in a thread; safe
        to repeat and to run twice at once; returns at once when all is there. Raises as `check_face` does."""

    def is_prepared(self, face: Face, video: VideoFormat) -> bool:
        """Whether `prepare` would return at once. Quick: looks whether files are there, not into them."""
        return True

    def still(self, face: Face, video: VideoFormat) -> NDArray[np.uint8] | None:
        """The face at rest, cut as its streams show it: (height, width, 3), RGB. None when only a stream can tell.
        Quick after `prepare`; runs in a thread. Raises as `check_face` does."""
        return None

    @abstractmethod
    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        """A stream of this face. Raises EngineFailed when the engine cannot serve, EngineFull when it has no slot."""


class EngineFailed(MoltsError):
    """The engine cannot serve (any more): its host is gone, its model is missing, a frame did not come in time."""

    code = "engine_failed"
    http_status = 503
    retryable = True


class EngineFull(Busy):
    """All places of the engine are taken."""

    code = "engine_full"
