"""Conversations as REST reads and shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from pydantic import BaseModel, ConfigDict
from rest_framework import serializers

from avatars.lookup import MAX_REFERENCE
from avatars.models import Agent
from molts.api import Input, Output, PageQuery, Text
from molts.errors import BadInput
from sessions.choices import EndReason, Role, SessionState
from sessions.events import SegmentData, SessionData
from sessions.models import LiveSession
from sessions.services import MAX_NAME, MAX_TEXT, clean_name
from sessions.transcripts import CONTENT_TYPES


# -- In ---------------------------------------------------------------------------------------------------------------
class VisitorName(Text):
    """A name as `clean_name` takes it; refused under the field's own name."""

    refused = r"\x00-\x08\x0E-\x1B\x7F-\x84\x86-\x9F\uE000-\uF8FF"  # control and private characters

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"max_length": MAX_NAME, "allow_blank": True, "help_text": "The visitor's, as shown.", **options}
        )

    def to_internal_value(self, data: Any) -> str:
        try:
            return clean_name(super().to_internal_value(data))
        except BadInput as error:
            raise serializers.ValidationError(error.detail) from error


class SessionQuery(PageQuery):
    state = serializers.ChoiceField(choices=SessionState.choices, required=False)
    agent = serializers.UUIDField(required=False, help_text="Only conversations with this agent.")
    ordering = serializers.ChoiceField(choices=["-created_at", "created_at"], default="-created_at")


class StartSession(Input):
    agent = Text(max_length=MAX_REFERENCE, help_text="Slug or id of the agent.")
    participant_name = VisitorName(default="")


class Say(Input):
    text = Text(max_length=MAX_TEXT)

    def get_fields(self) -> dict[str, Any]:
        # `as` cannot be written as an attribute.
        help_text = "`user`: as if the visitor had said it, the agent answers. `agent`: the agent says it."
        return {**super().get_fields(), "as": serializers.ChoiceField(choices=Role.choices, help_text=help_text)}


class TranscriptQuery(Input):
    format = serializers.ChoiceField(choices=list(CONTENT_TYPES), default="json")


class TokenInput(Input):
    unknown_field = "This cannot be set here: leave it out."


class TokenAgent(TokenInput):
    agent_name = Text(max_length=MAX_REFERENCE, help_text="Slug or id of the agent.")


class TokenRoom(TokenInput):
    agents = serializers.ListField(child=TokenAgent(), min_length=1, max_length=1)


class TokenRequest(TokenInput):
    """LiveKit's request for a token. Fields that are null or empty count as left out."""

    room_name = Text(required=False, max_length=256, help_text="Ignored: every conversation has a room of its own.")
    participant_identity = Text(required=False, max_length=256, help_text="Ignored: the identity is made here.")
    participant_name = VisitorName(default="")
    room_config = TokenRoom(help_text="Names the agent: `agents` has one entry.")

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(_without_unset(data))


def _without_unset(data: Any) -> Any:
    """Clients made from LiveKit's protocol may spell out what is not set as null or as its type's empty value."""
    if isinstance(data, Mapping):
        kept = {name: _without_unset(value) for name, value in data.items()}
        return {name: value for name, value in kept.items() if value not in (None, "", 0, [], {})}
    return [_without_unset(value) for value in data] if isinstance(data, list) else data


# -- Out --------------------------------------------------------------------------------------------------------------
def ws_url(session: LiveSession) -> str:
    """Address of the session's WebSocket on the public host: http becomes ws, https becomes wss."""
    public: str = settings.MOLTS_PUBLIC_URL
    return f"ws{public.removeprefix('http')}/ws/sessions/{session.pk}/"


def join_url(session: LiveSession) -> str | None:
    """The link made for this session alone; None when the visitor came through a shared one."""
    return session.link.url if session.link is not None and session.link.one_session else None


class SessionAgentSerializer(serializers.ModelSerializer[Agent]):
    class Meta:
        model = Agent
        fields = ("id", "slug", "name")
        read_only_fields = fields


class SessionSerializer(serializers.ModelSerializer[LiveSession]):
    agent = SessionAgentSerializer(read_only=True)
    participant_name = serializers.CharField(source="visitor_name", read_only=True)
    reason = serializers.SerializerMethodField(help_text="Why it is over; null while it runs.")
    last_seq = serializers.IntegerField(read_only=True, help_text="Number of the transcript's latest line.")
    join_url = serializers.SerializerMethodField(help_text="Null when the visitor came through a shared link.")
    ws_url = serializers.SerializerMethodField(help_text="Live events, for `Authorization: Bearer`.")

    class Meta:
        model = LiveSession
        fields = (
            "id",
            "project",
            "agent",
            "source",
            "room_name",
            "participant_name",
            "state",
            "reason",
            "agent_state",
            "last_seq",
            "max_seconds",
            "join_url",
            "ws_url",
            "created_at",
            "active_at",
            "ended_at",
        )
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=EndReason.choices, allow_null=True))
    def get_reason(self, session: LiveSession) -> str | None:
        return session.reason or None

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_join_url(self, session: LiveSession) -> str | None:
        return join_url(session)

    @extend_schema_field(OpenApiTypes.URI)
    def get_ws_url(self, session: LiveSession) -> str:
        return ws_url(session)


class RoomEntry(Output):
    """What a LiveKit client needs to take part."""

    server_url = serializers.CharField(help_text="The media server.")
    participant_token = serializers.CharField(help_text="Opens this one room. Connect within two minutes.")


class StartedSession(RoomEntry):
    id = serializers.UUIDField()
    room_name = serializers.CharField()
    join_url = serializers.URLField(help_text="The conversation as a page, for the first browser that enters.")
    ws_url = serializers.CharField(help_text="Live events, for `Authorization: Bearer`.")


class Accepted(Output):
    id = serializers.UUIDField(help_text="Of what was handed over.")


class Transcript(BaseModel):
    """The JSON form of a transcript."""

    model_config = ConfigDict(extra="forbid")

    session: SessionData
    segments: list[SegmentData]
