"""Videos as REST reads and shows them."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from avatars.lookup import MAX_REFERENCE
from avatars.models import Agent
from avatars.videos.choices import STATUSES, JobState
from avatars.videos.links import video_links
from avatars.videos.models import STAGES, JobStage, VideoJob
from avatars.videos.ordering import MAX_SCRIPT, MOST_SCENES
from avatars.videos.spec import ASPECTS, RESOLUTIONS
from molts.api import Input, Output, PageQuery, Text
from projects.webhooks.models import MAX_URL

STATUS_CHOICES = [(status, status.capitalize()) for status in STATUSES.values()]
STATES = {status: state for state, status in STATUSES.items()}
MOST_METADATA, LONGEST_NAME, LONGEST_VALUE = 20, 40, 500
MOST_BYTES = 8_000
"""Of metadata: webhooks carry them, and bodies of those end at 20 kB."""


# -- In ---------------------------------------------------------------------------------------------------------------
class VideoQuery(PageQuery):
    status = serializers.ChoiceField(choices=STATUS_CHOICES, required=False)
    agent = serializers.UUIDField(required=False, help_text="Only videos of this agent.")
    ordering = serializers.ChoiceField(choices=["-created_at", "created_at"], default="-created_at")


class SceneInput(Input):
    script = Text(
        max_length=MAX_SCRIPT,
        help_text='What is said. `<break time="1.5s"/>` is a pause.',
        trim_whitespace=True,
    )
    agent = Text(max_length=MAX_REFERENCE, required=False, help_text="Slug or id; the video's agent when left out.")
    avatar = serializers.UUIDField(required=False, help_text="Another face than the agent's.")
    voice = serializers.UUIDField(required=False, help_text="Another voice than the agent's.")


class OrderAgentVideo(Input):
    """One scene is described by `script`, `avatar` and `voice`; several by `scenes`."""

    script = Text(max_length=MAX_SCRIPT, required=False, help_text='What is said. `<break time="1.5s"/>` is a pause.')
    avatar = serializers.UUIDField(required=False, help_text="Another face than the agent's.")
    voice = serializers.UUIDField(required=False, help_text="Another voice than the agent's.")
    scenes = serializers.ListField(child=SceneInput(), min_length=1, max_length=MOST_SCENES, required=False)
    resolution = serializers.ChoiceField(choices=list(RESOLUTIONS), default="512p", help_text="Of the shorter side.")
    aspect = serializers.ChoiceField(choices=list(ASPECTS), default="1:1", help_text="Width to height.")
    fps = serializers.ChoiceField(choices=[25, 30], default=25, help_text="Pictures a second.")
    title = Text(max_length=200, allow_blank=True, default="")
    callback_url = Text(
        max_length=MAX_URL,
        required=False,
        help_text="Told when the video is there or has failed, like a webhook endpoint; signed with the project's "
        "callback secret.",
    )
    metadata = serializers.DictField(
        child=Text(max_length=LONGEST_VALUE, allow_blank=True),
        default=dict,
        help_text=f"Texts of yours by name, at most {MOST_METADATA}. They come back as they were sent.",
    )

    def validate_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        if len(metadata) > MOST_METADATA:
            raise serializers.ValidationError(f"At most {MOST_METADATA} entries.")
        name_of = Text(max_length=LONGEST_NAME, trim_whitespace=False)
        for name in metadata:
            name_of.run_validation(name)
        if len(json.dumps(metadata, ensure_ascii=False).encode()) > MOST_BYTES:
            raise serializers.ValidationError(f"At most {MOST_BYTES} bytes in all.")
        return metadata

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "scenes" in asked:
            twice = [name for name in ("script", "avatar", "voice") if name in asked]
            if twice:
                raise serializers.ValidationError({twice[0]: ["This belongs to each of the scenes."]})
        elif "script" not in asked:
            raise serializers.ValidationError({"script": ["Write what is to be said, or send scenes."]})
        return asked


class OrderVideo(OrderAgentVideo):
    agent = Text(max_length=MAX_REFERENCE, help_text="Slug or id of the agent.")


# -- Out --------------------------------------------------------------------------------------------------------------
class VideoAgentSerializer(serializers.ModelSerializer[Agent]):
    class Meta:
        model = Agent
        fields = ("id", "slug", "name")
        read_only_fields = fields


class StageSerializer(serializers.ModelSerializer[JobStage]):
    name = serializers.ChoiceField(choices=STAGES, read_only=True)

    class Meta:
        model = JobStage
        fields = ("name", "attempt", "note", "reused", "started_at", "ended_at")
        read_only_fields = fields


class VideoErrorBody(Output):
    code = serializers.CharField(help_text="For programs; stable.")
    detail = serializers.CharField(help_text="For people.")
    stage = serializers.ChoiceField(choices=STAGES, allow_null=True)


class VideoSerializer(serializers.ModelSerializer[VideoJob]):
    agent = VideoAgentSerializer(read_only=True, allow_null=True)
    status = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField(help_text="Per cent.")
    seconds_left = serializers.FloatField(read_only=True, allow_null=True, help_text="A guess, while it is rendered.")
    stages = StageSerializer(many=True, read_only=True)
    width = serializers.IntegerField(source="order.width", read_only=True)
    height = serializers.IntegerField(source="order.height", read_only=True)
    video_url = serializers.SerializerMethodField(help_text="Opens for a day, without a key. Null until it is there.")
    thumbnail_url = serializers.SerializerMethodField(help_text="The same for a picture of it.")
    duration = serializers.FloatField(read_only=True, allow_null=True, help_text="Seconds.")
    cost = serializers.SerializerMethodField(help_text="Null until it is priced.")
    error = serializers.SerializerMethodField(help_text="Why it failed, else null.")
    metadata = serializers.DictField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = VideoJob
        fields = (
            "id",
            "project",
            "agent",
            "title",
            "status",
            "progress",
            "seconds_left",
            "stages",
            "attempts",
            "width",
            "height",
            "video_url",
            "thumbnail_url",
            "duration",
            "cost",
            "error",
            "callback_url",
            "metadata",
            "created_at",
            "started_at",
            "ended_at",
        )
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STATUS_CHOICES))
    def get_status(self, job: VideoJob) -> str:
        return STATUSES[JobState(job.state)]

    def get_progress(self, job: VideoJob) -> int:
        return int(100 * job.progress)

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_video_url(self, job: VideoJob) -> str | None:
        return video_links(job)["video_url"]

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_thumbnail_url(self, job: VideoJob) -> str | None:
        return video_links(job)["thumbnail_url"]

    @extend_schema_field({"oneOf": [{"type": "number"}, {"type": "null"}]})
    def get_cost(self, job: VideoJob) -> float | None:
        return None

    @extend_schema_field(VideoErrorBody(allow_null=True))
    def get_error(self, job: VideoJob) -> dict[str, Any] | None:
        if job.state != JobState.FAILED:
            return None
        return {"code": job.error_code, "detail": job.error, "stage": job.failed_stage or None}
