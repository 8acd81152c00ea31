"""Who is alive right now: short-lived keys in Redis that their owners renew once a second. Here: the workers, and what
every key of ours has in common, its prefix, the clients and the locks.

A key that is gone means four seconds of silence. Redis' own clock decides, so boxes need not agree on the time. These
are hints: losing Redis makes everyone look absent, and callers must treat `Unavailable` as "unknown", not as "gone".

    <instance>:worker:<worker id>     JSON about an agent worker: {"host", "slots", "used", "pid"}
    <instance>:avatar-worker:<id>     the same of an avatar worker
    <instance>:render-worker:<id>     the same of a worker that makes videos
    <instance>:lock:<name>            held by one process for a moment
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

from molts.errors import Unavailable

BEAT_SECONDS = 1.0
WORKER_GONE_AFTER_MS = 4_000
ANSWER_SECONDS = 2
"""So long Redis may take to answer."""


# -- Redis -------------------------------------------------------------------------------------------------------------
def redis_key(*parts: object) -> str:
    return ":".join([settings.MOLTS_INSTANCE, *(str(part) for part in parts)])


@lru_cache(maxsize=4)
def _client_for(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, decode_responses=True, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )


def client() -> redis.Redis:
    """One pooled synchronous client a process."""
    return _client_for(settings.REDIS_URL)


def async_client(*, endless: bool = False) -> redis.asyncio.Redis:
    """A new asynchronous client; whoever makes it closes it with `aclose()`. `endless` is for subscriptions, which may
    wait for as long as nothing comes."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=None if endless else ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        health_check_interval=10 if endless else 0,
    )


@contextmanager
def reachable() -> Iterator[None]:
    """Errors of Redis become `Unavailable`."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable("Redis is out of reach.") from error


@contextmanager
def sending() -> Iterator[dict[str, Any]]:
    """What to give to Celery where a task is sent, so that it is sent with the deadline of every client of
    Redis, while Celery's own would wait for ever. What goes wrong becomes `Unavailable`."""
    from celery import current_app
    from kombu.exceptions import OperationalError

    try:
        with current_app.connection_for_write() as connection:
            connection.transport_options = {
                **(connection.transport_options or {}),
                "socket_timeout": ANSWER_SECONDS,
                "socket_connect_timeout": ANSWER_SECONDS,
                "max_retries": 0,
            }
            yield {"connection": connection, "retry": False}
    except (OperationalError, redis.RedisError, OSError) as error:
        raise Unavailable("Redis is out of reach.") from error


def read_all(name: str) -> list[Any]:
    """The JSON under every key `<instance>:<name>:*`. Raises Unavailable when Redis is out of reach."""
    with reachable():
        keys = list(client().scan_iter(redis_key(name, "*"), count=100))
        values = client().mget(keys) if keys else []
    return [json.loads(value) for value in values if value]


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


# -- Workers -----------------------------------------------------------------------------------------------------------
class WorkerKind(StrEnum):
    """What a worker's jobs are; the value is a part of its key."""

    AGENT = "worker"
    AVATAR = "avatar-worker"
    RENDER = "render-worker"


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker says about itself: on which machine it is, and how many of its slots are used."""

    id: str
    host: str
    pid: int
    slots: int
    used: int

    @property
    def has_free_slot(self) -> bool:
        return self.used < self.slots


def worker_key(worker_id: str, kind: WorkerKind = WorkerKind.AGENT) -> str:
    return redis_key(kind, worker_id)


def beat_worker(info: WorkerInfo, kind: WorkerKind = WorkerKind.AGENT) -> None:
    with reachable():
        client().set(worker_key(info.id, kind), json.dumps(asdict(info)), px=WORKER_GONE_AFTER_MS)


def forget_worker(worker_id: str, kind: WorkerKind = WorkerKind.AGENT) -> None:
    with reachable():
        client().delete(worker_key(worker_id, kind))


def workers(kind: WorkerKind = WorkerKind.AGENT) -> list[WorkerInfo]:
    """Workers of a kind that beat. Raises Unavailable when Redis is out of reach."""
    return [WorkerInfo(**value) for value in read_all(kind)]


def slots_of(workers: Sequence[WorkerInfo]) -> tuple[int, int]:
    """(all, used) slots of these workers together."""
    return sum(worker.slots for worker in workers), sum(worker.used for worker in workers)
