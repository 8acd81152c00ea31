"""How the agent calls a face of our own worker, and when it holds one for lost."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from agent_runtime.face import worker_face
from agent_runtime.face.call import AvatarCall
from agent_runtime.face.worker_face import WorkerAvatar, WorkerFaceSource
from molts.beats import WorkerInfo
from molts.errors import Unavailable
from sessions import presence, rooms


class Room(rtc.EventEmitter[str]):
    """As far as a face looks at it: who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_participants: dict[str, Any] = {}
        self.dispatched: list[AvatarCall] = []

    def isconnected(self) -> bool:
        return False

    def join(self, identity: str) -> None:
        video = SimpleNamespace(kind=rtc.TrackKind.KIND_VIDEO)
        self.remote_participants[identity] = SimpleNamespace(track_publications={"video": video})
        self.emit("track_published")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room()

    async def workers() -> list[WorkerInfo]:
        return [WorkerInfo("one", "host", 1, slots=1, used=0)]

    async def dispatch(_: str, *, metadata: str) -> None:
        room.dispatched.append(AvatarCall.decode(metadata))

    monkeypatch.setattr(worker_face, "_workers", workers)
    monkeypatch.setattr(worker_face, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(rooms, "dispatch_avatar", dispatch)
    return room


def spec() -> Any:
    return SimpleNamespace(session_id=uuid.uuid4(), room_name="molts-room")


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("own_redis")
async def test_a_face_that_came_is_wanted(room: Room) -> None:
    session = spec()
    calling = asyncio.create_task(WorkerFaceSource(spec=session, room=room, agent_identity="agent-1").call())  # type: ignore[arg-type]
    await until(lambda: room.dispatched)
    room.join(room.dispatched[0].avatar)
    face = await calling
    assert presence.wanted_avatar(session.session_id) == face.identity == room.dispatched[0].avatar


@pytest.mark.usefixtures("own_redis")
async def test_a_face_that_is_given_up_is_wanted_no_more(room: Room) -> None:
    """It would come into a conversation that goes on without it, and show a face that does not speak."""
    session = spec()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await WorkerFaceSource(spec=session, room=room, agent_identity="agent-1").call()  # type: ignore[arg-type]
    assert room.dispatched
    assert presence.wanted_avatar(session.session_id) == ""


async def test_signs_of_life_that_were_lost_with_redis_say_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[presence.AvatarBeat | None] = [presence.AvatarBeat(0.1, {})]
    asked = 0

    def beat(_: str) -> presence.AvatarBeat | None:
        nonlocal asked
        asked += 1
        if not beats:
            raise Unavailable("Redis is out of reach.")
        return beats[0]

    monkeypatch.setattr(presence, "avatar_beat", beat)
    call = AvatarCall.new(uuid.uuid4(), "agent-1")
    room.join(call.avatar)
    lost = asyncio.create_task(WorkerAvatar(room, spec(), call).lost())  # type: ignore[arg-type]
    await until(lambda: asked > 2)
    beats.clear()
    await until(lambda: asked > 5)
    beats[:] = [None]  # it was started anew, and knows nobody
    await until(lambda: asked > 10)
    assert not lost.done()
    beats[:] = [presence.AvatarBeat(0.1, {})]
    await until(lambda: asked > 15)
    beats[:] = [None]
    await asyncio.wait_for(lost, 3)


async def test_a_face_is_put_out_although_redis_is_away(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def away(*_: object) -> None:
        raise Unavailable("Redis is out of reach.")

    async def withdraw(_: str) -> None:
        done.append("withdrawn")

    async def remove(_: str, identity: str) -> None:
        done.append(identity)

    monkeypatch.setattr(presence, "forget_face", away)
    monkeypatch.setattr(rooms, "withdraw_avatars", withdraw)
    monkeypatch.setattr(rooms, "remove_participant", remove)
    call = AvatarCall.new(uuid.uuid4(), "agent-1")
    await WorkerAvatar(room, spec(), call).dismiss()  # type: ignore[arg-type]
    assert done == ["withdrawn", call.avatar]
