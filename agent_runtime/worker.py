"""Workers take jobs from the media server, one process each, as many as they have slots: conversations (`AgentWorker`)
and their faces (`agent_runtime.avatar.worker`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from livekit.agents import AgentServer, JobContext, JobProcess, JobRequest
from livekit.agents.worker import WorkerPermissions

from agent_runtime import entrypoint
from agent_runtime.livekit_private import on_process_closed, report_load
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from molts.errors import Unavailable
from molts.life import SignOfLife
from sessions import presence

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 30
JOB_MEMORY_LIMIT_MB = 3000
HUNG_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerOptions:
    """What a kind of worker is: under which name jobs are asked for, how many it takes, what runs in them."""

    kind: WorkerKind
    part: str
    """Which part of a copy it is (`molts.supervisor`)."""
    name: str
    slots: int
    health_port: int
    drain_seconds: int
    run_job: Callable[[JobContext], Awaitable[None]]
    prewarm: Callable[[JobProcess], None]
    preload: str
    """A module that LiveKit's fork server imports, so that its job processes share it."""
    end_job: Callable[[JobContext], Awaitable[None]] | None = None
    """Called when a job's talk has ended and its room is not left yet."""
    shutdown_seconds: int = 30
    """How long a job may take to end before it is killed."""


# LiveKit would wake each event loop, and a thread beside it, fifty times a second to report what holds it up. That is
# for developers; what hangs is found by its missing heartbeat. The name is LiveKit's, and what is set already counts.
os.environ.setdefault("LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS", "0")


class Server(AgentServer):
    """Knows what a job weighs. LiveKit guesses while none runs, by the number of warm processes: with one of them the
    first call would fill an idle worker, and another that came at the same moment be refused and not repeated."""

    def __init__(self, *, slots: int, **options: Any) -> None:
        super().__init__(load_fnc=lambda server: len(server.active_jobs) / slots, load_threshold=1.0, **options)
        self._slots = slots

    def _get_effective_load(self) -> float:
        return (len(self.active_jobs) + self._reserved_slots) / self._slots


