"""What the runtime uses of LiveKit without its leave: each piece here, with the version it was read in.

Nothing else in this app may touch a private name of it (`make check`). tests/agent_runtime/test_livekit_private.py
fails when one is gone or means something else.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from livekit import rtc
from livekit.agents.voice.room_io._pre_connect_audio import PRE_CONNECT_AUDIO_BUFFER_STREAM
from livekit.rtc._ffi_client import FfiClient, ffi_event_callback
from livekit.rtc._proto.ffi_pb2 import FfiRequest
from livekit.rtc._proto.room_pb2 import DataStream
from livekit.rtc._proto.track_pb2 import AudioTrackFeature
from livekit.rtc.version import __version__ as media_version

if TYPE_CHECKING:
    from livekit.agents import AgentServer
    from livekit.agents.voice.room_io import RoomIO

__all__ = ["PRE_CONNECT_AUDIO_BUFFER_STREAM", "DataStream"]


# -- the media library ------------------------------------------------------------------------------------------------
def keep_media_log_native() -> bool:
    """Have the media library write its log itself instead of handing each record to Python; False: it cannot be told.
    livekit 1.1.21: it is told once, when it is loaded, and again here. Call it before a room is connected."""
    try:
        FfiClient.instance._ffi_lib.livekit_ffi_initialize(
            ffi_event_callback, False, b"python", media_version.encode("ascii")
        )
    except (AttributeError, ctypes.ArgumentError, TypeError):
        return False
    return True


async def send_stream_part(
    participant: rtc.LocalParticipant, request_name: str, destinations: Sequence[str], *, seconds: float, **part: Any
) -> None:
    """Send one part of a byte stream (`send_stream_header=...`) to these participants alone.

    livekit 1.1.21: `stream_bytes` names the destinations in the header only. Raises rtc.StreamError when the room does
    not take it, TimeoutError after `seconds`.
    """
    request = FfiRequest()
    sent = getattr(request, request_name)
    sent.local_participant_handle = participant._ffi_handle.handle
    sent.sender_identity = participant.identity
    sent.destination_identities.extend(destinations)
    for name, value in part.items():
        getattr(sent, name).CopyFrom(value)
    queue = FfiClient.instance.queue.subscribe()
    try:
        asked = getattr(FfiClient.instance.request(request), request_name).async_id
        async with asyncio.timeout(seconds):
            answer = await queue.wait_for(lambda event: getattr(event, request_name).async_id == asked)
    finally:
        FfiClient.instance.queue.unsubscribe(queue)
    if error := getattr(answer, request_name).error:
        raise rtc.StreamError(error)


# -- a session and its room -------------------------------------------------------------------------------------------
def is_recorded(publication: rtc.RemoteTrackPublication) -> bool:
    """Whether the beginning of this microphone, from before anybody heard it, is sent as a recording.
    livekit 1.1.21."""
    return AudioTrackFeature.TF_PRECONNECT_BUFFER in publication.audio_features


def taken_recordings(room_io: RoomIO) -> set[tuple[str, str]]:
    """(identity, track id) of the recordings from before the agent came that are done with, be it that they were put
    before the live sound or that they never arrived. livekit-agents 1.8.9."""
    done: set[tuple[str, str]] = getattr(room_io.audio_input, "_pre_connect_audio_publications", set())
    return done


def pace_words(room_io: RoomIO, *, step_seconds: float) -> None:
    """How often the speed of the voice is measured, after which the words of an answer are shown.
    livekit-agents 1.8.9. Call it before anything is said."""
    if (synchronizer := room_io._tr_synchronizer) is not None:
        synchronizer._opts.speaking_rate_detector._opts.step_size = step_seconds


# -- a worker ---------------------------------------------------------------------------------------------------------
def on_process_closed(server: AgentServer, callback: Callable[[Any], None]) -> None:
    """Call `callback` with each process of a job once it has ended. livekit-agents 1.8.9; the server has started."""
    server._proc_pool.on("process_closed", callback)


async def report_load(server: AgentServer) -> None:
    """Tell the media server at once how busy this worker is; by itself the worker does so every few seconds.
    livekit-agents 1.8.9."""
    await server._refresh_worker_load()
    await server._update_worker_status()
