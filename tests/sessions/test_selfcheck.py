"""How the self check fails. That it succeeds is shown by conversations: `make up` holds one before it is ready."""

from __future__ import annotations

import pytest
from livekit import rtc

from avatars.models import Agent, PipelineStep
from molts.errors import Unavailable
from projects.models import ProviderKey
from sessions import rooms, selfcheck
from sessions.models import LiveSession
from sessions.selfcheck import check_conversation, choose_agent

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _media_server_that_says_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def accept(*_: object, **__: object) -> str:
        return "dispatch"

    for name in ("open_room", "dispatch_agent", "close_room"):
        monkeypatch.setattr(rooms, name, accept)


class Room:
    """A room of the media server: lets people in or not, and offers the tracks that a test says."""

    lets_in = True
    offers: tuple[object, ...] = ()

    def __init__(self) -> None:
        self._handlers: dict[str, object] = {}

    def on(self, event: str, handler: object) -> None:
        self._handlers[event] = handler

    async def connect(self, *_: object) -> None:
        if not self.lets_in:
            raise rtc.ConnectError("no")
        for track in self.offers:
            if track is None:
                self._handlers["disconnected"]("gone")  # type: ignore[operator]
            else:
                self._handlers["track_subscribed"](track, None, None)  # type: ignore[operator]

    async def disconnect(self) -> None:
        pass


class Track:
    def __init__(self, kind: int) -> None:
        self.kind = kind


VIDEO, AUDIO = Track(rtc.TrackKind.KIND_VIDEO), Track(rtc.TrackKind.KIND_AUDIO)


@pytest.mark.parametrize(
    ("lets_in", "offers", "text"),
    [
        (False, (), r"The media server did not let a listener in within 0 s\."),
        (True, (), r"No agent joined within 0 s\."),
        (True, (VIDEO,), r"No agent joined within 0 s\."),
        (True, (None,), r"The agent ended the conversation at once\. Its log says why\."),
        (True, (AUDIO,), r"The agent joined but its greeting was not heard within 0 s\."),
    ],
)
def test_it_says_how_far_it_came_and_leaves_nothing_behind(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, lets_in: bool, offers: tuple[object, ...], text: str
) -> None:
    monkeypatch.setattr(Room, "lets_in", lets_in)
    monkeypatch.setattr(Room, "offers", offers)
    monkeypatch.setattr(rtc, "Room", Room)

    async def silence(_: object) -> None:
        import asyncio

        await asyncio.Event().wait()

    monkeypatch.setattr(selfcheck, "_wait_for_voice", silence)
    with pytest.raises(Unavailable, match=text):
        check_conversation(seconds=0.2)
    assert not LiveSession.objects.exists()


def test_it_says_what_to_do_when_there_is_nobody_to_talk_with() -> None:
    with pytest.raises(Unavailable, match="seed_demo"):
        check_conversation(seconds=0.2)


def test_it_prefers_an_agent_that_costs_nothing_to_hear(agent: Agent, other_agent: Agent) -> None:
    key = ProviderKey.objects.create(project=agent.project, name="key", provider="openai")
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key)
    assert choose_agent() == other_agent
    Agent.objects.filter(pk=other_agent.pk).update(greeting="")
    assert choose_agent() == agent
    Agent.objects.filter(pk=agent.pk).update(greeting="")
    assert choose_agent() is None
