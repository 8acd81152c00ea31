"""`/api/v1/sessions` and `/api/v1/token`: programs start conversations, follow, steer and end them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from avatars.lookup import find_agent
from avatars.models import Agent
from molts.api import NumberedPages
from projects.api import IDEMPOTENCY_PARAMETER, ProjectView
from projects.models import ScopedQuerySet
from sessions import lines, services
from sessions.choices import EndReason, SessionSource
from sessions.models import LiveSession
from sessions.serializers import (
    Accepted,
    RoomEntry,
    Say,
    SessionQuery,
    SessionSerializer,
    StartedSession,
    StartSession,
    TokenRequest,
    Transcript,
    TranscriptQuery,
    join_url,
    ws_url,
)
from sessions.tokens import visitor_token
from sessions.views import transcript_response


def room_entry(session: LiveSession) -> dict[str, str]:
    """How to get into the room. The token is made anew each time and stored nowhere."""
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity, name=session.visitor_name)
    return {"server_url": settings.LIVEKIT_PUBLIC_URL, "participant_token": token}


class SessionAPIView(ProjectView):
    """Base of the doors to conversations."""

    def shown(self) -> ScopedQuerySet[LiveSession]:
        """All sessions, with what `SessionSerializer` shows and no more."""
        return LiveSession.objects.select_related("agent", "link").defer(*services.LONG_TEXTS)

    def start(self, *, agent: Agent, name: str, operation: str, body: Mapping[str, Any]) -> tuple[LiveSession, bool]:
        """A session, and whether this request started it.

        Raises Conflict for a repeat whose conversation is over: a token for a closed room would open nothing.
        """
        self.require_allowed(agent.project_id)

        def make() -> uuid.UUID:
            return services.start_session(agent=agent, visitor_name=name, source=SessionSource.API).pk

        session_id, made = self.run_once(project_id=agent.project_id, operation=operation, body=body, make=make)
        session = self.find(self.shown(), session_id)
        if not made:
            services.require_live(session)
        return session, made


class TokenView(SessionAPIView):
    error_codes = ("409", "503")

    @extend_schema(
        operation_id="token_create",
        tags=["sessions"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=TokenRequest,
        responses={201: RoomEntry},
    )
    def post(self, request: Request) -> Response:
        """LiveKit's standard token endpoint: starts a conversation and answers how to join it."""
        asked = self.read_body(TokenRequest)
        reference = asked["room_config"]["agents"][0]["agent_name"]
        agent = find_agent(actor=self.actor, reference=reference, attr="room_config.agents.0.agent_name")
        session, _ = self.start(agent=agent, name=asked["participant_name"], operation="token", body=asked)
        return Response(room_entry(session), status=201)


class SessionList(SessionAPIView):
    error_codes = ("409", "503")
    pagination_class = NumberedPages

    @extend_schema(
        operation_id="sessions_list",
        tags=["sessions"],
        parameters=[SessionQuery],
        responses=SessionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Your project's conversations, the latest first."""
        query = self.read_query(SessionQuery)
        wanted = {name: query[name] for name in ("state", "agent") if name in query}
        # The id settles the order of those that began in the same instant, so that pages do not overlap.
        sessions = self.shown().for_actor(self.actor).filter(**wanted).order_by(query["ordering"], "pk")
        return self.paginate(sessions, lambda page: SessionSerializer(page, many=True).data)

    @extend_schema(
        operation_id="sessions_start",
        tags=["sessions"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=StartSession,
        responses={201: StartedSession},
    )
    def post(self, request: Request) -> Response:
        """Start a conversation. A repeat with the same Idempotency-Key answers the same one with a new token."""
        asked = self.read_body(StartSession)
        agent = find_agent(actor=self.actor, reference=asked["agent"])
        session, made = self.start(agent=agent, name=asked["participant_name"], operation="sessions", body=asked)
        answer = {
            "id": session.pk,
            "room_name": session.room_name,
            **room_entry(session),
            "join_url": join_url(session),
            "ws_url": ws_url(session),
        }
        headers = {"Location": reverse("api-session", args=[session.pk])}
        if not made:
            headers["Idempotent-Replayed"] = "true"
        return Response(StartedSession(answer).data, status=201, headers=headers)


class SessionDetail(SessionAPIView):
    @extend_schema(operation_id="sessions_get", tags=["sessions"], responses=SessionSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """One conversation."""
        return Response(SessionSerializer(self.find(self.shown(), session_id)).data)


class AnyAccept(BaseContentNegotiation):
    """`?format=` decides what is answered, not the Accept header; errors are JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class SessionTranscript(SessionAPIView):
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="sessions_transcript",
        tags=["sessions"],
        parameters=[TranscriptQuery],
        responses={
            (200, "application/json"): Transcript,
            (200, "text/plain"): OpenApiTypes.STR,
            (200, "text/vtt"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, session_id: uuid.UUID) -> HttpResponse:
        """What was said so far, as a file."""
        session = self.find(LiveSession.objects.all(), session_id)
        return transcript_response(session, self.read_query(TranscriptQuery)["format"])


class SessionEnd(SessionAPIView):
    @extend_schema(operation_id="sessions_end", tags=["sessions"], request=None, responses={200: SessionSerializer})
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """End the conversation for everyone in it. One that is over already stays as it is."""
        session = self.find(LiveSession.objects.all(), session_id)
        services.end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API)
        return Response(SessionSerializer(self.find(self.shown(), session_id)).data)


class SessionSay(SessionAPIView):
    error_codes = ("409", "503")

    @extend_schema(
        operation_id="sessions_say",
        tags=["sessions"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=Say,
        responses={202: OpenApiResponse(Accepted, description="Handed to the agent in the room.")},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Put words into the conversation: the visitor's, or the agent's."""
        session = self.find(LiveSession.objects.all(), session_id)
        asked = self.read_body(Say)

        def make() -> uuid.UUID:
            return lines.say(session=session, text=asked["text"], speaker=asked["as"])

        operation = f"say:{session.pk.hex}"
        said, _ = self.run_once(project_id=session.project_id, operation=operation, body=asked, make=make)
        return Response({"id": said}, status=202)
