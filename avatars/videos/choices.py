"""What jobs are, and what becomes of them."""

from __future__ import annotations

from django.db.models import TextChoices


class JobKind(TextChoices):
    PREVIEW = "preview", "Preview"
    VIDEO = "video", "Video"


class JobState(TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


LIVE_STATES = (JobState.QUEUED, JobState.RUNNING)
"""Those of jobs that are not over."""
