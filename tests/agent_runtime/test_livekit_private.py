"""Each private piece of LiveKit that the runtime uses is there and means what it is used for.

That the parts of a stream reach only their destinations is seen in avatar/test_addressed_streams.py, how often the
speed of a voice is measured in test_pipeline.py, and that a worker notices the end of its jobs in test_conversation.py.
"""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace
from typing import Any, get_args

from livekit import rtc
from livekit.agents import AgentServer
from livekit.agents.ipc import proc_pool
from livekit.agents.voice.room_io import RoomIO
from livekit.agents.voice.room_io._input import _ParticipantAudioInputStream
from livekit.agents.voice.room_io._pre_connect_audio import PreConnectAudioHandler
from livekit.agents.voice.transcription import TranscriptSynchronizer
from livekit.protocol.models import AudioTrackFeature
from livekit.rtc._proto.ffi_pb2 import FfiRequest

from agent_runtime.livekit_private import DataStream, keep_media_log_native, taken_recordings


def test_the_media_library_can_be_told_to_keep_its_log() -> None:
    assert keep_media_log_native()


def test_a_part_of_a_stream_names_who_sends_it_and_to_whom() -> None:
    for name, part in (
        ("header", DataStream.Header()),
        ("chunk", DataStream.Chunk()),
        ("trailer", DataStream.Trailer()),
    ):
        sent = getattr(FfiRequest(), f"send_stream_{name}")
        sent.local_participant_handle = 1
        sent.sender_identity = "agent"
        sent.destination_identities.extend(["face"])
        getattr(sent, name).CopyFrom(part)
    assert "_ffi_handle" in inspect.getsource(rtc.LocalParticipant)


async def test_a_recording_that_never_arrives_is_done_with_in_the_end() -> None:
    room = rtc.Room()
    handler = PreConnectAudioHandler(room, timeout=0.05)
    sound = _ParticipantAudioInputStream(
        room, sample_rate=16_000, num_channels=1, noise_cancellation=None, pre_connect_audio_handler=handler
    )
    room_io: Any = SimpleNamespace(audio_input=sound)
    recorded: Any = SimpleNamespace(
        sid="TR_1", source=rtc.TrackSource.SOURCE_MICROPHONE, audio_features=[AudioTrackFeature.TF_PRECONNECT_BUFFER]
    )
    assert taken_recordings(room_io) == set()
    visitor: Any = SimpleNamespace(identity="visitor")
    await asyncio.wait_for(sound._forward_task(None, _nothing(), SimpleNamespace(sid="TR_1"), recorded, visitor), 5)  # type: ignore[arg-type]
    assert taken_recordings(room_io) == {("visitor", "TR_1")}
    await sound.aclose()


async def _nothing() -> Any:
    """A track's stream that has ended."""
    nothing: list[Any] = []
    for event in nothing:
        yield event


def test_a_room_has_the_synchronizer_whose_pace_is_set() -> None:
    assert "_tr_synchronizer" in inspect.getsource(RoomIO)
    synchronizer = inspect.getsource(TranscriptSynchronizer)
    assert "self._opts" in synchronizer
    assert "speaking_rate_detector" in synchronizer


def test_a_worker_has_processes_that_tell_of_their_end_and_reports_its_load() -> None:
    assert "process_closed" in get_args(proc_pool.EventTypes)
    assert "self._proc_pool = " in inspect.getsource(AgentServer)
    assert inspect.iscoroutinefunction(AgentServer._refresh_worker_load)
    assert inspect.iscoroutinefunction(AgentServer._update_worker_status)
