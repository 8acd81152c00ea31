"""Jobs that make videos."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.contenttypes.fields import GenericRelation
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.text import Truncator

from avatars.models import Agent
from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from avatars.videos.stages import StageName
from projects.models import Project, ScopedQuerySet
from projects.usage.models import UsageRecord
from projects.webhooks.models import MAX_URL

STAGES = [(stage.value, stage.label) for stage in StageName]


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
    progress = models.FloatField(default=0.0, help_text="0 to 1: of a preview's stage, of the whole video.")
    seconds_left = models.FloatField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    claimed_by = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True, help_text="The next attempt.")
    failed_stage = models.CharField(max_length=10, choices=STAGES, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.CharField(max_length=500, blank=True)
    error_attr = models.CharField(
        max_length=40, blank=True, help_text="The name of the field in the request that has to be corrected."
    )
    order = models.JSONField(help_text="What is to be made; holds no secret.")
    picture = models.FileField(upload_to="videos/", blank=True)  # of the face, as it was when the video was ordered
    output = models.FileField(upload_to="videos/", blank=True)
    media_type = models.CharField(max_length=40, blank=True)
    # Of videos alone.
    agent = models.ForeignKey(Agent, null=True, on_delete=models.SET_NULL, related_name="video_jobs")
    title = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(default=dict, help_text="Of the program that ordered it; comes back as it was sent.")
    callback_url = models.CharField(max_length=MAX_URL, blank=True, help_text="Told when the video is over.")
    thumbnail = models.FileField(upload_to="videos/", blank=True)
    duration = models.FloatField(null=True, help_text="Seconds.")
    usage_records = GenericRelation(UsageRecord, "owner_id", "owner_type")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(default=timezone.now)  # to the workers' queue, the last time
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = ScopedQuerySet["VideoJob"].as_manager()

    class Meta:
        verbose_name = "video"
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("ordered_by",),
                condition=Q(kind=JobKind.PREVIEW, state__in=LIVE_STATES),
                name="one_preview_at_a_time",
            ),
        )
        indexes = (
            models.Index(fields=("state", "lease_until"), name="video_job_by_state"),
            models.Index(fields=("project", "kind", "-created_at"), name="video_job_by_project"),
        )

    def __str__(self) -> str:
        scenes = self.order.get("scenes") or [{}]
        words = " ".join(str(scenes[0].get("script", "")).split())
        return self.title or Truncator(words).chars(60) or f"{self.get_kind_display()} {self.pk}"


class JobStage(models.Model):
    """One stage of a video, as its last attempt left it. `key` names what it made by all that it was made from;
    `reused` says that an attempt before had made it."""

    project_path = "job__project"

    job = models.ForeignKey(VideoJob, on_delete=models.CASCADE, related_name="stages")
    name = models.CharField(max_length=10, choices=STAGES)
    attempt = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=64, blank=True)
    note = models.CharField(max_length=200, blank=True)
    reused = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = ScopedQuerySet["JobStage"].as_manager()

    class Meta:
        ordering = ("started_at", "pk")
        constraints = (models.UniqueConstraint(fields=("job", "name"), name="one_row_for_each_stage"),)

    def __str__(self) -> str:
        return f"{self.get_name_display()} of {self.job_id}"
