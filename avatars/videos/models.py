"""Jobs that make videos."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from projects.models import Project, ScopedQuerySet


class VideoJob(models.Model):
    """One video in the making.

    A worker claims a queued job for a lease and renews it while it works. A job whose lease has run out is queued again
    for its next attempt. `attempts` is also the fence: a worker that was thought lost finds a higher number and leaves.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=JobKind.choices)
    # A row outlives both until it is deleted with its files. A new face may be looked at before it is said whose it is.
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL, related_name="video_jobs")
    ordered_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    stage = models.CharField(max_length=40, default="Waiting", help_text="What is being done, for people.")
    progress = models.FloatField(default=0.0, help_text="0 to 1, of the stage.")
    attempts = models.PositiveSmallIntegerField(default=0)
    claimed_by = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.CharField(max_length=500, blank=True)
    error_attr = models.CharField(
        max_length=40, blank=True, help_text="The name of the field in the request that has to be corrected."
    )
    order = models.JSONField(help_text="What is to be made; holds no secret.")
    picture = models.FileField(upload_to="videos/", blank=True)  # of the face, as it was when the video was ordered
    output = models.FileField(upload_to="videos/", blank=True)
    media_type = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(default=timezone.now)  # to the workers' queue, the last time
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = ScopedQuerySet["VideoJob"].as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("ordered_by",),
                condition=Q(kind=JobKind.PREVIEW, state__in=LIVE_STATES),
                name="one_preview_at_a_time",
            ),
        )
        indexes = (models.Index(fields=("state", "lease_until"), name="video_job_by_state"),)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}"
