"""What of its speech a hosted face really says: it is listened to, because nobody else tells.

A vendor's machine does not beat as ours do, and most plugins say that a face speaks as soon as they sent it the first
words. So the agent hears what the face publishes, and believes that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import numpy as np
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent

from agent_runtime.listening import take_sound_of

HEARD_RATE = 8_000  # Hz; enough to tell sound from silence
HEARD_STEP_MS = 100
HEARD_RMS = 100.0  # of 16-bit samples
SILENT_SECONDS = 3.0  # a pause that nobody makes in the middle of a sentence


class HeardOutput(AudioOutput):
    """Puts a vendor's output in the place that the plugin gave it, and says that it plays when it is heard to.

    `note_sound` is to be called whenever the face is audible.
    """

    def __init__(self, output: AudioOutput) -> None:
        super().__init__(
            label=f"Heard({output.label})",
            sample_rate=output.sample_rate,
            capabilities=AudioOutputCapabilities(pause=False),
        )
        self._output = output
        self._talking = False  # it has speech that it has not said to its end
        self._complete = False
        self._given = 0.0  # seconds of it
        self._began: float | None = None  # when it would have begun, had all of it been there in time
        self._due = 0.0  # since when it could be heard
        self.heard_at = time.time()
        output.on("playback_finished", self._on_finished)

    # -- what it is given ----------------------------------------------------------------------------------------------
    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        now = time.time()
        if not self._talking:
            self._talking, self._given, self._began, self._due = True, 0.0, None, now
        elif self._began is not None and (dry := now - self._began - self._given) > 0:
            self._began, self._due = self._began + dry, now  # there was nothing to say for a while
        self._complete = False
        self._given += frame.duration
        await self._output.capture_frame(frame)

    def flush(self) -> None:
        super().flush()
        self._complete = True
        self._output.flush()

    def clear_buffer(self) -> None:
        self._output.clear_buffer()

    # -- what becomes of it --------------------------------------------------------------------------------------------
    def note_sound(self) -> None:
        self.heard_at = time.time()
        if self._talking and self._began is None:
            self._began = self.heard_at
            self.on_playback_started(created_at=self.heard_at)

    def _on_finished(self, event: PlaybackFinishedEvent) -> None:
        self._talking = False
        self.on_playback_finished(playback_position=event.playback_position, interrupted=event.interrupted)

    @property
    def is_talking(self) -> bool:
        return self._talking

    @property
    def is_silent(self) -> bool:
        """Whether it fell silent in the middle of what it should say. The route sees when one does not begin."""
        if not self._talking or self._began is None:
            return False
        now = time.time()
        has_more = self._complete or now < self._began + self._given
        return has_more and now - max(self.heard_at, self._due) > SILENT_SECONDS


async def listen_to(room: rtc.Room, identity: str, output: HeardOutput) -> None:
    """Tell `output` of every sound that this participant makes, until cancelled."""
    take_sound_of(room, identity)
    heard: set[str] = set()
    while True:  # who has to connect anew publishes another track
        track = await _voice_of(room, identity, but=heard)
        heard.add(track.sid)
        stream = rtc.AudioStream(track, sample_rate=HEARD_RATE, num_channels=1, frame_size_ms=HEARD_STEP_MS)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16).astype(np.float32)
                if float(np.sqrt(np.mean(samples**2))) > HEARD_RMS:
                    output.note_sound()
        finally:
            await stream.aclose()


async def _voice_of(room: rtc.Room, identity: str, *, but: Collection[str]) -> rtc.Track:
    """The participant's audio track, once this room is subscribed to it; none of these (sids)."""

    def find() -> rtc.Track | None:
        participant = room.remote_participants.get(identity)
        for publication in participant.track_publications.values() if participant else ():
            track = publication.track
            if publication.kind == rtc.TrackKind.KIND_AUDIO and track is not None and track.sid not in but:
                return track
        return None

    changed = asyncio.Event()

    def note(*_: object) -> None:
        changed.set()

    room.on("track_subscribed", note)
    try:
        while (track := find()) is None:
            changed.clear()
            await changed.wait()
        return track
    finally:
        room.off("track_subscribed", note)
