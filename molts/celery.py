"""Celery application: `celery -A molts worker`, `celery -A molts beat`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")

app = Celery("molts")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["projects", "avatars", "sessions"])
