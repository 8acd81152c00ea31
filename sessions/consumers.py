"""The WebSocket of one conversation: everything that happens, once, in order, also after a cut.

It subscribes first and reads second, so nothing falls between; what arrives twice is told apart by `seq`; a number
that is missing (the channel layer may drop) is read from the database, and every few seconds it looks whether the last
ones are. Once a second it renews the visitor's sign of life and looks at the agent's, so that a silence is noticed in
seconds by the one process that has somebody to tell.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import redis
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from molts import beats
from molts.errors import MoltsError
from projects.authentication import ProjectKeyAuthentication
from sessions import presence, services
from sessions.choices import AgentStateName, SessionState
from sessions.events import AgentStateEvent, Pong, SnapshotEvent, encode
from sessions.models import LiveSession, Segment
from sessions.publish import group_name
from sessions.reconcile import reconcile_session
from sessions.visitor import opens_session

if TYPE_CHECKING:
    from projects.models import Actor

logger = logging.getLogger(__name__)

CLOSE_TRY_AGAIN = 1013
CLOSE_BAD_REQUEST = 4400
CLOSE_NOT_SIGNED_IN = 4401
CLOSE_UNKNOWN = 4404
CLOSE_OVER = 4410
SEND_SECONDS = 20  # a reader that takes nothing for so long is gone
# When to look whether a visitor whose socket closed is back: when the sign of life has run out, and again to be sure.
RETURN_SECONDS = (presence.VISITOR_GONE_AFTER_MS / 1000 + 0.2, presence.VISITOR_GONE_AFTER_MS / 1000 + 3.0)
LAST_WORDS_SECONDS = 10.0  # the longest that a job may take to write what it was saying when the talk ended
WRITTEN_WITHIN = 1.5  # seconds; what takes longer to be written is told first
PONG_EVERY = 1.0  # seconds; who asks more often gets no more answers
ASK_REDIS_SECONDS = 1.5  # a page that gets no answer gives up on its socket soon after
CHECK_EVERY = 5  # beats; how often a socket asks the database whether it has missed something


class SessionConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """`/ws/sessions/<id>/?after=<seq>`; see `sessions.events` for what it sends. It reads nothing but pings."""

    session_id: uuid.UUID
    last_seq = 0
    is_visitor = False
    subscribed = False
    told_lost = False  # the page was told by this socket alone that the agent is lost
    unwritten = 0  # beats for which the agent is gone and the database does not say so
    ending = False
    session: LiveSession | None = None  # as it was when the socket opened
    answered_at = float("-inf")
    watch: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        except TimeoutError:
            logger.info("a reader that takes nothing was dropped")
        except DatabaseError as error:
            logger.warning("a socket was closed: %s", error)
            with suppress(Exception):  # it may be gone
                await self.close(CLOSE_TRY_AGAIN)
        finally:
            # Also when the browser went away in the middle of a send, which ends all of this without `disconnect`.
            await self._release()

    async def connect(self) -> None:
        self.session_id = self.scope["url_route"]["kwargs"]["session_id"]
        self.sending = asyncio.Lock()  # events and what is read again come from two tasks
        await self.accept()
        after = _parse_after(self.scope["query_string"])
        if after is None:
            await self.close(CLOSE_BAD_REQUEST)
            return
        authorization = _header(self.scope, b"authorization")
        self.is_visitor = not authorization and opens_session(self.scope.get("cookies", {}), self.session_id)
        if not self.is_visitor and (refusal := await self._refuse_watcher()):
            await self.close(refusal)
            return
        await self.channel_layer.group_add(group_name(self.session_id), self.channel_name)
        self.subscribed = True
        session = await self._send_snapshot(after)
        if session is None:
            await self.close(CLOSE_UNKNOWN)
        elif not session.is_live:
            await self.close(CLOSE_OVER)
        else:
            self.watch = asyncio.create_task(self._watch_over(), name="session-watch")

    async def disconnect(self, code: int) -> None:
        await self._release()

    async def _release(self) -> None:
        """Let go of everything. The second call finds nothing left to do."""
        watch, self.watch = self.watch, None
        if watch is not None:
            await _end(watch)
            if self.is_visitor:
                for seconds in RETURN_SECONDS:
                    _later(seconds, self.session_id)
        if self.subscribed:
            self.subscribed = False
            await self.channel_layer.group_discard(group_name(self.session_id), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A ping, whatever is in it: nothing else is expected. It keeps proxies from closing a quiet socket, and is
        answered while what happens would reach the reader. A part that stands still answers nothing, so the reader can
        tell a quiet conversation from a dead connection."""
        now = time.monotonic()
        if self.session is None or now - self.answered_at < PONG_EVERY:
            return
        self.answered_at = now
        if await _redis_answers():
            await self._send(encode(Pong(offset_ms=services.offset_ms(self.session))))

    # -- events --------------------------------------------------------------------------------------------------------
    async def session_event(self, message: dict[str, Any]) -> None:
        """One event of the channel layer, encoded already."""
        seq = message["seq"]
        async with self.sending:
            if seq is not None:
                if seq <= self.last_seq:
                    return
                if seq > self.last_seq + 1:
                    await self._send_missing(before=seq)
                self.last_seq = seq
            elif message.get("over"):
                await self._send_missing(before=None)  # the last word may have been lost on the way here
            await self._send(message["text"])
        if message.get("over") and not self.ending:
            self.ending = True
            watch, self.watch = self.watch, asyncio.create_task(self._send_last_words(), name="last-words")
            if watch is not None:
                await _end(watch)

    async def _send_snapshot(self, after: int) -> LiveSession | None:
        """The session and its lines after `after`. None when there is no such session (any more)."""
        session: LiveSession | None
        async with self.sending:
            session, segments = await database_sync_to_async(_read)(self.session_id, after)
            if session is None:
                return None
            self.last_seq, self.session = session.last_seq, session
            await self._send(
                encode(
                    SnapshotEvent(
                        session=services.session_data(session),
                        segments=[services.segment_data(segment) for segment in segments],
                        last_seq=session.last_seq,
                        offset_ms=services.offset_ms(session),
                    )
                )
            )
        return session

    async def _send_missing(self, *, before: int | None) -> None:
        """Lines that were written and not sent yet; all, or those before one that is here. Call it while `sending`."""
        for seq, text in await database_sync_to_async(_read_finals)(self.session_id, self.last_seq, before):
            await self._send(text)
            self.last_seq = seq

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.send(text_data=text)

    async def _send_last_words(self) -> None:
        """Close once everything is sent. What the agent was saying at the end is written by its job as that closes."""
        client, end = _redis(), time.monotonic() + LAST_WORDS_SECONDS
        with suppress(redis.RedisError, OSError):
            while await client.exists(presence.agent_key(self.session_id)) and time.monotonic() < end:  # noqa: ASYNC110 - Redis calls nobody when a key ends
                await asyncio.sleep(0.2)
        with suppress(DatabaseError):
            async with self.sending:
                await self._send_missing(before=None)
        await self.close(CLOSE_OVER)

    # -- access --------------------------------------------------------------------------------------------------------
    async def _refuse_watcher(self) -> int | None:
        """Members and keys of the project may follow a conversation: the code to close with for everybody else.

        Whoever may not learns nothing of its existence.
        """
        actor = await database_sync_to_async(_actor)(self.scope)
        if actor is None:
            return CLOSE_NOT_SIGNED_IN
        query = LiveSession.objects.for_actor(actor).filter(pk=self.session_id)
        return None if await database_sync_to_async(query.exists)() else CLOSE_UNKNOWN

    # -- signs of life -------------------------------------------------------------------------------------------------
    async def _watch_over(self) -> None:
        """Ends only with the socket. The database is asked while something is unsettled, and now and then."""
        client = _redis()
        settled, rounds = False, 0
        while True:
            try:
                if self.is_visitor:
                    await client.set(presence.visitor_key(self.session_id), "1", px=presence.VISITOR_GONE_AFTER_MS)
                alive = await client.exists(presence.agent_key(self.session_id)) > 0
            except (redis.RedisError, OSError):
                alive = settled  # unknown is not gone
            rounds += 1
            try:
                if rounds % CHECK_EVERY == 0:
                    settled = False
                    if not await self._check():
                        return
                settled = (settled and alive) or await self._settle(alive)
            except TimeoutError:
                return  # the reader takes nothing; the next event ends the socket
            except Exception:  # a database that is away for a moment; the next beat tries again
                logger.warning("session not looked at", exc_info=True)
            await asyncio.sleep(beats.BEAT_SECONDS)

    async def _check(self) -> bool:
        """Catch up on what was lost; False when this socket may not go on."""
        if not self.is_visitor and (refusal := await self._refuse_watcher()):
            await self.close(refusal)
            return False
        async with self.sending:
            await self._send_missing(before=None)
        return True

    async def _settle(self, alive: bool) -> bool:
        """Whether a session whose agent is (not) `alive` is as it should be; mends it when not."""
        session = await database_sync_to_async(_find)(self.session_id)
        if session is None or not session.is_live:
            # Its last event was lost on the way here: say so once more and stop.
            await self._send_snapshot(self.last_seq)
            await self._send_last_words()
            return True
        lost = session.agent_state == AgentStateName.LOST
        if session.state == SessionState.ACTIVE and alive != lost:
            if self.told_lost and alive:
                await self._tell(session, session.agent_state)
            self.told_lost, self.unwritten = False, 0
            return alive
        mending = _in_background(_reconcile(self.session_id))
        await asyncio.wait({mending}, timeout=WRITTEN_WITHIN)
        if session.state == SessionState.ACTIVE and not alive:
            self.unwritten += 1
            if not self.told_lost and (self.unwritten > 1 or not mending.done()):
                # A process that stands still may hold the database, so that nobody can write that it does.
                self.told_lost = True
                await self._tell(session, AgentStateName.LOST)
        return False

    async def _tell(self, session: LiveSession, agent_state: str) -> None:
        event = AgentStateEvent(state=AgentStateName(agent_state), offset_ms=services.offset_ms(session))
        async with self.sending:
            await self._send(encode(event))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it is done: while a thread works for it, asgiref keeps a cancellation to itself."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)


