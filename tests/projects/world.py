"""One object of everything that the admin shows, in a project of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Model

from avatars.models import Agent, AgentRevision, Avatar, Voice
from avatars.snapshots import AvatarSnapshot
from avatars.videos.choices import JobKind, JobState
from avatars.videos.models import VideoJob
from avatars.videos.ordering import plan_video
from avatars.videos.spec import Scene
from avatars.videos.stages import StageName
from projects.models import ApiKey, AuditEntry, Project, ProviderKey
from projects.services import create_api_key
from projects.usage.models import UsageRecord
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from projects.webhooks.services import create_endpoint
from sessions.models import LiveSession, Participant, RoomLink, Segment, SessionNotice, Turn
from tests.conftest import make_agent

SECRET = "sk-canary-of-the-world-0123456789"


def make_provider_key(project: Project) -> ProviderKey:
    key = ProviderKey(project=project, name=f"Vendor of {project}", provider="openai")
    key.set_secret(SECRET)
    key.save()
    return key


def make_session(agent: Agent, *, lines: int = 2, link: RoomLink | None = None) -> LiveSession:
    """A running conversation with everything that is kept of one."""
    session = LiveSession.objects.create(
        project=agent.project,
        agent=agent,
        revision=agent.revisions.first(),
        link=link,
        room_name=f"room-of-{agent.slug}-{LiveSession.objects.count()}",
        visitor_identity="visitor-1",
        visitor_name="Vince",
        state="active",
        agent_state="listening",
        spec={"name": agent.name, "limits": {}},
        last_seq=lines,
    )
    Participant.objects.create(session=session, identity="visitor-1", kind="visitor", name="Vince")
    Segment.objects.bulk_create(
        Segment(
            session=session,
            seq=seq,
            segment_id=f"s{seq}",
            role="user" if seq % 2 else "agent",
            text=f"Line {seq} of {agent.name} <b>&",
            start_ms=seq * 61_000,
            end_ms=seq * 61_000 + 500,
        )
        for seq in range(1, lines + 1)
    )
    Turn.objects.create(session=session, index=1, endpointing_ms=400, stt_ms=50, llm_ms=7, tts_ms=90, total_ms=547)
    UsageRecord.objects.create(
        project=agent.project,
        owner=session,
        source_id="u1",
        kind="tts",
        provider="espeak",
        unit="characters",
        quantity=42,
    )
    SessionNotice.objects.create(session=session, level="warning", code="agent_late", text="The agent is late.")
    return session


def make_endpoint(project: Project) -> WebhookEndpoint:
    endpoint = WebhookEndpoint(project=project, url="https://example.com/hook", description=f"Listener of {project}")
    return create_endpoint(endpoint=endpoint)[0]


def make_delivery(project: Project) -> WebhookDelivery:
    """A delivery that was given up after one try."""
    event = WebhookEvent.objects.create(project=project, type=EventType.SESSION_ENDED, body='{"data": "<b>&"}')
    delivery = WebhookDelivery.objects.create(
        project=project,
        event=event,
        endpoint=make_endpoint(project),
        lane="one",
        state="failed",
        attempts=1,
        tries_left=0,
        next_try_at=None,
        outcome="It answered 500.",
    )
    delivery.tries.create(
        number=1,
        url=delivery.endpoint.url,
        started_at=event.created_at,
        request_headers={"webhook-id": str(event.pk)},
        status=500,
        answer="<b>Out of order & closed",
        duration_ms=42,
    )
    return delivery


def make_video(project: Project) -> VideoJob:
    """A video that failed."""
    scene = Scene(
        script=f"Welcome to {project} <b>&",
        language="en",
        voices=(),
        avatar=AvatarSnapshot(name="Mira", engine="puppet"),
    )
    return VideoJob.objects.create(
        kind=JobKind.VIDEO,
        project=project,
        agent=_agent(project),
        title=f"Film of {project}",
        order=plan_video(scenes=[scene]).as_json(),
        state=JobState.FAILED,
        failed_stage=StageName.SPEECH,
        error="No voice speaks: <b>&",
    )


MAKERS: dict[type[Model], Callable[[Project], Model]] = {
    Project: lambda project: project,
    ApiKey: lambda project: create_api_key(project=project, name=f"Program of {project}")[0],
    ProviderKey: make_provider_key,
    Voice: lambda project: Voice.objects.create(project=project, name=f"Voice of {project}", provider="espeak"),
    Avatar: lambda project: Avatar.objects.create(project=project, name=f"Face of {project}", builtin="mira"),
    Agent: lambda project: _agent(project),
    AgentRevision: lambda project: _agent(project).revisions.get(),
    RoomLink: lambda project: RoomLink.objects.create(
        project=project, agent=_agent(project), name=f"Door of {project}"
    ),
    LiveSession: lambda project: make_session(_agent(project)),
    VideoJob: make_video,
    WebhookEndpoint: make_endpoint,
    WebhookDelivery: make_delivery,
    AuditEntry: lambda project: AuditEntry.objects.create(
        project=project, user_name="somebody", action="act", object_name=f"Thing of {project}", text="Tested."
    ),
}


def _agent(project: Project) -> Agent:
    return make_agent(project, f"Agent {Agent.objects.count() + 1} of {project}")


def make(model: type[Model], project: Project) -> Any:
    return MAKERS[model](project)
