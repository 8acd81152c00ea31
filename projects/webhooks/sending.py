"""Sends what is due: many receivers at once, each within its own bounds, so that none waits for another that hangs.

`Sender.drain` works until nothing is due. In a worker one sender runs in a thread of its own: a task only wakes it, and
the worker's threads stay free. What a process that ends leaves half done is claimed again when its lease is over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

import httpx2
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from molts.http import REDIRECTS, ResponseLimits, guarded_async_client
from molts.redact import hide_secrets
from molts.text import clean_text
from projects.webhooks.deliveries import Answer, Claim, claim_delivery, claim_due, finish
from projects.webhooks.models import MAX_ANSWER, WebhookDelivery

logger = logging.getLogger(__name__)

R = TypeVar("R")

LIMITS = ResponseLimits(connect_seconds=5.0, read_seconds=15.0, total_seconds=15.0, max_bytes=200_000)
BODY_SECONDS = 2.0
"""What an answer says is only shown to people: its status decides, and nobody waits long for the rest."""
AT_ONCE, AT_ONCE_IN_PROJECT, AT_ONCE_IN_LANE = 300, 60, 4
CLAIMED_AT_ONCE = 20  # the first of them are on their way before more are looked for
WRITES = 3  # attempts at writing down how a try ended
REST_SECONDS = 1.0
USER_AGENT = "molts-webhooks"


# -- One try ----------------------------------------------------------------------------------------------------------
async def send(claim: Claim) -> Answer:
    """Send one try. Never raises: what went wrong is an answer too."""
    started = time.monotonic()
    try:
        answer = await _post(claim)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        answer = Answer(error=_line(str(error)) or type(error).__name__)
    except Exception:
        logger.exception("a webhook could not be sent", extra={"delivery": str(claim.delivery_id)})
        answer = Answer(error="It could not be sent: an error of this server.")
    took = round((time.monotonic() - started) * 1000)
    return Answer(answer.status, answer.text, answer.error, answer.retry_after, took)


async def _post(claim: Claim) -> Answer:
    headers = {
        **claim.headers,
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "accept-encoding": "identity",  # what is read of an answer is bounded as it comes
    }
    # A client for each: connections are not shared, so that no receiver waits for another's.
    async with (
        guarded_async_client(limits=LIMITS) as client,
        client.stream("POST", claim.url, content=claim.body.encode(), headers=headers) as response,
    ):
        text = await _beginning(response)
        error = "Redirects are not followed." if response.status_code in REDIRECTS else ""
        return Answer(response.status_code, text, error, response.headers.get("retry-after", ""))


async def _beginning(response: httpx2.Response) -> str:
    """The beginning of what an answer says, as far as it comes soon."""
    read = b""
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) >= MAX_ANSWER:
                    break
    return clean_text(hide_secrets(read[: MAX_ANSWER * 4].decode("utf-8", "replace")))[:MAX_ANSWER]


def _line(text: str) -> str:
    return " ".join(hide_secrets(text).split())[:300]


def send_now(*, delivery: WebhookDelivery) -> WebhookDelivery:
    """Make one try of a delivery here and now, and return it as it is then. Takes as long as a try may."""
    claim = claim_delivery(delivery_id=delivery.pk, now=timezone.now())
    if claim is not None:
        answers: list[Answer] = []

        async def try_once() -> None:
            answers.append(await send(claim))

        # A thread of its own: whatever hangs in there, for example a name server, the caller goes on.
        thread = threading.Thread(target=asyncio.run, args=(try_once(),), name="webhook-test", daemon=True)
        thread.start()
        thread.join(LIMITS.total_seconds + BODY_SECONDS)
        answer = answers[0] if answers else Answer(error="It did not answer in time.")
        finish(claim=claim, answer=answer, now=timezone.now())
    return WebhookDelivery.objects.select_related("event", "endpoint").prefetch_related("tries").get(pk=delivery.pk)


# -- Many -------------------------------------------------------------------------------------------------------------
class Sender:
    """Sends what is due, at most so many tries at once in all and for each receiver. `now` is the clock."""

    def __init__(self, *, now: Callable[[], datetime] = timezone.now) -> None:
        self._now = now
        self._woken = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self._busy_projects: Counter[uuid.UUID] = Counter()
        self._rows = ThreadPoolExecutor(2, thread_name_prefix="webhook-rows")

    def wake(self) -> None:
        """There may be something new. Called in the sender's event loop."""
        self._woken.set()

    async def serve(self) -> None:
        """Wait to be woken and drain, for ever."""
        while True:
            await self._woken.wait()
            try:
                await self.drain()
            except Exception:
                logger.exception("webhooks wait: the sender could not go on")
                await asyncio.sleep(REST_SECONDS)

    async def drain(self) -> None:
        """Work until nothing is due and nothing is under way."""
        tries: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._woken.clear()
                claims = await self._claim(AT_ONCE - len(tries))
                tries |= {asyncio.create_task(self._try(claim)) for claim in claims}
                if claims:
                    continue
                if not tries:
                    return
                woken = asyncio.create_task(self._woken.wait())
                done, _ = await asyncio.wait({woken, *tries}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                for task in done & tries:
                    task.result()
                tries -= done
        finally:
            for task in tries:
                task.cancel()  # only after an error: leases bring them back

    async def _claim(self, most: int) -> list[Claim]:
        if most <= 0:
            return []
        full = {lane for lane, count in self._busy.items() if count >= AT_ONCE_IN_LANE}
        room = {project: AT_ONCE_IN_PROJECT - count for project, count in self._busy_projects.items()}
        most = min(most, CLAIMED_AT_ONCE)
        look = partial(claim_due, now=self._now(), full=full, room=room, room_of_others=AT_ONCE_IN_PROJECT, most=most)
        claims = await self._in_rows(look)
        self._busy.update(claim.lane for claim in claims)
        self._busy_projects.update(claim.project_id for claim in claims)
        return claims

    async def _try(self, claim: Claim) -> None:
        try:
            await self._write(claim, await send(claim))
        finally:
            for counter, key in ((self._busy, claim.lane), (self._busy_projects, claim.project_id)):
                _release(counter, key)

    async def _write(self, claim: Claim, answer: Answer) -> None:
        """A database that cannot write for a moment costs this try's result at most, and no other try."""
        for _ in range(WRITES):
            try:
                await self._in_rows(partial(finish, claim=claim, answer=answer, now=self._now()))
                return
            except DatabaseError:
                logger.warning("the end of a webhook's try could not be written", exc_info=True)
                await asyncio.sleep(REST_SECONDS)

    async def _in_rows(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._rows, partial(_with_connection, work))

    async def aclose(self) -> None:
        """Give back threads and database connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._rows.shutdown)


def _release(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _with_connection(work: Callable[[], R]) -> R:
    close_old_connections()
    try:
        return work()
    finally:
        connections.close_all()


def drain_now(*, now: Callable[[], datetime] = timezone.now) -> None:
    """Send all that is due, and return when nothing is under way any more."""

    async def drain() -> None:
        _more_threads(asyncio.get_running_loop())
        sender = Sender(now=now)
        try:
            await sender.drain()
        finally:
            await sender.aclose()

    asyncio.run(drain())


def wake() -> None:
    """Have this process's sender look for what is due. Returns at once."""
    loop, sender = _running(os.getpid())
    loop.call_soon_threadsafe(sender.wake)


@lru_cache(maxsize=1)
def _running(pid: int) -> tuple[asyncio.AbstractEventLoop, Sender]:
    """The sender of this process, in a thread of its own; a forked child inherits the object but not the thread."""
    loop = asyncio.new_event_loop()
    _more_threads(loop)
    sender = Sender()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(sender.serve())

    threading.Thread(target=run, name=f"webhooks-{pid}", daemon=True).start()
    return loop, sender


def _more_threads(loop: Any) -> None:
    """Names are resolved in threads: as many as there are tries, so that slow name servers keep nobody waiting."""
    loop.set_default_executor(ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook-names"))
