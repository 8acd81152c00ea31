"""A vendor of hosted faces: Tavus' conversation API as documented, and faces that really join the room.

https://docs.tavus.io/api-reference/conversations/create-conversation, with the LiveKit properties that LiveKit's own
plugin sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, DataStreamAudioReceiver

RATE = 24_000
SIZE = 64
QUEUE_MS = 200


class VendorFace:
    """One face in a room: publishes voice and picture, takes speech by data stream and says how far it got."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.room = rtc.Room()
        self.silent = False
        self.played = 0.0  # seconds of speech
        self._segment = 0.0
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=QUEUE_MS)
        self._video = rtc.VideoSource(SIZE, SIZE)
        self._receiver: DataStreamAudioReceiver | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        await self.room.connect(self._url, self._token, rtc.RoomOptions(auto_subscribe=False))
        me = self.room.local_participant
        self._receiver = DataStreamAudioReceiver(self.room, sender_identity=me.attributes["lk.publish_on_behalf"])
        await self._receiver.start()
        self._receiver.on("clear_buffer", self._cut)
        await me.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", self._source))
        await me.publish_track(rtc.LocalVideoTrack.create_video_track("picture", self._video))
        self._tasks = [asyncio.create_task(self._speak(self._receiver)), asyncio.create_task(self._show())]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._receiver is not None:
            await self._receiver.aclose()
        await self.room.disconnect()

    def go_silent(self) -> None:
        """Stay, and show a picture, but neither speak nor report any more."""
        self.silent = True
        self._source.clear_queue()

    async def _speak(self, receiver: DataStreamAudioReceiver) -> None:
        async for heard in receiver:
            if self.silent:
                continue
            if isinstance(heard, AudioSegmentEnd):
                await self._source.wait_for_playout()
                self._finish(interrupted=False)
                continue
            await self._source.capture_frame(heard)
            self._segment += heard.duration
            self.played += heard.duration

    def _cut(self) -> None:
        self._segment -= self._source.queued_duration
        self._source.clear_queue()
        self._finish(interrupted=True)

    def _finish(self, *, interrupted: bool) -> None:
        if self._segment > 0 and not self.silent and self._receiver is not None:
            self._receiver.notify_playback_finished(playback_position=self._segment, interrupted=interrupted)
        self._segment = 0.0

    async def _show(self) -> None:
        grey = np.full(SIZE * SIZE * 3 // 2, 128, dtype=np.uint8).tobytes()
        while True:
            self._video.capture_frame(rtc.VideoFrame(SIZE, SIZE, rtc.VideoBufferType.I420, grey))
            await asyncio.sleep(0.1)


class Vendor:
    """Takes conversations while `status` is 200, each with a face of its own; else refuses with that status. Answers
    nobody until `answers` is set."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.tokens: list[dict[str, Any]] = []
        self.faces: list[VendorFace] = []
        self.ended: list[str] = []
        self._joining: set[asyncio.Task[None]] = set()

    async def create_conversation(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers["x-api-key"])
        await self.answers.wait()
        if self.status != 200:
            return web.json_response({"message": "Invalid access token"}, status=self.status)
        properties = body["properties"]
        token = properties["livekit_room_token"]
        self.tokens.append(jwt.decode(token, options={"verify_signature": False}))
        face = VendorFace(properties["livekit_ws_url"], token)
        self.faces.append(face)
        task = asyncio.create_task(face.join())
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        name = f"c{len(self.faces)}"
        return web.json_response({"conversation_id": name, "conversation_name": name, "status": "active"})

    async def end_conversation(self, request: web.Request) -> web.Response:
        self.ended.append(request.match_info["name"])
        return web.Response()

    async def aclose(self) -> None:
        await asyncio.gather(*self._joining, return_exceptions=True)
        for face in self.faces:
            await face.leave()


@asynccontextmanager
async def open_vendor() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    app = web.Application()
    app.router.add_post("/v2/conversations", vendor.create_conversation)
    app.router.add_post("/v2/conversations/{name}/end", vendor.end_conversation)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    vendor.url = f"http://127.0.0.1:{server.port}"
    try:
        yield vendor
    finally:
        await vendor.aclose()
        await server.close()
