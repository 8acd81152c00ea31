"""An avatar as a process of its own, for benchmarks: `ours`, or the peer, LiveKit's `AvatarRunner` fed with RGB frames.

    python -m tests.bench.avatar_process ours|runner|runner-as-it-comes pattern|face|mira|portrait URL TOKEN AGENT

`pattern` shows a white picture for exactly the sound of each beep, so that sound and picture can be compared; `face` is
a moving face. `mira` and `portrait` are ours alone: a drawn character and a photo. The peer's frames are ready RGB
pictures: building them costs it nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)
from numpy.typing import NDArray

from agent_runtime.avatar.publisher import audio_options, video_options
from agent_runtime.job_logs import log_media_natively
from avatars.engines.base import Face, FaceState, LipSyncStream, VideoFormat
from avatars.engines.cache import keep_in

RATE = 24_000
SIZE = 512
FPS = 25
SAMPLES = RATE // FPS
LOUD = 2_000
WHITE, GREY = 235, 60


def is_loud(samples: NDArray[np.int16]) -> bool:
    return bool(np.abs(samples.astype(np.int32)).max(initial=0) > LOUD)


def frames_of(sound: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """The sound of each frame."""
    return [sound[start : start + SAMPLES] for start in range(0, len(sound), SAMPLES)]


# -- The peer ----------------------------------------------------------------------------------------------------------
class ReadyFrames(VideoGenerator):
    """Gives sound and RGB frames for as long as it is read, at the same rate whether it speaks or not."""

    def __init__(self, pictures: list[rtc.VideoFrame], *, pattern: bool) -> None:
        self._pictures = pictures
        self._pattern = pattern
        self._sound: deque[NDArray[np.int16] | None] = deque()
        self._rest = np.zeros(0, dtype=np.int16)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        if isinstance(frame, AudioSegmentEnd):
            if len(self._rest):
                self._sound.append(np.pad(self._rest, (0, SAMPLES - len(self._rest))))
                self._rest = self._rest[:0]
            self._sound.append(None)
            return
        sound = np.concatenate((self._rest, np.frombuffer(frame.data, dtype=np.int16)))
        pieces = frames_of(sound)
        self._rest = pieces.pop() if len(pieces[-1]) < SAMPLES else sound[:0]
        self._sound.extend(pieces)

    def clear_buffer(self) -> None:
        self._sound.clear()
        self._rest = self._rest[:0]

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        index = 0
        while True:
            await asyncio.sleep(0)
            sound = self._sound.popleft() if self._sound else np.zeros(0, dtype=np.int16)
            if sound is None:
                yield AudioSegmentEnd()
                continue
            index += 1
            if len(sound):
                yield rtc.AudioFrame(sound.tobytes(), RATE, 1, len(sound))
            yield self._pictures[is_loud(sound) if self._pattern else index % len(self._pictures)]


def rgb(picture: NDArray[np.uint8]) -> rtc.VideoFrame:
    return rtc.VideoFrame(SIZE, SIZE, rtc.VideoBufferType.RGB24, bytearray(picture.tobytes()))


def flat(level: int) -> NDArray[np.uint8]:
    return np.full((SIZE, SIZE, 3), level, dtype=np.uint8)


def face_pictures() -> list[rtc.VideoFrame]:
    """Two seconds of a face that speaks and moves its head."""
    from avatars.engines.poses import Eyes, Head, Mouth
    from tests.avatars.engines.artist import RoundFace

    turns = np.linspace(0, 2 * np.pi, 2 * FPS, endpoint=False)
    return [
        rgb(
            RoundFace().render(
                Head(yaw=float(np.sin(turn)) * 0.3),
                Eyes(),
                Mouth(abs(float(np.sin(4 * turn)))),
                width=SIZE,
                height=SIZE,
            )
        )
        for turn in turns
    ]


class SamePublication(AvatarRunner):
    """Publishes as we do: left to itself it takes the library's preset for this size, which has other rates, and sends
    the picture in two sizes."""

    async def _publish_track(self) -> None:
        async with self._lock:
            await self._room_connected_fut
            audio = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._audio_source)
            self._audio_publication = await self._room.local_participant.publish_track(audio, audio_options())
            await self._audio_publication.wait_for_subscription()
            video = rtc.LocalVideoTrack.create_video_track("avatar_video", self._video_source)
            self._video_publication = await self._room.local_participant.publish_track(video, video_options(FPS))


async def run_peer(
    room: rtc.Room, agent: str, *, picture: str, kind: type[AvatarRunner] = SamePublication
) -> AvatarRunner:
    pattern = picture == "pattern"
    pictures = [rgb(flat(GREY)), rgb(flat(WHITE))] if pattern else face_pictures()
    runner = kind(
        room,
        audio_recv=DataStreamAudioReceiver(room, sender_identity=agent),
        video_gen=ReadyFrames(pictures, pattern=pattern),
        options=AvatarOptions(SIZE, SIZE, FPS, RATE, 1),
    )
    await runner.start()
    return runner


# -- Ours --------------------------------------------------------------------------------------------------------------
async def open_stream(picture: str, video: VideoFormat) -> LipSyncStream:
    from avatars.engines import get_engine
    from tests.agent_runtime.avatar.round_faces import Round
    from tests.avatars.engines.portraits import SMILING
    from tests.bench.pattern_stream import PatternStream

    if picture == "pattern":
        return PatternStream(video)
    keep_in(Path(os.environ.get("BENCH_FACES", tempfile.gettempdir())) / "bench-faces")
    engine, face = {
        "face": (Round(), Face("round")),
        "mira": (get_engine("puppet"), Face("mira", options={"character": "mira"})),
        "portrait": (get_engine("portrait"), Face("portrait", portrait=SMILING)),
    }[picture]
    engine.prepare(face, video)
    return await engine.open_stream(face, video)


async def run_ours(room: rtc.Room, agent: str, *, picture: str) -> object:
    from agent_runtime.avatar.job import RECEIVED_MS
    from agent_runtime.avatar.publisher import FacePublisher

    video = VideoFormat(SIZE, SIZE, float(FPS))
    stream = await open_stream(picture, video)
    receiver = DataStreamAudioReceiver(room, sender_identity=agent, frame_size_ms=RECEIVED_MS)
    await receiver.start()
    publisher = FacePublisher(room, speech=receiver, stream=stream, video=video, sample_rate=RATE)
    await publisher.start()
    stream.set_state(FaceState.LISTENING)
    return publisher


RUN: dict[str, Callable[..., Awaitable[object]]] = {
    "ours": run_ours,
    "runner": run_peer,
    "runner-as-it-comes": partial(run_peer, kind=AvatarRunner),
}


async def main(kind: str, picture: str, url: str, token: str, agent: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if kind == "ours":
        log_media_natively()
    room = rtc.Room()
    await room.connect(url, token, options=rtc.RoomOptions(auto_subscribe=False))
    running = await RUN[kind](room, agent, picture=picture)
    print("ready", flush=True)
    await stopped.wait()
    del running
    await room.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
