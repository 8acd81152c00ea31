"""Conversations: links, sessions and what was said in them."""

from __future__ import annotations

import secrets
import uuid

from django.conf import settings
from django.contrib.contenttypes.fields import GenericRelation
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from avatars.models import Agent, AgentRevision
from avatars.snapshots import AgentSnapshot
from projects.models import Project, ScopedQuerySet
from projects.usage.models import UsageRecord
from sessions.choices import (
    LIVE_STATES,
    AgentStateName,
    EndReason,
    ParticipantKind,
    Role,
    SessionSource,
    SessionState,
)

HELD_BY_VISITORS = ~Q(source=SessionSource.CHECK) & Q(link__trial_by=None)
"""Conversations that count: neither the installation's talks with itself nor editors' trials."""


def make_public_id() -> str:
    """128 bits: a link is its own permission, so it cannot be guessed."""
    return secrets.token_urlsafe(16)


class RoomLink(models.Model):
    """What `/r/<public id>` names. Every press of Talk on it makes a new LiveSession."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="room_links")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="room_links")
    public_id = models.CharField(max_length=40, unique=True, default=make_public_id, editable=False)
    name = models.CharField(max_length=100, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    max_minutes = models.PositiveIntegerField(
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 60)],
        help_text="Longest conversation, in minutes.",
    )
    max_concurrent = models.PositiveIntegerField(
        default=10, validators=[MinValueValidator(1)], help_text="Most conversations at once."
    )
    one_session = models.BooleanField(
        default=False, editable=False, help_text="Made for one session by a program; starts no other."
    )
    on_start_page = models.BooleanField(default=False, help_text="Offer this agent on the start page.")
    allowed_origins = models.JSONField(
        default=list, blank=True, help_text="Other sites that may show this conversation in a frame."
    )
    trial_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.CASCADE, related_name="+"
    )  # whose door it is, opened from the agent's editor; nobody else's
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)  # by the one browser of a one-session link
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["RoomLink"].as_manager()

    class Meta:
        verbose_name = "link"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name or f"Link to {self.agent}"

    def get_absolute_url(self) -> str:
        return reverse("room", args=[self.public_id])

    @property
    def is_handed_out(self) -> bool:
        """Whether it is for people to pass on: the others open the conversation of somebody in particular."""
        return not self.one_session and self.trial_by_id is None

    @property
    def url(self) -> str:
        return f"{settings.MOLTS_PUBLIC_URL}{self.get_absolute_url()}"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()


class LiveSessionQuerySet(ScopedQuerySet["LiveSession"]):
    def held_by_visitors(self) -> LiveSessionQuerySet:
        return self.filter(HELD_BY_VISITORS)


class LiveSession(models.Model):
    """One conversation in one room.

    `dispatch_generation` numbers the requests for an agent: a job claims the session for its generation, and one that
    finds a newer claim leaves. `last_seq` is the counter behind `Segment.seq`, advanced under the row's lock.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="live_sessions")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="live_sessions")
    revision = models.ForeignKey(AgentRevision, null=True, on_delete=models.SET_NULL, related_name="+")
    link = models.ForeignKey(RoomLink, null=True, blank=True, on_delete=models.SET_NULL, related_name="live_sessions")
    source = models.CharField(max_length=10, choices=SessionSource.choices, default=SessionSource.LINK)
    room_name = models.CharField(max_length=100, unique=True)
    visitor_identity = models.CharField(max_length=100)
    visitor_name = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=10, choices=SessionState.choices, default=SessionState.WAITING)
    reason = models.CharField(max_length=20, choices=EndReason.choices, blank=True)
    agent_state = models.CharField(max_length=15, choices=AgentStateName.choices, default=AgentStateName.INITIALIZING)
    spec = models.JSONField(help_text="What the agent was at the start; holds no secret.")
    max_seconds = models.PositiveIntegerField(null=True)
    last_seq = models.PositiveIntegerField(default=0)
    dispatch_generation = models.PositiveIntegerField(default=0)
    dispatched_at = models.DateTimeField(null=True)
    claimed_generation = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    active_at = models.DateTimeField(null=True)
    agent_lost_at = models.DateTimeField(null=True)
    visitor_joined_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    room_closed_at = models.DateTimeField(null=True)
    usage_records = GenericRelation(UsageRecord, "owner_id", "owner_type")

    objects = LiveSessionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "conversation"
        indexes = (
            # The admin's lists begin with the latest, of all, of a project or of an agent.
            models.Index(fields=("-created_at",), name="session_latest"),
            models.Index(fields=("project", "-created_at"), name="session_by_project"),
            models.Index(fields=("agent", "-created_at"), name="session_by_agent"),
            # The reconciler asks for these every few seconds, and each start for those of one link and project:
            # finished ones must cost them nothing. A condition would not do: SQLite does not see through a list of
            # parameters that it holds.
            models.Index(fields=("state", "-created_at"), name="session_by_state"),
            models.Index(fields=("link", "state"), name="session_by_link"),
            models.Index(fields=("project", "state"), name="session_busy"),
            models.Index(fields=("ended_at",), name="session_room_open", condition=Q(room_closed_at=None)),
        )

    def __str__(self) -> str:
        return f"{self.agent}, {date_format(self.created_at, 'DATETIME_FORMAT')}"

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def agent_snapshot(self) -> AgentSnapshot:
        """The agent as it was at the start, with the chains that the conversation runs on: what `spec` keeps."""
        return AgentSnapshot.read(self.spec)


