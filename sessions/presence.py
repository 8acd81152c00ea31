"""Who is alive in the conversations right now: beats of jobs, visitors and avatars, and hints about them.

What a beat is, and the beats of workers: `molts/beats.py`. All of it is hints: losing Redis makes everyone look absent,
and callers must treat `Unavailable` as "unknown", not as "gone".

    <instance>:agent:<session id>     generation and identity of the job that serves the session: "2:agent-1f00"
    <instance>:quiet:<session id>     milliseconds for which nothing has been said, by the clock of its job
    <instance>:visitor:<session id>   an open WebSocket of the visitor
    <instance>:awaited:<session id>   somebody has opened the page of a program's conversation and may yet enter
    <instance>:taken:<session id>     worker that accepted the call for an agent and is starting its job
    <instance>:missed:<session id>    since when the visitor was missed, on the page and in the room
    <instance>:avatar:<identity>      JSON figures of an avatar that is in a room, named as it is there
    <instance>:face:<session id>      identity of the avatar that the agent of the session called last; "" for none
    <instance>:avatar-figures         hash of sums over all avatars: joins, join_seconds, lost, ...
    <instance>:clock                  the reconciler ran lately
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import redis

from molts.beats import client, reachable, read_all, redis_key, worker_key

AGENT_LOST_AFTER_MS = 4_000
AWAITED_MS = 300_000
"""How long somebody may read the page of a conversation before they enter it."""
VISITOR_GONE_AFTER_MS = 4_000
AVATAR_LOST_AFTER_MS = 4_000
FACE_MEMORY_MS = 86_400_000
PREPARE_SECONDS = 120.0
"""How long a face that was never shown may take to be made ready, with its drawing."""
PREPARING: Mapping[str, float] = {"preparing": 1.0}
"""What an avatar beats with while its face is made ready; it joins the room afterwards."""
CLOCK_LATE_AFTER_MS = 30_000
MISSED_MEMORY_MS = 600_000
STARTING_MS = 30_000  # longest that a job may take from being accepted to claiming its session


@dataclass(frozen=True)
class AvatarBeat:
    """The last sign of life of an avatar: `age` seconds ago, with what it measured (`AvatarFigures`)."""

    age: float
    figures: Mapping[str, float]

    @property
    def is_preparing(self) -> bool:
        return "preparing" in self.figures


@dataclass(frozen=True)
class AgentBeat:
    """Which job beats for a session: of which dispatch, and who it is in the room."""

    generation: int
    identity: str = ""

    def __str__(self) -> str:
        return f"{self.generation}:{self.identity}"

    @classmethod
    def parse(cls, value: str | bytes) -> AgentBeat:
        generation, _, identity = (value if isinstance(value, str) else value.decode()).partition(":")
        return cls(int(generation), identity)


@dataclass(frozen=True)
class Presence:
    """Who is alive in one session. `agent_generation` is None when no agent beats; its identity may be unknown ("")."""

    agent_generation: int | None
    visitor: bool
    agent_identity: str = ""
    quiet_seconds: float | None = None
    """How long nothing has been said, by the job's own clock; None when no job says so."""


def agent_key(session_id: uuid.UUID) -> str:
    return redis_key("agent", session_id)


def quiet_key(session_id: uuid.UUID) -> str:
    return redis_key("quiet", session_id)


def visitor_key(session_id: uuid.UUID) -> str:
    return redis_key("visitor", session_id)


def avatar_key(identity: str) -> str:
    return redis_key("avatar", identity)


def await_visitor(session_id: uuid.UUID) -> None:
    """Somebody is at the door. Only a hint: without Redis they have the time that everybody has."""
    with suppress(redis.RedisError):
        client().set(redis_key("awaited", session_id), "1", px=AWAITED_MS)


def is_awaited(session_id: uuid.UUID) -> bool:
    """Whether somebody is at the door. Raises Unavailable when Redis is out of reach."""
    with reachable():
        return client().exists(redis_key("awaited", session_id)) > 0


def presence(session_id: uuid.UUID) -> Presence:
    """Raises Unavailable when Redis is out of reach."""
    with reachable():
        agent, visitor, quiet = client().mget(agent_key(session_id), visitor_key(session_id), quiet_key(session_id))
    if not agent:
        return Presence(None, visitor is not None)
    beat = AgentBeat.parse(agent)
    return Presence(beat.generation, visitor is not None, beat.identity, None if quiet is None else int(quiet) / 1000)


