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


STATUSES = {
    JobState.QUEUED: "pending",
    JobState.RUNNING: "processing",
    JobState.DONE: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
"""States as programs read them."""
LIVE_STATES = (JobState.QUEUED, JobState.RUNNING)
"""Those of jobs that are not over."""
