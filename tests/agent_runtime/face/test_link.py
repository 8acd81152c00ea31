from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents.utils import http_context

from agent_runtime.face import hosted_face, link
from agent_runtime.face.link import FaceLink
from agent_runtime.face.source import FaceMissing, FaceSource, LiveFace, NoFreeWorker
from projects.providers.base import Credentials
from sessions import presence, rooms
from sessions.spec import FaceSpec


class Face(LiveFace):
    """In the room until it is told to be lost."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.dismissing = 0
        self.dismissed = 0

    async def lost(self) -> float:
        await self.gone.wait()
        return 0.0

    async def dismiss(self) -> None:
        self.dismissing += 1
        await asyncio.sleep(0.05)
        self.dismissed += 1


class Source(FaceSource):
    """Answers each call with the next of `answers`; the last one again and again."""

    join_seconds = 0.1

    def __init__(self, *answers: Callable[[Source], Any]) -> None:
        self._answers = list(answers)
        self.calls = 0
        self.free = asyncio.Event()

    async def may_come(self) -> None:
        await self.free.wait()

    async def call(self) -> LiveFace:
        self.calls += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        found: LiveFace = await answer(self)
        return found


async def comes(source: Source) -> LiveFace:
    return Face()


async def never_comes(source: Source) -> LiveFace:
    await asyncio.sleep(60)
    raise AssertionError


async def is_full(source: Source) -> LiveFace:
    raise FaceMissing("No slot.")


async def has_no_worker(source: Source) -> LiveFace:
    raise NoFreeWorker("No worker.")


async def is_drawn_first(source: Source) -> LiveFace:
    assert source.on_preparing is not None
    source.on_preparing()
    await asyncio.sleep(0.4)  # longer than a call may take else
    return Face()


async def cannot_be_drawn(source: Source) -> LiveFace:
    assert source.on_preparing is not None
    source.on_preparing()
    raise FaceMissing("No paper.")


class Stub:
    """Stands for the room, the session, its route and the recorder, as far as the link looks at them."""

    def __init__(self) -> None:
        self.room_io, self.room, self.output = self, self, None
        self.notices: list[tuple[str, str]] = []

    def notice(self, *, level: str, code: str, text: str) -> None:
        self.notices.append((level, code))

    def on(self, *_: Any) -> None: ...
    def note_face_time(self, *_: Any, **__: Any) -> None: ...
    def use_face(self, *_: Any) -> None: ...
    def drop_face(self, *_: Any) -> None: ...
    def isconnected(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def count(**amounts: float) -> None: ...

    monkeypatch.setattr(Face, "output", None, raising=False)
    monkeypatch.setattr(link, "_count", count)
    monkeypatch.setattr(link, "install", lambda output: Stub())
    monkeypatch.setattr(link, "CALL_AGAIN_SECONDS", (0.3,))
    monkeypatch.setattr(link, "CLOSING_SECONDS", 0.0)
    monkeypatch.setattr(link, "LATER_JOIN_SECONDS", 0.2)
    monkeypatch.setattr(link, "TOLD_SECONDS", 0.2)
    monkeypatch.setattr(presence, "PREPARE_SECONDS", 1.0)


@asynccontextmanager
async def linked(source: Source) -> AsyncIterator[tuple[FaceLink, Stub]]:
    stub = Stub()
    face_link = FaceLink(source=source, session=stub, recorder=stub)  # type: ignore[arg-type]
    running = asyncio.create_task(face_link.run())
    try:
        yield face_link, stub
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(3):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_call_that_is_not_answered_is_made_once_more_before_anything_is_said() -> None:
    source = Source(never_comes, comes)
    async with linked(source) as (face_link, stub):
        await face_link.settled()
        assert source.calls == 2
        assert not stub.notices


async def test_a_face_that_never_comes_is_missed_after_two_calls_and_called_again_later() -> None:
    source = Source(never_comes, never_comes, comes)
    async with linked(source) as (face_link, stub):
        await face_link.settled()
        assert (source.calls, stub.notices) == (2, [("warning", "avatar_lost")])
        await until(lambda: len(stub.notices) == 2)
        assert (source.calls, stub.notices[1]) == (3, ("info", "avatar_back"))


async def test_a_face_that_is_only_slow_needs_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker has just been started, or its slot just left."""
    monkeypatch.setattr(link, "CALL_AGAIN_SECONDS", (0.02,))
    source = Source(is_full, is_full, comes)
    async with linked(source) as (_, stub):
        await until(lambda: source.calls == 3)
        await asyncio.sleep(2 * link.TOLD_SECONDS)
        assert stub.notices == []


async def test_it_is_called_as_soon_as_there_is_somebody_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "CALL_AGAIN_SECONDS", (60.0,))
    source = Source(has_no_worker, comes)
    async with linked(source) as (_, stub):
        await until(lambda: stub.notices)
        assert (source.calls, stub.notices) == (1, [("warning", "avatar_lost")])
        source.free.set()
        await until(lambda: len(stub.notices) == 2)
        assert source.calls == 2


async def test_a_face_that_is_drawn_first_is_called_once_and_never_said_to_be_lost() -> None:
    source = Source(is_drawn_first)
    async with linked(source) as (face_link, stub):
        await face_link.settled()
        assert stub.notices == [("info", "avatar_lost")]
        await until(lambda: len(stub.notices) == 2)
        assert (source.calls, stub.notices[1]) == (1, ("info", "avatar_back"))


