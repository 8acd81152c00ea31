"""Celery application: `celery -A molts worker`, `celery -A molts beat`. Both show that they live (`molts.life`)."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from celery import Celery, bootsteps
from celery.beat import PersistentScheduler
from celery.signals import beat_init, worker_init

from molts.errors import Unavailable
from molts.life import SignOfLife

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they would import the whole web side, which runs them itself

RENDER_NICENESS = 10
ROUND_SECONDS = 1.0
# Longer than a broker that comes back may take to be found again, and than any task should keep all threads busy.
HUNG_SECONDS = 120.0


def takes_media(worker: Any) -> bool:
    """Whether this worker makes videos (the part `render`); others are the part `jobs`."""
    from avatars.videos.queue import QUEUE

    return QUEUE in worker.app.amqp.queues.consume_from


class WorkerLife(bootsteps.StartStopStep):
    """Once a second something that does nothing goes the way of a task: through the worker's loop and its pool."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **_: Any) -> None:
        self._life: SignOfLife | None = None
        self._is_under_way = False

    def include_if(self, worker: Any) -> bool:
        return not takes_media(worker)

    def start(self, worker: Any) -> None:
        self._life = SignOfLife("jobs", hung_seconds=HUNG_SECONDS)
        self._life.start()
        worker.timer.call_repeatedly(ROUND_SECONDS, self._send_round, (worker.pool,))

    def stop(self, worker: Any) -> None:
        if self._life is not None:
            self._life.close()

    def _send_round(self, pool: Any) -> None:
        if not self._is_under_way:  # a pool that is busy gets no queue of them
            self._is_under_way = True
            pool.apply_async(self._come_round)

    def _come_round(self) -> None:
        self._is_under_way = False
        if self._life is not None:
            self._life.came_round()


class RenderLife(bootsteps.StartStopStep):
    """The same of a worker that makes videos, and its beat in Redis.

    Its pool is busy for minutes while a video is made, and what is stuck there meets the time limit of its task: so a
    round is one of the worker's loop alone. Conversations on the same machine come first.
    """

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **_: Any) -> None:
        self._id = f"{socket.gethostname()}-{os.getpid()}"
        self._over = threading.Event()
        self._life = SignOfLife("render", hung_seconds=HUNG_SECONDS)

    def include_if(self, worker: Any) -> bool:
        return takes_media(worker)

    def create(self, worker: Any) -> None:
        os.nice(RENDER_NICENESS)  # before the pool has its processes

    def start(self, worker: Any) -> None:
        self._life.start()
        worker.timer.call_repeatedly(ROUND_SECONDS, self._life.came_round)
        threading.Thread(target=self._beat, args=(int(worker.concurrency),), name="beat", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._over.set()
        self._life.close()

    def _beat(self, slots: int) -> None:
        from celery.worker.state import active_requests

        from molts import beats  # every process imports this module, and most of them beat otherwise or not at all

        while not self._over.is_set():
            info = beats.WorkerInfo(self._id, socket.gethostname(), os.getpid(), slots=slots, used=len(active_requests))
            if not self._life.is_hung:
                with suppress(Unavailable):
                    beats.beat_worker(info, beats.WorkerKind.RENDER)
            self._over.wait(beats.BEAT_SECONDS)
        with suppress(Unavailable):
            beats.forget_worker(self._id, beats.WorkerKind.RENDER)


class Clock(PersistentScheduler):
    """The clock's scheduler: each look at what is due is a round."""

    is_over = threading.Event()
    """A signal has asked this process to end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._life = SignOfLife("clock", hung_seconds=HUNG_SECONDS)
        super().__init__(*args, **kwargs)

    @classmethod
    def end(cls, *_: object) -> None:
        """Handles the signals that end the clock. Raises SystemExit, on which Celery puts the schedule away.

        Celery's own handler puts it away itself, in the midst of whatever it interrupts: a round that goes on after
        that, since the exit was raised where Python throws exceptions away, finds files and connections closed.
        """
        cls.is_over.set()
        raise SystemExit

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if self.is_over.is_set():
            raise SystemExit
        self._life.came_round()
        return float(super().tick(*args, **kwargs))

    def setup_schedule(self) -> None:
        super().setup_schedule()
        self._life.start()

    def close(self) -> None:
        self._life.close()
        super().close()


app = Celery("molts")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["projects", "projects.webhooks", "avatars", "avatars.videos", "sessions"])
app.steps["worker"] |= {WorkerLife, RenderLife}


@beat_init.connect
def end_between_rounds(**_: Any) -> None:
    """Put our handlers in the place of Celery's, which are there by now."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, Clock.end)


@beat_init.connect
@worker_init.connect
def end_quickly(**arguments: Any) -> None:
    """Let the process end as soon as its work is put away.

    Python would clear up every module first, which takes most of a second of the processor; on a busy machine, where
    all parts stop at once, that was longer than the supervisor waits.
    """
    atexit.register(leave)


def leave() -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if hasattr(sys, "last_type") else 0)  # an exception that nobody caught was shown