def note_taken(session_id: uuid.UUID, worker_id: str) -> None:
    """A worker has accepted the call for an agent; its job is starting."""
    with reachable():
        client().set(redis_key("taken", session_id), worker_id, px=STARTING_MS)


def forget_taken(session_id: uuid.UUID) -> None:
    """Another agent is called: what was accepted before counts no more."""
    with reachable():
        client().delete(redis_key("taken", session_id))


def is_taken(session_id: uuid.UUID) -> bool:
    """Whether a worker that is alive accepted the last call lately."""
    with reachable():
        worker_id = client().get(redis_key("taken", session_id))
        return worker_id is not None and bool(client().exists(worker_key(str(worker_id))))


def missed_for(session_id: uuid.UUID) -> float:
    """Seconds since the visitor was first missed; starts counting with the first call."""
    key = redis_key("missed", session_id)
    with reachable():
        client().set(key, "1", nx=True, px=MISSED_MEMORY_MS)
        return (MISSED_MEMORY_MS - int(client().pttl(key))) / 1000


def forget_missed(session_id: uuid.UUID) -> None:
    """The visitor was seen again."""
    with reachable():
        client().delete(redis_key("missed", session_id))


# -- Avatars -----------------------------------------------------------------------------------------------------------
def beat_avatar(identity: str, figures: Mapping[str, float]) -> None:
    with reachable():
        client().set(avatar_key(identity), json.dumps(dict(figures)), px=AVATAR_LOST_AFTER_MS)


def avatar_beat(identity: str) -> AvatarBeat | None:
    """None when this avatar is silent. Raises Unavailable when Redis is out of reach."""
    with reachable(), client().pipeline(transaction=True) as pipeline:
        pipeline.get(avatar_key(identity))
        pipeline.pttl(avatar_key(identity))
        value, left = pipeline.execute()
    return AvatarBeat((AVATAR_LOST_AFTER_MS - left) / 1000, json.loads(value)) if value else None


def forget_avatar(identity: str) -> None:
    """This avatar has ended: whoever listens for its beat need not wait."""
    with reachable():
        client().delete(avatar_key(identity))


def avatar_figures() -> list[dict[str, float]]:
    """What the avatars that are in rooms measure."""
    return read_all("avatar")


def want_avatar(session_id: uuid.UUID, identity: str) -> None:
    """The agent has called this avatar; any other of the session is one too many."""
    with reachable():
        client().set(redis_key("face", session_id), identity, px=FACE_MEMORY_MS)


def wanted_avatar(session_id: uuid.UUID) -> str | None:
    """Identity of the avatar that was called last, "" when none is wanted any more, None when nobody knows."""
    with reachable():
        found = client().get(redis_key("face", session_id))
    return None if found is None else str(found)


def agent_and_avatar(session_id: uuid.UUID) -> tuple[AgentBeat | None, str | None]:
    """Who beats as the session's agent, and which avatar it called last: what an avatar must know to stay."""
    with reachable():
        agent, wanted = client().mget(agent_key(session_id), redis_key("face", session_id))
    return AgentBeat.parse(agent) if agent else None, None if wanted is None else str(wanted)


def forget_face(session_id: uuid.UUID) -> None:
    """The session wants no avatar any more. It is said, for what Redis has lost is not there either."""
    want_avatar(session_id, "")


def count_avatar(**amounts: float) -> None:
    """Add to the sums over all avatars that ever were."""
    with reachable(), client().pipeline(transaction=False) as pipeline:
        for name, amount in amounts.items():
            pipeline.hincrbyfloat(redis_key("avatar-figures"), name, amount)
        pipeline.execute()


def avatar_sums() -> dict[str, float]:
    with reachable():
        found = client().hgetall(redis_key("avatar-figures"))
    return {str(name): float(value) for name, value in found.items()}


def forget_agent(session_id: uuid.UUID, identity: str) -> None:
    """Drop the beat of a job that ended, unless another one beats already."""
    with reachable():
        beat = client().get(agent_key(session_id))
        if beat and AgentBeat.parse(beat).identity == identity:
            client().delete(agent_key(session_id))


def beat_clock() -> None:
    with reachable():
        client().set(redis_key("clock"), "1", px=CLOCK_LATE_AFTER_MS)


def clock_beats() -> bool:
    with reachable():
        return bool(client().exists(redis_key("clock")))