class Participant(models.Model):
    """Who was in the room, and when."""

    project_path = "session__project"

    session = models.ForeignKey(LiveSession, on_delete=models.CASCADE, related_name="participants")
    identity = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=ParticipantKind.choices)
    name = models.CharField(max_length=100, blank=True)
    joined_at = models.DateTimeField(null=True)
    left_at = models.DateTimeField(null=True)

    objects = ScopedQuerySet["Participant"].as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("session", "identity"), name="participant_identity_unique_in_session"),
        )
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.name or self.identity


class Segment(models.Model):
    """One settled utterance. Times are milliseconds since the session's start."""

    project_path = "session__project"

    session = models.ForeignKey(LiveSession, on_delete=models.CASCADE, related_name="segments")
    seq = models.PositiveIntegerField()
    segment_id = models.CharField(max_length=100)
    role = models.CharField(max_length=5, choices=Role.choices)
    text = models.TextField()
    start_ms = models.PositiveIntegerField()
    end_ms = models.PositiveIntegerField()
    interrupted = models.BooleanField(default=False)
    revised = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["Segment"].as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("session", "seq"), name="segment_seq_unique_in_session"),
            models.UniqueConstraint(fields=("session", "segment_id"), name="segment_recorded_once"),
        )
        ordering = ("session", "seq")

    def __str__(self) -> str:
        return f"{self.seq}. {self.role}"


class Turn(models.Model):
    """One visitor utterance and the answer to it, with its latency split in milliseconds.

    The parts are disjoint: end of speech to decision (`endpointing`), further wait for text (`stt`), model (`llm`),
    voice (`tts`), face (`avatar`). They sum to `total_ms` within 50 ms; what was not measured is null.
    """

    project_path = "session__project"

    session = models.ForeignKey(LiveSession, on_delete=models.CASCADE, related_name="turns")
    index = models.PositiveIntegerField()
    user_segment_id = models.CharField(max_length=100, blank=True)
    agent_segment_id = models.CharField(max_length=100, blank=True)
    endpointing_ms = models.PositiveIntegerField(null=True)
    stt_ms = models.PositiveIntegerField(null=True)
    llm_ms = models.PositiveIntegerField(null=True)
    tts_ms = models.PositiveIntegerField(null=True)
    avatar_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField(null=True)
    interrupted = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["Turn"].as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("session", "index"), name="turn_index_unique_in_session"),)
        ordering = ("session", "index")

    def __str__(self) -> str:
        return f"turn {self.index}"


class SessionNotice(models.Model):
    """Something the visitor was told: a late or lost agent, a fallback. `reason` is for admins alone."""

    project_path = "session__project"

    session = models.ForeignKey(LiveSession, on_delete=models.CASCADE, related_name="notices")
    level = models.CharField(max_length=10)
    code = models.CharField(max_length=30)
    text = models.CharField(max_length=300)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["SessionNotice"].as_manager()

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.code