@pytest.mark.parametrize("failing", [cannot_be_drawn, "in time"])
async def test_a_face_whose_drawing_fails_is_not_called_again_at_once(failing: Any) -> None:
    async def takes_too_long(source: Source) -> LiveFace:
        assert source.on_preparing is not None
        source.on_preparing()
        return await never_comes(source)

    source = Source(takes_too_long if failing == "in time" else failing)
    async with linked(source) as (_, stub):
        await until(lambda: len(stub.notices) == 2)
        assert (source.calls, stub.notices) == (1, [("info", "avatar_lost"), ("warning", "avatar_lost")])
        await until(lambda: source.calls == 2)


async def test_a_face_whose_drawing_fails_every_time_is_promised_once_and_missed_once() -> None:
    source = Source(cannot_be_drawn, cannot_be_drawn, cannot_be_drawn, comes)
    async with linked(source) as (_, stub):
        await until(lambda: source.calls == 4)
        await until(lambda: len(stub.notices) > 2)
        assert stub.notices == [("info", "avatar_lost"), ("warning", "avatar_lost"), ("info", "avatar_back")]


async def test_a_paid_face_that_is_slow_is_missed_in_time_and_never_called_beside_itself() -> None:
    under_way: list[int] = []

    async def comes_late(source: Source) -> LiveFace:
        under_way.append(source.calls)
        await asyncio.sleep(0.6)
        return Face()

    source = Source(comes_late)
    source.join_seconds, source.billed_as = 5.0, ("vendor", "anna")
    async with linked(source) as (_, stub):
        await until(lambda: stub.notices)
        assert (under_way, stub.notices) == ([1], [("warning", "avatar_lost")])
        await until(lambda: len(stub.notices) == 2)
        assert (under_way, stub.notices[1]) == ([1], ("info", "avatar_back"))


async def test_a_paid_face_that_never_comes_is_not_called_again_at_once() -> None:
    source = Source(never_comes)
    source.billed_as = ("vendor", "anna")
    async with linked(source) as (_, stub):
        await until(lambda: stub.notices)
        assert source.calls == 1
        await until(lambda: source.calls == 2)


@pytest.mark.parametrize("ends", ["while it is counted", "while it is dismissed", "while it is there"])
async def test_a_face_is_dismissed_whenever_the_conversation_ends(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """A vendor's would be paid for until the vendor itself ended it."""
    face, counting = Face(), asyncio.Event()

    async def comes(source: Source) -> LiveFace:
        return face

    async def count(**amounts: float) -> None:
        counting.set()
        if ends == "while it is counted":
            await asyncio.sleep(60)  # Redis is slow

    monkeypatch.setattr(link, "_count", count)
    async with linked(Source(comes)) as (face_link, _):
        await until(counting.is_set)
        if ends == "while it is dismissed":
            face.gone.set()
            await until(lambda: face.dismissing)
    await face_link.aclose()
    assert face.dismissed == 1


class SlowVendor:
    """A provider whose call hangs. Stands for the room, too, and for the session with its audio output."""

    name = "molts-room"
    avatar_identity = "avatar-1"

    def __init__(self) -> None:
        self.listeners: list[Callable[[Any], None]] = []
        self.remote_participants: dict[str, Any] = {}
        self.ended = 0
        self.seconds = 0.0

    def parse_options(self, *_: Any) -> None: ...
    def replace_audio_tail(self, *_: Any) -> None: ...
    def on(self, _: str, listener: Callable[[Any], None]) -> None:
        self.listeners.append(listener)

    async def build_avatar(self, **_: Any) -> SlowVendor:
        return self

    async def start(self, *_: Any, **__: Any) -> None:
        self.seconds = http_context.http_session().timeout.total or 0.0
        await asyncio.sleep(60)

    async def end_avatar(self, *_: Any, **__: Any) -> None:
        self.ended += 1


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_vendors_face_that_was_given_up_is_put_out_of_the_room(
    monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    """When it comes, or at once if it is there and shows no picture."""
    removed: list[tuple[str, str]] = []

    async def remove(*who: str) -> None:
        removed.append(who)  # type: ignore[arg-type]

    vendor = SlowVendor()
    monkeypatch.setattr(hosted_face, "get_provider", lambda key: vendor)
    monkeypatch.setattr(hosted_face, "tail_of", lambda output: output)
    monkeypatch.setattr(rooms, "remove_participant", remove)
    spec = FaceSpec(name="Anna", engine="tavus", options={}, credentials=Credentials(), portrait="")
    session = SimpleNamespace(output=vendor)
    source = hosted_face.HostedFaceSource(spec=spec, session=session, room=vendor)  # type: ignore[arg-type]
    if is_there:
        vendor.remote_participants["avatar-1"] = SimpleNamespace(identity="avatar-1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.call()
    assert vendor.ended == 1
    if not is_there:
        await asyncio.sleep(0.05)
        assert removed == []
        for listener in vendor.listeners:
            listener(SimpleNamespace(identity="somebody"))
            listener(SimpleNamespace(identity="avatar-1"))
    await until(lambda: removed)
    assert removed == [("molts-room", "avatar-1")]
    assert vendor.seconds > source.join_seconds, "a plugin that runs out of time would call a second time"
    await source.aclose()
