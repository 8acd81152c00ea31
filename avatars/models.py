"""Whom the visitor meets: agents with their voice, face and pipeline."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from avatars.snapshots import AgentSnapshot, AvatarSnapshot
from projects.models import Project, ProviderKey, ScopedQuerySet
from projects.providers.base import PIPELINE


class Voice(models.Model):
    """A text-to-speech provider with its voice and settings."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="voices")
    name = models.CharField(max_length=100)
    provider = models.CharField(max_length=50)
    provider_key = models.ForeignKey(ProviderKey, null=True, blank=True, on_delete=models.RESTRICT)
    options = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["Voice"].as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Avatar(models.Model):
    """How an agent looks: an engine (or a hosted service, with its key), a picture or a character, and settings.
    Every saved change is an AvatarVersion."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="avatars")
    name = models.CharField(max_length=100)
    engine = models.CharField(max_length=50, default="puppet", help_text="What moves the face.")
    provider_key = models.ForeignKey(ProviderKey, null=True, blank=True, on_delete=models.RESTRICT)
    options = models.JSONField(default=dict, blank=True)
    portrait = models.ImageField(upload_to="portraits/", blank=True)
    builtin = models.CharField(max_length=50, blank=True, editable=False)  # name of a portrait shipped with molts
    preview = models.FileField(upload_to="previews/", blank=True, editable=False)  # a short clip made by the engine
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ScopedQuerySet["Avatar"].as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class AvatarVersion(models.Model):
    """The avatar as it was saved once: `avatar_snapshot`, which `snapshot` keeps as JSON."""

    project_path = "avatar__project"

    avatar = models.ForeignKey(Avatar, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    snapshot = models.JSONField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["AvatarVersion"].as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("avatar", "number"), name="version_number_unique_in_avatar"),)
        ordering = ("-number",)

    def __str__(self) -> str:
        return f"{self.avatar} v{self.number}"

    @property
    def avatar_snapshot(self) -> AvatarSnapshot:
        return AvatarSnapshot.read(self.snapshot)


class Agent(models.Model):
    """A persona: who it is, how it sounds and looks, what it runs on. Every saved change is an AgentRevision."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="agents")
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=60, help_text="How programs name it, for example in POST /api/v1/token.")
    description = models.CharField(max_length=200, blank=True, help_text="One line for visitors.")
    language = models.CharField(max_length=12, default="en")
    instructions = models.TextField(blank=True, help_text="Who the agent is and how it should behave.")
    greeting = models.TextField(blank=True, help_text="What it says first. Empty: it waits for the visitor.")
    knowledge = models.TextField(blank=True, help_text="What it knows, in plain sentences.")
    voice = models.ForeignKey(Voice, null=True, blank=True, on_delete=models.RESTRICT, related_name="agents")
    avatar = models.ForeignKey(Avatar, null=True, blank=True, on_delete=models.SET_NULL, related_name="agents")
    # Turn-taking, in milliseconds and seconds.
    end_of_turn_model = models.BooleanField(
        default=False, help_text="Judge by meaning whether the visitor has finished, not by silence alone."
    )
    min_endpointing_ms = models.PositiveIntegerField(
        default=400, validators=[MinValueValidator(100), MaxValueValidator(5000)]
    )
    max_endpointing_ms = models.PositiveIntegerField(
        default=2500, validators=[MinValueValidator(300), MaxValueValidator(10000)]
    )
    allow_interruptions = models.BooleanField(default=True)
    # Limits
    max_minutes = models.PositiveIntegerField(default=30, validators=[MinValueValidator(1), MaxValueValidator(24 * 60)])
    silence_seconds = models.PositiveIntegerField(
        default=120, help_text="End the conversation after this much silence of the visitor. 0: never."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ScopedQuerySet["Agent"].as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project", "slug"), name="agent_slug_unique_in_project"),)
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class AgentAnswer(models.Model):
    """A question visitors ask and what the agent says to it; the `scripted` model answers from these."""

    project_path = "agent__project"

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="answers")
    position = models.PositiveIntegerField(default=0)
    question = models.CharField(max_length=300)
    answer = models.TextField()

    objects = ScopedQuerySet["AgentAnswer"].as_manager()

    class Meta:
        ordering = ("position", "pk")

    def __str__(self) -> str:
        return self.question


class PipelineStep(models.Model):
    """One rung of an agent's chain for a kind. When it fails, the next position takes over."""

    project_path = "agent__project"

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="pipeline_steps")
    kind = models.CharField(max_length=3, choices=[(kind.value, kind.label) for kind in PIPELINE])
    position = models.PositiveIntegerField(default=0)
    provider = models.CharField(max_length=50)
    provider_key = models.ForeignKey(ProviderKey, null=True, blank=True, on_delete=models.RESTRICT)
    options = models.JSONField(default=dict, blank=True)

    objects = ScopedQuerySet["PipelineStep"].as_manager()

    class Meta:
        ordering = ("kind", "position", "pk")

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.provider}"


class AgentRevision(models.Model):
    """The agent as it was saved once: `agent_snapshot`, which `snapshot` keeps as JSON. A session points at the one
    that answered."""

    project_path = "agent__project"

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    snapshot = models.JSONField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["AgentRevision"].as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("agent", "number"), name="revision_number_unique_in_agent"),)
        ordering = ("-number",)

    def __str__(self) -> str:
        return f"{self.agent} r{self.number}"

    @property
    def agent_snapshot(self) -> AgentSnapshot:
        return AgentSnapshot.read(self.snapshot)