def _header(scope: Any, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _actor(scope: Any) -> Actor | None:
    """The project key in the header, else the user who is signed in. Read anew: keys are revoked, users sign out."""
    authorization = _header(scope, b"authorization")
    if authorization:
        request = HttpRequest()
        request.META["HTTP_AUTHORIZATION"] = authorization
        try:
            found = ProjectKeyAuthentication().authenticate(Request(request))
        except AuthenticationFailed:
            return None
        return found[0] if found else None
    user = scope.get("user")
    if user is None or not user.is_authenticated:
        return None
    session = scope["session"]
    return user if session.session_key and session.exists(session.session_key) else None


def _find(session_id: uuid.UUID) -> LiveSession | None:
    return LiveSession.objects.filter(pk=session_id).only("state", "agent_state", "created_at").first()


def _read(session_id: uuid.UUID, after: int) -> tuple[LiveSession | None, list[Segment]]:
    session = LiveSession.objects.filter(pk=session_id).first()
    if session is None:
        return None, []
    return session, list(session.segments.filter(seq__gt=after, seq__lte=session.last_seq).order_by("seq"))


def _read_finals(session_id: uuid.UUID, after: int, before: int | None) -> list[tuple[int, str]]:
    segments = Segment.objects.filter(session_id=session_id, seq__gt=after).order_by("seq").select_related("session")
    if before is not None:
        segments = segments.filter(seq__lt=before)
    return [
        (segment.seq, encode(services.final_event(segment, offset=services.offset_ms(segment.session))))
        for segment in segments
    ]


def _parse_after(query: bytes) -> int | None:
    """`?after=<seq>`; 0 without it, None when it is not a number."""
    value = parse_qs(query.decode("latin-1")).get("after", ["0"])[0]
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


# -- Watching sessions whose socket is gone ----------------------------------------------------------------------------
_background: set[asyncio.Task[None]] = set()
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


def _redis() -> redis.asyncio.Redis:
    """One client a loop: every open page beats once a second."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = beats.async_client()
    return _clients[loop]


async def _redis_answers() -> bool:
    with suppress(redis.RedisError, OSError, TimeoutError):
        async with asyncio.timeout(ASK_REDIS_SECONDS):
            await _redis().ping()
            return True
    return False


def _later(seconds: float, session_id: uuid.UUID) -> None:
    """Look at the session after a while: has the visitor come back?"""

    async def look() -> None:
        await asyncio.sleep(seconds)
        await _reconcile(session_id)

    _in_background(look())


def _in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that outlives the socket it was started for."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


async def _reconcile(session_id: uuid.UUID) -> None:
    """In a thread of its own: it waits for the media server, and must not hold up what other sockets read meanwhile."""
    try:
        await database_sync_to_async(reconcile_session, thread_sensitive=False)(session_id)
    except MoltsError as error:
        logger.warning("session not reconciled: %s", error.detail)
    except DatabaseError as error:
        logger.warning("session not reconciled: %s", error)
