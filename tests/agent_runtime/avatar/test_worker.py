from __future__ import annotations

import uuid
from typing import Any

import pytest
from pytest_django import Settings

from agent_runtime.avatar import capacity
from agent_runtime.avatar.worker import AvatarWorker
from agent_runtime.face.call import AvatarCall
from avatars.engines.base import VideoFormat
from sessions import presence
from tests.agent_runtime.test_worker import BusyServer, Job


class Request:
    """A job request as far as the worker looks at it; notes the answer."""

    def __init__(self, metadata: str) -> None:
        self.job = Job(metadata)
        self.answer: tuple[str, dict[str, Any]] | None = None

    async def accept(self, **given: Any) -> None:
        self.answer = ("accepted", given)

    async def reject(self, **given: Any) -> None:
        self.answer = ("rejected", given)


@pytest.fixture
def worker(settings: Settings) -> AvatarWorker:
    settings.MOLTS_AVATAR_SLOTS = 2
    settings.LIVEKIT_URL = "ws://127.0.0.1:1"
    return AvatarWorker()


def test_slots_are_measured_unless_they_are_given(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:1"
    settings.MOLTS_AVATAR_SLOTS = 0
    settings.MOLTS_AVATAR_WIDTH = settings.MOLTS_AVATAR_HEIGHT = 256
    small = AvatarWorker().slots
    settings.MOLTS_AVATAR_WIDTH = settings.MOLTS_AVATAR_HEIGHT = 1024
    assert 1 <= AvatarWorker().slots < small
    settings.MOLTS_AVATAR_SLOTS = 3
    assert AvatarWorker().slots == 3


def test_slots_are_of_the_processors_that_this_worker_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "encoding_share", lambda video: 0.05)  # with all that a face takes a fifth of a core
    for cores, slots in ((1, 4), (8, 32)):
        monkeypatch.setattr(capacity, "usable_cores", lambda cores=cores: cores)
        assert capacity.measure_slots(VideoFormat()) == slots


async def ask(worker: AvatarWorker, metadata: str, *, jobs: int = 0) -> tuple[str, dict[str, Any]]:
    worker.server = BusyServer(jobs)  # type: ignore[assignment]
    request = Request(metadata)
    await worker._take(request)  # type: ignore[arg-type]
    assert request.answer is not None
    return request.answer


async def test_an_avatar_joins_under_the_name_its_agent_chose_and_on_its_behalf(worker: AvatarWorker) -> None:
    call = AvatarCall.new(uuid.uuid4(), "agent-one")
    answer, given = await ask(worker, call.encode(), jobs=1)
    assert answer == "accepted"
    assert given["identity"] == call.avatar
    assert given["attributes"] == {"lk.publish_on_behalf": "agent-one"}
    assert str(call.session_id) not in call.avatar


async def test_a_full_worker_leaves_the_call_to_others(worker: AvatarWorker) -> None:
    call = AvatarCall.new(uuid.uuid4(), "agent-one")
    assert await ask(worker, call.encode(), jobs=2) == ("rejected", {"terminate": False})


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "hello",
        "[]",
        "7",
        '{"session": 1}',
        '{"session": "x", "agent": "a", "avatar": "b"}',
        f'{{"session": "{uuid.UUID(int=1)}", "agent": "", "avatar": "b"}}',
        f'{{"session": "{uuid.UUID(int=1)}", "agent": 1, "avatar": "b"}}',
        f'{{"session": "{uuid.UUID(int=1)}", "agent": "{"a" * 2000}", "avatar": "b"}}',
    ],
)
async def test_it_refuses_what_is_no_call(
    worker: AvatarWorker, metadata: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(worker, metadata) == ("rejected", {})
    assert "no call for an avatar" in caplog.text


def test_a_call_survives_its_way() -> None:
    call = AvatarCall.new(uuid.uuid4(), "agent-one")
    assert AvatarCall.decode(call.encode()) == call


@pytest.mark.usefixtures("own_redis")
def test_the_agent_learns_at_once_that_an_avatar_died(worker: AvatarWorker) -> None:
    presence.beat_avatar("avatar-one", {"frames": 1})
    beat = presence.avatar_beat("avatar-one")
    assert beat is not None
    assert beat.figures == {"frames": 1}
    assert 0 <= beat.age < 1
    worker._on_job_gone("", "avatar-one")
    assert presence.avatar_beat("avatar-one") is None
