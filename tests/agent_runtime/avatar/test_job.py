"""When a face stays and when it goes."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest
from livekit.agents.types import ATTRIBUTE_AGENT_STATE

from agent_runtime.avatar import job
from agent_runtime.avatar.job import AvatarJob, AvatarPulse
from agent_runtime.face.call import AvatarCall
from avatars.engines.base import FaceState
from molts import beats
from sessions import presence

pytestmark = pytest.mark.usefixtures("own_redis")


async def test_a_face_goes_when_another_or_none_is_wanted() -> None:
    call = AvatarCall.new(uuid.uuid4(), "agent-1")
    for wanted in ("another", ""):
        pulse = AvatarPulse(call)
        presence.want_avatar(call.session_id, call.avatar)
        assert pulse._beat(0.0) is None
        presence.forget_face(call.session_id) if not wanted else presence.want_avatar(call.session_id, wanted)
        assert pulse._beat(0.0) is not None
        assert not await job._is_wanted(call)


async def test_a_face_stays_when_redis_has_forgotten_who_is_wanted() -> None:
    call = AvatarCall.new(uuid.uuid4(), "agent-1")
    pulse = AvatarPulse(call)
    presence.want_avatar(call.session_id, call.avatar)
    assert pulse._beat(0.0) is None
    beats.client().delete(beats.redis_key("face", call.session_id))
    assert pulse._beat(0.0) is None
    assert await job._is_wanted(call)


async def test_a_face_without_its_agent_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "ALONE_SECONDS", -1.0)
    call = AvatarCall.new(uuid.uuid4(), "agent-1")
    pulse = AvatarPulse(call)
    beats.client().set(presence.agent_key(call.session_id), str(presence.AgentBeat(1, "agent-2")), px=5_000)
    assert pulse._beat(0.0) is not None


def test_an_agent_that_comes_back_shows_how_it_is_meanwhile() -> None:
    shown: list[FaceState] = []
    avatar = AvatarJob.__new__(AvatarJob)
    avatar._call = AvatarCall.new(uuid.uuid4(), "agent-1")
    avatar._leaving = None
    avatar._stream = SimpleNamespace(set_state=shown.append)  # type: ignore[assignment]
    for identity in ("somebody", "agent-1"):
        avatar._on_joined(SimpleNamespace(identity=identity, attributes={ATTRIBUTE_AGENT_STATE: "thinking"}))  # type: ignore[arg-type]
    assert shown == [FaceState.THINKING]
