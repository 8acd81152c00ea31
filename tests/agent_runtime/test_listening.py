"""A job takes the sound that somebody listens to, and nothing else that is published in its room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import AutoSubscribe
from livekit.protocol.models import AudioTrackFeature

from agent_runtime import listening
from agent_runtime.listening import take_only_the_sound_of, take_sound_of, wait_for_sound_of
from tests.agent_runtime.talk import Desk

AUDIO, VIDEO = rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO


class Publication:
    def __init__(self, kind: Any) -> None:
        self.sid = f"TR_{id(self)}"
        self.kind = kind
        self.track: Any = None
        self.asked: list[bool] = []
        self.source: Any = None
        self.muted = False
        self.audio_features: tuple[Any, ...] = ()
        self.subscribed = False

    def set_subscribed(self, subscribed: bool) -> None:
        self.subscribed = subscribed
        self.asked.append(subscribed)


class Participant:
    def __init__(self, identity: str, *kinds: Any) -> None:
        self.identity = identity
        self.track_publications = {str(number): Publication(kind) for number, kind in enumerate(kinds)}

    @property
    def taken(self) -> list[bool]:
        return [publication.subscribed for publication in self.track_publications.values()]


class Room(rtc.EventEmitter[str]):
    def __init__(self, *there: Participant) -> None:
        super().__init__()
        self.remote_participants = {participant.identity: participant for participant in there}

    def publish(self, participant: Participant) -> None:
        """All that the participant has, as when it comes later."""
        self.remote_participants[participant.identity] = participant
        for publication in participant.track_publications.values():
            self.emit("track_published", publication, participant)


def listening_room(*there: Participant) -> Any:
    room: Any = Room(*there)
    take_sound_of(room, "visitor")
    return room


async def test_it_takes_the_visitors_sound_and_nobodys_picture() -> None:
    visitor, face, guest = (
        Participant("visitor", AUDIO, VIDEO),
        Participant("face", AUDIO, VIDEO),
        Participant("guest", AUDIO),
    )
    room = listening_room()
    for participant in (visitor, face, guest):
        room.publish(participant)
    assert visitor.taken == [True, False]
    assert face.taken == [False, False]
    assert guest.taken == [False]


async def test_it_takes_sound_that_was_there_before_it_asked() -> None:
    visitor = Participant("visitor", AUDIO)
    listening_room(visitor)
    assert visitor.taken == [True]


async def test_it_takes_sound_again_after_a_connection_was_made_anew() -> None:
    room = listening_room(Participant("visitor", AUDIO))
    again = Participant("visitor", AUDIO)
    room.publish(again)
    assert again.taken == [True]


async def test_sound_that_does_not_come_is_asked_for_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "TAKEN_SECONDS", 0.01)
    monkeypatch.setattr(listening, "GIVEN_UP_SECONDS", 0.01)
    visitor = Participant("visitor", AUDIO, AUDIO)
    missing, there = visitor.track_publications.values()
    there.track = object()
    listening_room(visitor)
    async with asyncio.timeout(10):
        while missing.asked[:5] != [True, False, True, False, True]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        missing.track = object()
        await _until_nobody_insists()
    assert missing.subscribed
    assert there.asked == [True]


@pytest.mark.parametrize("event", ["track_unpublished", "disconnected"])
async def test_what_is_gone_is_not_asked_for_any_more(event: str) -> None:
    visitor = Participant("visitor", AUDIO)
    room = listening_room(visitor)
    room.emit(event, *visitor.track_publications.values(), visitor)
    async with asyncio.timeout(5):
        await _until_nobody_insists()


async def _until_nobody_insists() -> None:
    while any(task.get_name() == "subscription" for task in asyncio.all_tasks()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Context:
    """Joins a room in which others are already; no event tells of them."""

    def __init__(self, *there: Participant) -> None:
        self.room, self._there = Room(), there
        self.asked: list[dict[str, Any]] = []

    async def connect(self, **options: Any) -> None:
        self.asked.append(options)
        self.room.remote_participants = {participant.identity: participant for participant in self._there}


async def test_joining_takes_the_sound_that_was_there_and_nothing_else() -> None:
    visitor, face = Participant("visitor", AUDIO, VIDEO), Participant("face", AUDIO, VIDEO)
    context: Any = Context(visitor, face)
    take_only_the_sound_of(context, "visitor")
    await context.connect()
    assert context.asked == [{"auto_subscribe": AutoSubscribe.SUBSCRIBE_NONE}]
    assert visitor.taken == [True, False]
    assert face.taken == [False, False]


# -- being ready ------------------------------------------------------------------------------------------------------
MICROPHONE, SCREEN = rtc.TrackSource.SOURCE_MICROPHONE, rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO
RECORDED = AudioTrackFeature.TF_PRECONNECT_BUFFER


def room_with_a_track(*, source: Any = MICROPHONE, muted: bool = False, features: tuple[Any, ...] = ()) -> Any:
    visitor = Participant("visitor", AUDIO)
    (publication,) = visitor.track_publications.values()
    publication.source, publication.muted, publication.audio_features = source, muted, features
    return Room(visitor)


async def test_an_open_microphone_is_heard_before_the_agent_is_said_to_listen() -> None:
    hears = asyncio.Event()
    waiting = asyncio.create_task(wait_for_sound_of(room_with_a_track(), "visitor", hears))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    hears.set()
    await asyncio.wait_for(waiting, 1)


async def test_a_microphone_that_sends_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_SOUND_SECONDS", 0.05)
    await asyncio.wait_for(wait_for_sound_of(room_with_a_track(), "visitor", asyncio.Event()), 1)


@pytest.mark.parametrize(
    "room",
    [
        Room(),
        Room(Participant("visitor")),
        room_with_a_track(muted=True),
        room_with_a_track(source=SCREEN),
        room_with_a_track(features=(RECORDED,)),  # nothing of it is lost meanwhile
    ],
    ids=["nobody", "no track", "muted", "no microphone", "recorded"],
)
async def test_where_no_word_could_be_lost_nothing_is_waited_for(room: Any) -> None:
    await asyncio.wait_for(wait_for_sound_of(room, "visitor", asyncio.Event()), 1)


@pytest.mark.slow
async def test_it_still_hears_the_visitor_after_its_connection_broke(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent(), dispatch=False)
    room, taken = rtc.Room(), asyncio.Queue[str]()
    room.on("track_subscribed", lambda track, publication, participant: taken.put_nowait(participant.identity))
    async with desk.visitor(session, "guest"), desk.visitor(session), asyncio.timeout(60):
        await room.connect(*desk.credentials(session, "listener"), rtc.RoomOptions(auto_subscribe=False))
        take_sound_of(room, session.visitor_identity)
        before = await taken.get()
        await room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
        again = await taken.get()
        async with desk.visitor(session, "late guest"):
            while len(_published(room)) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            others = [each for name, each in _published(room) if name != session.visitor_identity]
    await room.disconnect()
    # One that is late on a busy machine is asked for again, and may come twice.
    while not taken.empty():
        assert taken.get_nowait() == session.visitor_identity
    assert [before, again] == [session.visitor_identity] * 2
    assert [each.subscribed for each in others] == [False, False]


def _published(room: rtc.Room) -> list[tuple[str, rtc.RemoteTrackPublication]]:
    """The sounds that participants publish, with the names of these."""
    return [
        (participant.identity, publication)
        for participant in room.remote_participants.values()
        for publication in participant.track_publications.values()
    ]
