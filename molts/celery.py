"""Celery application: `celery -A molts worker`, `celery -A molts beat`. Both show that they live (`molts.life`)."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import Any

from celery import Celery, bootsteps
from celery.beat import PersistentScheduler
from celery.signals import beat_init, worker_init

from molts.life import SignOfLife

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they would import the whole web side, which runs them itself

ROUND_SECONDS = 1.0
# Longer than a broker that comes back may take to be found again, and than any task should keep all threads busy.
HUNG_SECONDS = 120.0


class WorkerLife(bootsteps.StartStopStep):
    """Once a second something that does nothing goes the way of a task: through the worker's loop and its pool."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **_: Any) -> None:
        self._life: SignOfLife | None = None
        self._is_under_way = False

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


class Clock(PersistentScheduler):
    """The clock's scheduler: each look at what is due is a round."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._life = SignOfLife("clock", hung_seconds=HUNG_SECONDS)
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
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
app.autodiscover_tasks(["projects", "avatars", "sessions"])
app.steps["worker"].add(WorkerLife)


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