class Worker(ABC):
    """An AgentServer of ours: load is used slots, health on loopback, signs of life in Redis."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self.slots = options.slots
        self._life = SignOfLife(options.part, hung_seconds=HUNG_SECONDS)
        self.id = f"{socket.gethostname()}-{os.getpid()}"
        self._stopped = threading.Event()
        self._beats: threading.Thread | None = None
        self._beat_due = threading.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self.server = Server(
            # By CPU load the server would refuse a dispatch once, at the worst moment, and never ask again.
            slots=options.slots,
            ws_url=settings.LIVEKIT_URL,
            api_key=settings.LIVEKIT_API_KEY,
            api_secret=settings.LIVEKIT_API_SECRET,
            host="127.0.0.1",
            port=options.health_port,
            num_idle_processes=1,
            initialize_process_timeout=60,
            shutdown_process_timeout=options.shutdown_seconds,
            job_memory_limit_mb=JOB_MEMORY_LIMIT_MB,
            setup_fnc=options.prewarm,
            preload_modules=[options.preload],
            permissions=WorkerPermissions(can_update_metadata=True, hidden=False),
        )
        self.server.rtc_session(
            options.run_job, agent_name=options.name, on_request=self._take, on_session_end=options.end_job
        )
        self.server.on("worker_started", self._on_started)
        self.server.on("worker_registered", self._on_registered)

    @property
    def is_full(self) -> bool:
        return len(self.server.active_jobs) >= self.slots

    @abstractmethod
    async def _take(self, request: JobRequest) -> None:
        """Accept a job of ours while there is a free slot, else reject it."""

    def _on_ready(self) -> None:  # noqa: B027 - optional
        """Called once, in a thread, when the first sign of life was sent."""

    @abstractmethod
    def _on_job_gone(self, metadata: str, identity: str) -> None:
        """Called in a thread when the process of a job is gone, however it went."""

    async def run(self) -> None:
        """Until SIGINT or SIGTERM. Then no new jobs are taken and running ones may go on for the drain time; a second
        signal ends them at once."""
        signals: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signals.put_nowait, number)
        serving = asyncio.create_task(self.server.run(), name="agent-server")
        with self._life:
            coming_round = asyncio.create_task(self._come_round(), name="sign-of-life")
            try:
                if await _first(serving, signals.get()):
                    await self._sign_off()
                    await _first(self._drain(), signals.get())
            finally:
                await self._close(serving)
                coming_round.cancel()
        if serving.done() and not serving.cancelled():
            serving.result()  # a server that gave up says why

    async def _sign_off(self) -> None:
        """No new conversations: the reconciler no longer counts on this worker."""
        self._stop_beats()
        try:
            await asyncio.to_thread(beats.forget_worker, self.id, self._options.kind)
        except Unavailable:
            logger.info("worker not signed off: Redis is away")

    async def _drain(self) -> None:
        seconds = self._options.drain_seconds
        if seconds and self.server.active_jobs:
            logger.info("draining", extra={"jobs": len(self.server.active_jobs), "seconds": seconds})
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await self.server.drain(timeout=seconds)

    async def _close(self, serving: asyncio.Task[None]) -> None:
        self._stop_beats()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.server.aclose()
        except TimeoutError:
            logger.warning("jobs did not end in time")
        if not serving.done():
            serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    # -- signs of life -------------------------------------------------------------------------------------------------
    async def _come_round(self) -> None:
        while True:
            self._life.came_round()
            await asyncio.sleep(beats.BEAT_SECONDS)

    def _on_started(self) -> None:
        on_process_closed(self.server, self._on_process_closed)

    def _on_registered(self, *_: Any) -> None:
        if self._beats is None:
            self._beats = threading.Thread(target=self._beat, name="worker-beats", daemon=True)
            self._beats.start()
            logger.info("worker registered", extra={"slots": self.slots})

    def _beat(self) -> None:
        first = True
        while not self._stopped.is_set():
            info = WorkerInfo(
                id=self.id,
                host=socket.gethostname(),
                pid=os.getpid(),
                slots=self.slots,
                used=len(self.server.active_jobs),
            )
            try:
                if not self._life.is_hung:  # one that hangs takes no calls
                    beats.beat_worker(info, self._options.kind)
                if first:
                    first = False
                    self._on_ready()
            except Unavailable:
                logger.warning("worker beat not sent: Redis is away")
            self._beat_due.wait(beats.BEAT_SECONDS)
            self._beat_due.clear()

    def _stop_beats(self) -> None:
        self._stopped.set()
        self._beat_due.set()

    async def _tell_free(self) -> None:
        """A slot is free: to Redis and to the media server at once. Between LiveKit's own reports, which are seconds
        apart, a call would find nobody, and the media server does not repeat it."""
        self._beat_due.set()
        await report_load(self.server)

    def _on_process_closed(self, process: Any) -> None:
        running = getattr(process, "running_job", None)
        if running is None:
            return
        telling = asyncio.create_task(self._tell_free())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        exited = (running.job.metadata, running.accept_arguments.identity)
        threading.Thread(target=self._on_job_gone, args=exited, daemon=True).start()


class AgentWorker(Worker):
    """Holds conversations."""

    def __init__(self) -> None:
        super().__init__(
            WorkerOptions(
                kind=WorkerKind.AGENT,
                part="agent",
                name=settings.MOLTS_AGENT_NAME,
                slots=settings.MOLTS_AGENT_SLOTS,
                health_port=settings.MOLTS_AGENT_HEALTH_PORT,
                drain_seconds=settings.MOLTS_AGENT_DRAIN_SECONDS,
                run_job=entrypoint.run_job,
                prewarm=entrypoint.prewarm,
                end_job=entrypoint.end_job,
                preload="agent_runtime.preload",
            )
        )

    async def _take(self, request: JobRequest) -> None:
        """The identity says nothing about anyone."""
        try:
            session_id = uuid.UUID(request.job.metadata)
        except ValueError:
            logger.warning("refused a job without a session id")
            await request.reject()
            return
        if self.is_full:
            await request.reject()
            return
        with contextlib.suppress(Unavailable):
            # Starting a process can take a while; without this mark the reconciler would call another agent meanwhile.
            await asyncio.to_thread(presence.note_taken, session_id, self.id)
        await request.accept(identity=f"agent-{uuid.uuid4().hex[:12]}", name="agent")

    def _on_ready(self) -> None:
        _wake_reconciler()  # conversations may be waiting for somebody like us

    def _on_job_gone(self, metadata: str, identity: str) -> None:
        """Its session must not wait for missing beats to show it."""
        _wake_reconciler(metadata, identity)


async def _first(one: Awaitable[Any], other: Awaitable[Any]) -> bool:
    """Wait for whichever ends first; True when it was `other`. What was made here and is not needed is cancelled."""
    mine, theirs = asyncio.ensure_future(one), asyncio.ensure_future(other)
    done, _ = await asyncio.wait({mine, theirs}, return_when=asyncio.FIRST_COMPLETED)
    for task, given in ((mine, one), (theirs, other)):
        if task not in done and task is not given:
            task.cancel()
    return theirs in done


def _wake_reconciler(session_id: str = "", identity: str = "") -> None:
    from sessions import tasks

    try:
        with beats.sending() as sending:
            if session_id:
                tasks.report_agent_exit.apply_async((session_id, identity), **sending)
            else:
                tasks.reconcile.apply_async(**sending)
    except Exception:  # the broker is away: the clock's own rounds find it a little later
        logger.warning("reconciler not woken", exc_info=True)
