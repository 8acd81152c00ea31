"""Carries out what programs and pages want said (`sessions.orders`), and takes over what an earlier job left open."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
import redis.asyncio
from django.db import DatabaseError
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.agents.voice import SpeechHandle

from agent_runtime.db import DatabaseThread
from agent_runtime.recorder import SessionRecorder
from molts import beats
from sessions import lines, orders
from sessions.choices import Role
from sessions.orders import Order
from sessions.spec import SessionSpec

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
# A job that was replaced leaves within a second or two, and then all it knew is written. One that is gone for good
# stands in the room for some more seconds, and nothing comes of it.
LEAVE_SECONDS = 3.0
MOST_TRIES = 5  # to say a line that was cut off before anything of it was heard
_LOOK_AGAIN_SECONDS = 0.05

AnswerLine = Callable[[str, str], SpeechHandle | None]


class Orders:
    """Listens for as long as the conversation lasts; `run` until cancelled.

    `known` are the ids of lines that were taken, `on_ready` is called when those of earlier jobs are among them.
    `answer` is given the visitor's words and the id that their line has or gets, and `leave` is called when another job
    has the session.
    """

    def __init__(
        self,
        *,
        spec: SessionSpec,
        session: AgentSession[Any],
        recorder: SessionRecorder,
        database: DatabaseThread,
        known: set[str],
        on_ready: Callable[[], None],
        answer: AnswerLine,
        leave: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._session = session
        self._recorder = recorder
        self._database = database
        self._answer = answer
        self._leave = leave
        self._entry = orders.FIRST
        self._known = known
        self._on_ready = on_ready
        self._finished: list[str] = []

    async def run(self, room: rtc.Room) -> None:
        if self._spec.generation > 1:
            await _wait_for_predecessor(room)
            await self._take_over()
        self._on_ready()
        client = beats.async_client()
        me = asyncio.current_task()
        try:
            # The client may take a cancellation for a time that ran out.
            while me is not None and not me.cancelling():
                try:
                    if not await self._take(client):
                        self._leave()
                        return
                except (redis.RedisError, OSError, TimeoutError):
                    await asyncio.sleep(AGAIN_SECONDS)  # Redis is away; what is ordered later waits there
                except Exception:
                    logger.exception("orders not read")
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            await client.aclose()

    # -- what an earlier job left --------------------------------------------------------------------------------------
    async def _take_over(self) -> None:
        """Answer the visitor's last lines when nobody has, and learn which orders were carried out."""
        # The same set that the caller looks into: it is filled, not replaced.
        self._known.update(await self._from_database(partial(lines.recorded_ids, session_id=self._spec.session_id)))
        mine = self._recorder.segment_ids
        left = await self._from_database(partial(lines.open_lines, session_id=self._spec.session_id, not_of=mine))
        if left:
            question = "\n".join(line.text for line in left)

            def answer() -> SpeechHandle:
                self._recorder.ask_again(left[-1].segment_id)
                return self._session.generate_reply(user_input=question)

            self._insist(answer, line_id=lines.new_id(), on_heard=lambda: None)

    async def _from_database(self, query: Callable[[], Any]) -> Any:
        while True:
            try:
                return await self._database.run(query)
            except DatabaseError:
                await asyncio.sleep(AGAIN_SECONDS)

    # -- orders --------------------------------------------------------------------------------------------------------
    async def _take(self, client: redis.asyncio.Redis) -> bool:
        """Carry out what came meanwhile. False: a newer job has the session."""
        while self._finished:
            await orders.forget_order(client, self._spec.session_id, self._finished[0])
            self._finished.pop(0)
        found = await orders.next_orders(
            client, self._spec.session_id, generation=self._spec.generation, after=self._entry
        )
        if found is None:
            return False
        for entry, text in found:
            self._entry = entry
            try:
                self._carry_out(entry, text)
            except Exception:  # whatever is wrong with this one, the next is heard
                logger.exception("an order was not carried out")
        return True

    def _carry_out(self, entry: str, text: str) -> None:
        try:
            order = Order.parse(text)
        except ValueError:
            logger.warning("unreadable order")
            self._finished.append(entry)
            return
        if order.id in self._known:
            self._finished.append(entry)
            return
        self._known.add(order.id)
        if order.speaker == Role.AGENT:
            self._insist(
                partial(self._session.say, order.text),
                line_id=order.id,
                on_heard=partial(self._finished.append, entry),
            )
        elif (answer := self._answer(order.text, order.id)) is None:
            self._finished.append(entry)
        else:
            answer.add_done_callback(partial(self._on_answered, entry))

    def _insist(
        self, begin: Callable[[], SpeechHandle], *, line_id: str, on_heard: Callable[[], None], tries: int = 1
    ) -> None:
        """Say what was promised, as the line `line_id`. When somebody speaks into it before it begins, it comes after
        the answer to that."""
        speech = begin()
        self._recorder.name_speech(speech.id, line_id)

        def on_done(speech: SpeechHandle) -> None:
            unheard = self._recorder.is_unheard(speech.id)
            self._recorder.forget_speech(speech.id)
            if not (speech.interrupted and unheard):
                on_heard()
            elif tries < MOST_TRIES:
                try:
                    self._insist(begin, line_id=line_id, on_heard=on_heard, tries=tries + 1)
                except RuntimeError:
                    logger.info("a line is left to the next job")  # the session is closing

        speech.add_done_callback(on_done)

    def _on_answered(self, entry: str, speech: SpeechHandle) -> None:
        if not speech.interrupted:  # else by the end of this job, perhaps; the next one looks at what is written
            self._finished.append(entry)


async def _wait_for_predecessor(room: rtc.Room) -> None:
    until = time.monotonic() + LEAVE_SECONDS
    while _other_agents(room) and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _other_agents(room: rtc.Room) -> list[rtc.RemoteParticipant]:
    return [
        participant
        for participant in room.remote_participants.values()
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        and ATTRIBUTE_PUBLISH_ON_BEHALF not in participant.attributes
    ]
