"""Agents as REST shows them. No provider keys, no pipeline: what an agent runs on is for the admin alone."""

from __future__ import annotations

from urllib.parse import urljoin

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from avatars.models import Agent, Avatar, Voice
from avatars.portraits import portrait_url


class AvatarSerializer(serializers.ModelSerializer[Avatar]):
    portrait_url = serializers.SerializerMethodField()

    class Meta:
        model = Avatar
        fields = ("id", "name", "engine", "portrait_url")
        read_only_fields = fields

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_portrait_url(self, avatar: Avatar) -> str | None:
        path = portrait_url(avatar)
        return urljoin(settings.MOLTS_PUBLIC_URL, path) if path else None


class VoiceSerializer(serializers.ModelSerializer[Voice]):
    class Meta:
        model = Voice
        fields = ("id", "name", "provider")
        read_only_fields = fields


class AgentSerializer(serializers.ModelSerializer[Agent]):
    class Meta:
        model = Agent
        fields: tuple[str, ...] = (
            "id",
            "project",
            "slug",
            "name",
            "description",
            "language",
            "greeting",
            "created_at",
            "updated_at",
        )
        read_only_fields: tuple[str, ...] = fields


class AgentDetailSerializer(AgentSerializer):
    voice = VoiceSerializer(read_only=True, allow_null=True)
    avatar = AvatarSerializer(read_only=True, allow_null=True)

    class Meta(AgentSerializer.Meta):
        fields = (
            *AgentSerializer.Meta.fields,
            "instructions",
            "knowledge",
            "voice",
            "avatar",
            "max_minutes",
            "silence_seconds",
        )
        read_only_fields = fields
