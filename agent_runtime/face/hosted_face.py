"""A vendor's face: the `AvatarSession` of its LiveKit plugin, started in this job; the vendor joins the room."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from django.conf import settings
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.io import AudioOutput

from agent_runtime.face.heard import HeardOutput, listen_to
from agent_runtime.face.route import tail_of
from agent_runtime.face.source import CLOSE_SECONDS, WATCH_SECONDS, FaceMissing, FaceSource, LiveFace, until_seen
from molts.errors import MoltsError
from molts.http import ResponseLimits, guarded_session
from molts.redact import remember_here
from projects.providers import get_provider
from projects.providers.base import Kind
from projects.providers.shared.livekit_private import calls_through
from sessions import rooms
from sessions.spec import FaceSpec


class HostedFaceSource(FaceSource):
    """A vendor's face: the `AvatarSession` of its LiveKit plugin, started in this job."""

    join_seconds = 60.0  # a vendor's machine has to start; whoever calls sooner again may pay for two

    def __init__(self, *, spec: FaceSpec, session: AgentSession[Any], room: rtc.Room) -> None:
        self._spec = spec
        self._session = session
        self._room = room
        self._http: aiohttp.ClientSession | None = None
        self._turning_away: set[asyncio.Task[None]] = set()
        self.billed_as = (spec.engine, _vendors_name(spec.options))

    async def call(self) -> LiveFace:
        remember_here(self._spec.credentials.api_key)  # it was opened in another thread
        provider = get_provider(self._spec.engine)
        options = provider.parse_options(Kind.AVATAR, self._spec.options)
        # Plugins repeat a call that ran out of time: none does so before it is given up here.
        self._http = self._http or guarded_session(
            limits=ResponseLimits(total_seconds=self.join_seconds + CLOSE_SECONDS)
        )
        with calls_through(self._http):
            avatar = await provider.build_avatar(
                options=options, credentials=self._spec.credentials, identity=f"avatar-{uuid.uuid4().hex[:12]}"
            )

        async def end() -> None:
            with contextlib.suppress(Exception):  # each plugin has errors of its own
                async with asyncio.timeout(CLOSE_SECONDS):
                    await provider.end_avatar(avatar, credentials=self._spec.credentials)

        try:
            with calls_through(self._http):
                output = await self._start(avatar)
            await until_seen(self._room, avatar.avatar_identity)
        except BaseException:
            self._turn_away(avatar.avatar_identity)
            await end()
            raise
        return HostedAvatar(self._room, avatar.avatar_identity, output, end)

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _turn_away(self, identity: str) -> None:
        """A vendor that was given up may have sent its face, or still do so: it would stand beside the next one, and be
        paid for."""

        def look(participant: rtc.RemoteParticipant) -> None:
            if participant.identity == identity:
                task = asyncio.create_task(_remove(self._room.name, identity))
                self._turning_away.add(task)
                task.add_done_callback(self._turning_away.discard)

        self._room.on("participant_connected", look)
        if (there := self._room.remote_participants.get(identity)) is not None:
            look(there)

    async def _start(self, avatar: Any) -> AudioOutput:
        """Start the vendor's session; what takes the speech for it. Raises FaceMissing when the vendor refuses."""
        route = tail_of(self._session.output)
        try:
            await avatar.start(
                self._session,
                self._room,
                livekit_url=settings.LIVEKIT_PUBLIC_URL,
                livekit_api_key=settings.LIVEKIT_API_KEY,
                livekit_api_secret=settings.LIVEKIT_API_SECRET,
            )
            output = tail_of(self._session.output)
        except Exception as error:  # each plugin has errors of its own
            raise FaceMissing(f"{self._spec.engine}: {type(error).__name__}") from error
        finally:
            # The plugin puts its own output where the route was: the route goes back to its place, above it.
            self._session.output.replace_audio_tail(route)
        if output is route:
            raise FaceMissing(f"{self._spec.engine} started no session")
        return output


def _vendors_name(options: Mapping[str, Any]) -> str:
    """What the vendor calls this face."""
    return next((str(options[name]) for name in ("avatar_id", "face_id", "agent_id") if options.get(name)), "")


class HostedAvatar(LiveFace):
    """Lost when it leaves the room, or falls silent in the middle of a sentence."""

    def __init__(self, room: rtc.Room, identity: str, output: AudioOutput, end: Callable[[], Awaitable[None]]) -> None:
        self.identity = identity
        self.output = self._heard = HeardOutput(output)
        self._room = room
        self._end = end
        self._ear = asyncio.create_task(listen_to(room, self.identity, self._heard), name="hosted-face-ear")

    async def lost(self) -> float:
        while self.identity in self._room.remote_participants and not self._heard.is_silent:  # noqa: ASYNC110
            await asyncio.sleep(WATCH_SECONDS)
        return self._heard.heard_at if self._heard.is_talking else time.time()

    async def dismiss(self) -> None:
        self._ear.cancel()
        await self._end()


async def _remove(room_name: str, identity: str) -> None:
    with contextlib.suppress(MoltsError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await rooms.remove_participant(room_name, identity)
