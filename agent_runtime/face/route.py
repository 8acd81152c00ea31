"""Sends the agent's speech to its face, or to the room itself when there is none; changes over without losing words."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial

import numpy as np
from livekit import rtc
from livekit.agents.voice.io import (
    AgentOutput,
    AudioOutput,
    AudioOutputCapabilities,
    PlaybackFinishedEvent,
    PlaybackStartedEvent,
)

logger = logging.getLogger(__name__)

# A face is sent so much more than can have been heard. A voice makes half a minute of speech in a second; sent as fast,
# it keeps every machine on the way busy just when the answer begins, and sound and picture stumble.
LEAD_SECONDS = 2.0
LEAD_LOOK_SECONDS = 0.1
START_SECONDS = 3.0  # how long a face may take to begin an utterance
END_SECONDS = 3.0  # how much later than expected it may report the end
CUT_SECONDS = 2.5  # how long it may take to say where it was cut
REPEAT_SECONDS = 0.3  # what is said again, when somebody else goes on in mid-sentence
PAUSE_WITHIN_SECONDS = 1.2  # better from the last pause, if there is one so close
PAUSE_SECONDS = 0.06
ALL_BUT_SECONDS = 0.05  # who has heard all but so much has heard it all
PAUSE_LEVEL = 0.05  # of the loudest around


class _Phase(Enum):
    PLAYING = auto()  # the sink is given frames, or says the last of them
    CUTTING = auto()  # the sink was told to stop and has not said yet how far it got
    HELD = auto()  # no sink has anything of it; `base` is from where to go on


@dataclass(eq=False)
class _Utterance:
    """What is being said. Seconds count from its beginning; `base` is from where the present sink says it."""

    sink: AudioOutput
    frames: list[rtc.AudioFrame] = field(default_factory=list)
    complete: bool = False
    flushed: bool = False
    handed: float = 0.0  # seconds that the present sink has been given since `base`
    handing: bool = False  # it is just given a frame
    base: float = 0.0
    phase: _Phase = _Phase.HELD
    started_at: float | None = None  # epoch seconds: when the present sink began
    announced: bool = False
    then: Callable[[], None] = lambda: None  # what is to be done once the sink has said where it stopped
    more: asyncio.Event = field(default_factory=asyncio.Event)
    pump: asyncio.Task[None] | None = None
    watch: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        return sum(frame.duration for frame in self.frames)

    def heard(self, until: float) -> float:
        """Seconds that can have been heard until `until` (epoch)."""
        if self.started_at is None:
            return self.base
        return self.base + min(max(0.0, until - self.started_at), self.seconds - self.base)

    @property
    def lead(self) -> float:
        """Seconds that the present sink was given and cannot have been heard yet."""
        return self.handed if self.started_at is None else self.handed - (time.time() - self.started_at)

    def stop(self) -> None:
        """No more frames to the sink, and no more waiting for it."""
        if self.pump is not None:
            self.pump.cancel()
        self.pump = None
        self.watch_no_more()

    def watch_no_more(self) -> None:
        if self.watch is not None:
            self.watch.cancel()
        self.watch = None


class SpeechRoute(AudioOutput):
    """Put this in the place of the room's own output, as the last of the chain (`install`).

    It keeps what is being said until it has been heard. So it can go on elsewhere when a face is lost in mid-sentence,
    and can pause any sink: it cuts it, and says the rest later. A face is changed for another only between utterances.

    livekit-agents 1.8.9 itself keeps sending to a face that is gone, and the agent falls silent (livekit/agents#7276).
    """

    def __init__(self, room_output: AudioOutput) -> None:
        super().__init__(
            label="SpeechRoute",
            sample_rate=room_output.sample_rate,
            capabilities=AudioOutputCapabilities(pause=True),
        )
        self._room_output = room_output
        self._face: AudioOutput | None = None
        self._current: _Utterance | None = None
        self._paused = False
        self._listeners: dict[AudioOutput, tuple[Callable[..., None], Callable[..., None]]] = {}
        self.on_face_failed: Callable[[str], None] = lambda reason: None
        """Called with a reason when the face does not do what it should. The utterance waits until `drop_face`."""
        self._listen_to(room_output)

    @property
    def has_face(self) -> bool:
        return self._face is not None

    # -- faces ---------------------------------------------------------------------------------------------------------
    def use_face(self, output: AudioOutput) -> None:
        """From the next utterance on."""
        self._face = output
        self._listen_to(output)

    def drop_face(self, heard_until: float) -> None:
        """The room's own output speaks from now on, also the rest of what is being said. `heard_until` (epoch seconds)
        is when the face was last known to be well."""
        face, self._face = self._face, None
        if face is None:
            return
        self._stop_listening_to(face)
        utterance = self._current
        if utterance is None or utterance.sink is not face:
            return
        heard, utterance.sink = utterance.heard(heard_until), self._room_output
        if utterance.phase is _Phase.CUTTING:
            self._stopped(utterance, heard)
        elif utterance.phase is _Phase.PLAYING:
            utterance.stop()
            if utterance.complete and heard > utterance.seconds - ALL_BUT_SECONDS:
                self._finish(utterance, utterance.seconds, interrupted=False)
            else:
                self._go_on(utterance, beginning_before(utterance.frames, heard))

    def _listen_to(self, sink: AudioOutput) -> None:
        started, finished = partial(self._on_started, sink), partial(self._on_finished, sink)
        self._listeners[sink] = (started, finished)
        sink.on("playback_started", started)
        sink.on("playback_finished", finished)

    def _stop_listening_to(self, sink: AudioOutput) -> None:
        started, finished = self._listeners.pop(sink)
        sink.off("playback_started", started)
        sink.off("playback_finished", finished)

    # -- what the session does -----------------------------------------------------------------------------------------
    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        utterance = self._current
        if utterance is None or utterance.complete:
            utterance = self._begin()
        utterance.frames.append(frame)
        utterance.more.set()

    def flush(self) -> None:
        super().flush()
        if self._current is not None:
            self._current.complete = True
            self._current.more.set()

    def clear_buffer(self) -> None:
        """The visitor interrupts: nothing more of this is said."""
        utterance = self._current
        if utterance is not None:
            self._cut(utterance, lambda: self._finish(utterance, utterance.base, interrupted=True))

    def pause(self) -> None:
        """Not every sink can: it is cut, and `resume` says the rest."""
        self._paused = True
        utterance = self._current
        if utterance is not None and utterance.phase is _Phase.PLAYING:
            self._cut(utterance, lambda: None)

    def resume(self) -> None:
        was_paused, self._paused = self._paused, False
        utterance = self._current
        if utterance is None or not was_paused:
            return
        if utterance.phase is _Phase.HELD:
            self._go_on(utterance, utterance.base)
        elif utterance.phase is _Phase.CUTTING:
            utterance.then = lambda: self._go_on(utterance, utterance.base)

    # -- one utterance -------------------------------------------------------------------------------------------------
    def _begin(self) -> _Utterance:
        if self._current is not None:  # the session waits for an end before it says more; should it not, the rest falls
            self._finish(self._current, self._current.heard(time.time()), interrupted=True)
        utterance = self._current = _Utterance(self._face or self._room_output)
        self._go_on(utterance, 0.0)
        return utterance

    def _go_on(self, utterance: _Utterance, position: float) -> None:
        """Say the rest from `position` seconds on."""
        first, utterance.base = _frame_at(utterance.frames, position)
        utterance.started_at, utterance.handed, utterance.handing, utterance.flushed = None, 0.0, False, False
        utterance.phase = _Phase.HELD if self._paused else _Phase.PLAYING
        if not self._paused:
            utterance.pump = asyncio.create_task(self._pump(utterance, first), name="speech-route")

    async def _pump(self, utterance: _Utterance, first: int) -> None:
        sink, index = utterance.sink, first
        try:
            while True:
                if index < len(utterance.frames):
                    while (early := utterance.lead - LEAD_SECONDS) > 0:  # noqa: ASYNC110 - of the clock
                        await asyncio.sleep(min(early, LEAD_LOOK_SECONDS))
                    if utterance.started_at is None:  # counted from the last frame: it may need more than there was
                        self._expect(utterance, START_SECONDS, "does not begin to speak")
                    await self._hand_over(utterance, utterance.frames[index])
                    if utterance.phase is _Phase.CUTTING:  # meanwhile
                        self._cut_sink(utterance)
                        return
                    index += 1
                elif utterance.complete:
                    break
                else:
                    utterance.more.clear()
                    await utterance.more.wait()
        except Exception as error:
            logger.warning("speech not taken", extra={"sink": sink.label, "error": type(error).__name__})
            if sink is self._face:
                self.on_face_failed("takes no speech")
            return
        utterance.flushed = True
        sink.flush()
        if utterance.started_at is not None:
            self._expect_end(utterance)

    async def _hand_over(self, utterance: _Utterance, frame: rtc.AudioFrame) -> None:
        utterance.handing = True
        try:
            await utterance.sink.capture_frame(frame)
        finally:
            utterance.handing = False
        utterance.handed += frame.duration

    def _expect(self, utterance: _Utterance, seconds: float, failure: str) -> None:
        """A face that does not go on within `seconds` has failed. The room's own output needs no watching."""
        utterance.watch_no_more()
        if utterance.sink is self._face:
            utterance.watch = asyncio.get_running_loop().call_later(seconds, self.on_face_failed, failure)

    def _expect_end(self, utterance: _Utterance) -> None:
        left = utterance.seconds - utterance.heard(time.time())
        self._expect(utterance, left + END_SECONDS, "does not end an utterance")

    def _cut(self, utterance: _Utterance, then: Callable[[], None]) -> None:
        """Stop the sink; `then` is called when it has said how far it got, which is `base` from then on."""
        utterance.then = then
        if utterance.phase is _Phase.CUTTING:
            return
        begins = utterance.handing and not utterance.handed
        if utterance.phase is _Phase.HELD or not (utterance.handed or begins):
            self._stopped(utterance, utterance.base)
            return
        if begins:
            utterance.watch_no_more()
        else:
            utterance.stop()
        utterance.phase = _Phase.CUTTING
        give_up = partial(self._give_up_cut, utterance, utterance.heard(time.time()))
        utterance.watch = asyncio.get_running_loop().call_later(CUT_SECONDS, give_up)
        if not begins:  # else `_pump` cuts it as soon as it has begun: no sink can stop what it does not know of
            self._cut_sink(utterance)

    def _cut_sink(self, utterance: _Utterance) -> None:
        if not utterance.flushed:
            utterance.sink.flush()
        utterance.sink.clear_buffer()

    def _give_up_cut(self, utterance: _Utterance, heard: float) -> None:
        """What it says later could be taken for the end of another utterance: such a face is not used again."""
        if utterance.sink is self._face:
            self.on_face_failed("does not say where it was cut")
        self._stopped(utterance, heard)

    def _stopped(self, utterance: _Utterance, heard: float) -> None:
        utterance.stop()
        utterance.phase, utterance.base, utterance.started_at, utterance.handed = _Phase.HELD, heard, None, 0.0
        then, utterance.then = utterance.then, lambda: None
        then()

    def _finish(self, utterance: _Utterance, position: float, *, interrupted: bool) -> None:
        utterance.stop()
        if self._current is utterance:
            self._current = None
            self.on_playback_finished(playback_position=position, interrupted=interrupted)

    # -- what the sinks say --------------------------------------------------------------------------------------------
    def _on_started(self, sink: AudioOutput, event: PlaybackStartedEvent) -> None:
        utterance = self._current
        if utterance is None or utterance.sink is not sink or utterance.started_at is not None:
            return
        utterance.started_at = event.created_at
        if utterance.flushed:
            self._expect_end(utterance)
        elif utterance.phase is _Phase.PLAYING:
            utterance.watch_no_more()
        if not utterance.announced:
            utterance.announced = True
            self.on_playback_started(created_at=event.created_at)

    def _on_finished(self, sink: AudioOutput, event: PlaybackFinishedEvent) -> None:
        utterance = self._current
        if utterance is None or utterance.sink is not sink:
            return
        position = min(utterance.base + event.playback_position, utterance.seconds)
        if utterance.phase is _Phase.HELD:
            return  # it said so too late
        if not event.interrupted and utterance.flushed:
            self._finish(utterance, position, interrupted=False)
        elif utterance.phase is _Phase.CUTTING:
            # LiveKit says for a sink that does not answer that all was heard; there was no time for more than this.
            self._stopped(utterance, min(position, utterance.heard(time.time())))
        elif event.interrupted:
            self._finish(utterance, position, interrupted=True)


def install(output: AgentOutput) -> SpeechRoute:
    """Put a route where the room's own output is in a session's, below whatever wraps it."""
    route = SpeechRoute(tail_of(output))
    output.replace_audio_tail(route)
    return route


def tail_of(output: AgentOutput) -> AudioOutput:
    """The last of a session's audio outputs: what really takes the sound."""
    tail = output.audio
    assert tail is not None, "the session has no audio output"
    while tail.next_in_chain is not None:
        tail = tail.next_in_chain
    return tail


def _frame_at(frames: list[rtc.AudioFrame], position: float) -> tuple[int, float]:
    """Index of the frame in which `position` (seconds) lies, and where that frame begins."""
    begins = 0.0
    for index, frame in enumerate(frames):
        if begins + frame.duration > position + 1e-6:
            return index, begins
        begins += frame.duration
    return len(frames), begins


def beginning_before(frames: list[rtc.AudioFrame], position: float) -> float:
    """Where somebody else should go on who takes over at `position`: at the end of the last pause, if it was just
    before, else a little earlier. Seconds."""
    fallback = max(0.0, position - REPEAT_SECONDS)
    earliest = max(0.0, position - PAUSE_WITHIN_SECONDS)
    if not frames or position <= 0:
        return 0.0
    rate = frames[0].sample_rate
    samples = np.concatenate([np.frombuffer(frame.data, dtype=np.int16) for frame in frames])
    part = samples[int(earliest * rate) : int(position * rate)].astype(np.float32)
    step = int(PAUSE_SECONDS * rate)
    if len(part) < 2 * step:
        return fallback
    levels = np.sqrt(np.mean(part[: len(part) // step * step].reshape(-1, step) ** 2, axis=1))
    quiet = np.flatnonzero(levels < PAUSE_LEVEL * levels.max())
    return earliest + float(quiet[-1]) * PAUSE_SECONDS if quiet.size else fallback
