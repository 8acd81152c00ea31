"""Celery application: `celery -A molts worker`, `celery -A molts beat`."""

import atexit
import logging
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import beat_init, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")

app = Celery("molts")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["projects", "avatars", "sessions"])


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
