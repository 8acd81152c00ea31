"""Who is alive right now: short-lived keys in Redis that their owners renew once a second.

A key that is gone means four seconds of silence. Redis' own clock decides, so boxes need not agree on the time. These
are hints: losing Redis makes everyone look absent, and callers must treat `Unavailable` as "unknown", not as "gone".

    <instance>:agent:<session id>     generation and identity of the job that serves the session: "2:agent-1f00"
    <instance>:quiet:<session id>     milliseconds for which nothing has been said, by the clock of its job
    <instance>:visitor:<session id>   an open WebSocket of the visitor
    <instance>:awaited:<session id>   somebody has opened the page of a program's conversation and may yet enter
    <instance>:taken:<session id>     worker that accepted the call for an agent and is starting its job
    <instance>:missed:<session id>    since when the visitor was missed, on the page and in the room
    <instance>:worker:<worker id>     JSON about an agent worker: {"host", "slots", "used", "pid"}
    <instance>:avatar-worker:<id>     the same of an avatar worker
    <instance>:avatar:<identity>      JSON figures of an avatar that is in a room, named as it is there
    <instance>:face:<session id>      identity of the avatar that the agent of the session called last; "" for none
    <instance>:avatar-figures         hash of sums over all avatars: joins, join_seconds, lost, ...
    <instance>:clock                  the reconciler ran lately
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

from molts.errors import Unavailable

BEAT_SECONDS = 1.0
AGENT_LOST_AFTER_MS = 4_000
AWAITED_MS = 300_000
"""How long somebody may read the page of a conversation before they enter it."""
VISITOR_GONE_AFTER_MS = 4_000
WORKER_GONE_AFTER_MS = 4_000
AVATAR_LOST_AFTER_MS = 4_000
FACE_MEMORY_MS = 86_400_000
PREPARE_SECONDS = 120.0
"""How long a face that was never shown may take to be made ready, with its drawing."""
PREPARING: Mapping[str, float] = {"preparing": 1.0}
"""What an avatar beats with while its face is made ready; it joins the room afterwards."""
CLOCK_LATE_AFTER_MS = 30_000
MISSED_MEMORY_MS = 600_000
STARTING_MS = 30_000  # longest that a job may take from being accepted to claiming its session


class WorkerKind(StrEnum):
    """What a worker's jobs are; the value is a part of its key."""

    AGENT = "worker"
    AVATAR = "avatar-worker"


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker says about itself."""

    id: str
    host: str
    pid: int
    slots: int
    used: int

    @property
    def has_free_slot(self) -> bool:
        return self.used < self.slots


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


def redis_key(*parts: object) -> str:
    return ":".join([settings.MOLTS_INSTANCE, *(str(part) for part in parts)])


def agent_key(session_id: uuid.UUID) -> str:
    return redis_key("agent", session_id)


def quiet_key(session_id: uuid.UUID) -> str:
    return redis_key("quiet", session_id)


def visitor_key(session_id: uuid.UUID) -> str:
    return redis_key("visitor", session_id)


def worker_key(worker_id: str, kind: WorkerKind = WorkerKind.AGENT) -> str:
    return redis_key(kind, worker_id)


def avatar_key(identity: str) -> str:
    return redis_key("avatar", identity)


@lru_cache(maxsize=4)
def _client_for(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=2, socket_connect_timeout=2)


def client() -> redis.Redis:
    """One pooled synchronous client a process."""
    return _client_for(settings.REDIS_URL)


def async_client(*, endless: bool = False) -> redis.asyncio.Redis:
    """A new asynchronous client; whoever makes it closes it with `aclose()`. `endless` is for subscriptions, which may
    wait for as long as nothing comes."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=None if endless else 2,
        socket_connect_timeout=2,
        health_check_interval=10 if endless else 0,
    )


def await_visitor(session_id: uuid.UUID) -> None:
    """Somebody is at the door. Only a hint: without Redis they have the time that everybody has."""
    with suppress(redis.RedisError):
        client().set(redis_key("awaited", session_id), "1", px=AWAITED_MS)


def is_awaited(session_id: uuid.UUID) -> bool:
    """Whether somebody is at the door. Raises Unavailable when Redis is out of reach."""
    with reachable():
        return client().exists(redis_key("awaited", session_id)) > 0


@contextmanager
def reachable() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable("Redis is out of reach.") from error


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


def beat_worker(info: WorkerInfo, kind: WorkerKind = WorkerKind.AGENT) -> None:
    with reachable():
        client().set(worker_key(info.id, kind), json.dumps(asdict(info)), px=WORKER_GONE_AFTER_MS)


def forget_worker(worker_id: str, kind: WorkerKind = WorkerKind.AGENT) -> None:
    with reachable():
        client().delete(worker_key(worker_id, kind))


def workers(kind: WorkerKind = WorkerKind.AGENT) -> list[WorkerInfo]:
    """Workers of a kind that beat. Raises Unavailable when Redis is out of reach."""
    return [WorkerInfo(**value) for value in _values(kind)]


def _values(name: str) -> list[Any]:
    """The JSON under every key `<instance>:<name>:*`."""
    with reachable():
        keys = list(client().scan_iter(redis_key(name, "*"), count=100))
        values = client().mget(keys) if keys else []
    return [json.loads(value) for value in values if value]


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
    return _values("avatar")


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


@contextmanager
def only_one(name: str, *, seconds: float) -> Iterator[bool]:
    """A short lock across processes: yields whether this caller holds it. Lets go by itself after `seconds`."""
    key, token = redis_key("lock", name), uuid.uuid4().hex
    with reachable():
        held = bool(client().set(key, token, nx=True, px=int(seconds * 1000)))
    try:
        yield held
    finally:
        if held:
            with reachable():
                if client().get(key) == token:
                    client().delete(key)
