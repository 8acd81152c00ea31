"""molts: a self-hosted platform for talking avatars."""

from molts.celery import app as celery_app

__all__ = ["celery_app"]
