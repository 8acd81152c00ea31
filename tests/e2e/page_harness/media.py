"""A real media server on free ports, and an agent in it that sends a tone and notes what it receives."""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from array import array
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from livekit import api, rtc

ROOT = Path(__file__).resolve().parents[3]
RATE = 48_000
TONES = (170, 340, 510, 900, 1700)
DEADLINE = 15.0
SPEECH_TOPIC = "lk.agent.pre-connect-audio-buffer"


def find_media_server() -> str | None:
    """livekit-server from PATH, else the one that `make setup` put into var/bin."""
    own = ROOT / "var" / "bin" / "livekit-server"
    return shutil.which("livekit-server") or (str(own) if os.access(own, os.X_OK) else None)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MediaServer:
    """livekit-server on the loopback with keys of its own."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.port = free_port()
        self.key, self.secret = f"API{secrets.token_hex(6)}", secrets.token_urlsafe(36)
        self._udp_port = free_port(socket.SOCK_DGRAM)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        config = {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "keys": {self.key: self.secret},
            "rtc": {
                "udp_port": self._udp_port,
                "tcp_port": 0,
                "node_ip": "127.0.0.1",
                "enable_loopback_candidate": True,
                "ips": {"includes": ["127.0.0.1/32"]},
            },
            "logging": {"level": "error"},
        }
        command = [self.program, "--config-body", json.dumps(config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=1):
                return
            time.sleep(0.05)
        self.stop()
        raise TimeoutError("livekit-server did not answer in time")

    def stop(self) -> None:
        if self._process is None:
            return
        for _ in range(2):  # the first signal waits for everybody to leave, the second ends it
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=5)
        self._process = None

    def remove(self, room: str, identity: str) -> None:
        """Throws a participant out, as a restarted or overloaded server does."""
        self._ask("RemoveParticipant", {"room": room, "identity": identity})

    def wait_for_sending(self, room: str, identity: str, *, seconds: float = 10) -> None:
        """Until the participant sends a track that is not muted."""
        self._wait(lambda: self._sends(room, identity), f"{identity} sends nothing", seconds)

    def wait_for_silence(self, room: str, identity: str, *, seconds: float = 10) -> None:
        """Until the participant sends no track, or muted ones only."""
        self._wait(lambda: not self._sends(room, identity), f"{identity} still sends", seconds)

    def _sends(self, room: str, identity: str) -> bool:
        tracks = self._ask("GetParticipant", {"room": room, "identity": identity}).get("tracks", [])
        return any(not track.get("muted") for track in tracks)

    def _wait(self, look: Callable[[], bool], otherwise: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < until, f"after {seconds:.0f} s {otherwise}"
            time.sleep(0.2)

    def _ask(self, method: str, body: dict[str, str]) -> dict[str, Any]:
        grants = api.VideoGrants(room_admin=True, room=body["room"])
        token = api.AccessToken(self.key, self.secret).with_grants(grants).to_jwt()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/twirp/livekit.RoomService/{method}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own loopback server
            return dict(json.load(answer))

    def token(self, room: str, identity: str = "visitor", *, agent: bool = False) -> str:
        """JWT of a visitor, or of an agent."""
        grants = api.VideoGrants(room_join=True, room=room, can_publish=True, can_subscribe=True, can_publish_data=True)
        token = api.AccessToken(self.key, self.secret).with_identity(identity).with_grants(grants)
        return (token.with_kind("agent") if agent else token).to_jwt()


class ToneAgent:
    """Joins as an agent, sends a wavering tone, and keeps what comes in. Runs in a thread of its own."""

    def __init__(self, media: MediaServer, room: str, *, face: bool = False) -> None:
        self._media, self._room_name = media, room
        self._face = face
        self.frozen = threading.Event()
        """Set: the face's track stays, but no pictures come."""
        self.faceless = threading.Event()
        """Set: the face's track is taken away."""
        self.chats: list[str] = []
        self.chat_lines: list[str] = []
        """The page's name for each of `chats`."""
        self.kept_speech: list[tuple[dict[str, str], int]] = []
        self.heard_samples = 0
        self.heard_peak = 0
        self.features: list[list[int]] = []
        self._stop = threading.Event()
        self._joined: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        self._joined.result(timeout=DEADLINE)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=DEADLINE)

    def wait_for_chats(self, count: int) -> list[str]:
        until = time.monotonic() + DEADLINE
        while len(self.chat_lines) < count:
            assert time.monotonic() < until, f"{len(self.chat_lines)} lines came, not {count}"
            time.sleep(0.05)
        return self.chats

    async def _run(self) -> None:
        room = rtc.Room()
        room.register_text_stream_handler("lk.chat", lambda reader, _from: self._keep(self._read_chat(reader)))
        room.register_byte_stream_handler(SPEECH_TOPIC, lambda reader, _from: self._keep(self._read_speech(reader)))
        room.on("track_subscribed", self._subscribed)
        try:
            await room.connect(self._media.url, self._media.token(self._room_name, "agent", agent=True))
            source = rtc.AudioSource(RATE, 1)
            track = rtc.LocalAudioTrack.create_audio_track("voice", source)
            await room.local_participant.publish_track(
                track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            )
        except Exception as error:
            self._joined.set_exception(error)
            return
        self._joined.set_result(None)
        if self._face:
            self._keep(self._show_face(room))
        moment = 0
        while not self._stop.is_set():
            await source.capture_frame(_tone(moment))
            moment += 1
        for task in self._tasks:
            task.cancel()
        await room.disconnect()

    async def _show_face(self, room: rtc.Room) -> None:
        """A tall picture whose brightness changes, ten times a second."""
        source = rtc.VideoSource(240, 320)
        track = rtc.LocalVideoTrack.create_video_track("face", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        publication = await room.local_participant.publish_track(track, options)
        shade = 0
        while not self.faceless.is_set():
            if not self.frozen.is_set():
                shade = (shade + 9) % 200
                data = bytes([shade]) * (240 * 320) + bytes([128]) * (240 * 320 // 2)
                source.capture_frame(rtc.VideoFrame(240, 320, rtc.VideoBufferType.I420, data))
            await asyncio.sleep(0.1)
        await room.local_participant.unpublish_track(publication.sid)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, _from: rtc.RemoteParticipant
    ) -> None:
        self.features.append(list(publication.audio_features))
        self._keep(self._listen(track))

    async def _listen(self, track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            self.heard_samples += event.frame.samples_per_channel
            self.heard_peak = max(self.heard_peak, max(event.frame.data, default=0))

    async def _read_chat(self, reader: rtc.TextStreamReader) -> None:
        self.chats.append(await reader.read_all())
        self.chat_lines.append((reader.info.attributes or {})["molts.line"])

    async def _read_speech(self, reader: rtc.ByteStreamReader) -> None:
        size = 0
        async for chunk in reader:
            size += len(chunk)
        self.kept_speech.append((dict(reader.info.attributes or {}), size))


def _tone(moment: int) -> rtc.AudioFrame:
    """20 ms of a voice-like hum whose loudness wavers."""
    count = RATE // 50
    samples = array("h")
    for index in range(count):
        at = (moment * count + index) / RATE
        loud = 0.5 + 0.5 * math.sin(2 * math.pi * 2.3 * at)
        wave = sum(math.sin(2 * math.pi * tone * at) / (part + 1) for part, tone in enumerate(TONES))
        samples.append(int(6000 * loud * wave))
    return rtc.AudioFrame(samples.tobytes(), RATE, 1, count)
