"""`/api/v1/videos`: programs order videos, follow, cancel and delete them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from avatars.lookup import find_agent
from avatars.models import Agent, Avatar, Voice
from avatars.videos import services
from avatars.videos.choices import JobKind
from avatars.videos.models import VideoJob
from avatars.videos.ordering import plan_video, scene_of
from avatars.videos.serializers import STATES, OrderAgentVideo, OrderVideo, VideoQuery, VideoSerializer
from avatars.videos.spec import Scene
from molts.api import NumberedPages
from molts.errors import BadInput, NotFound
from projects.api import IDEMPOTENCY_PARAMETER, ProjectView
from projects.models import ApiKey, ScopedQuerySet

ORDERED = {202: OpenApiResponse(VideoSerializer, description="Ordered; a worker makes it.")}


class VideoView(ProjectView):
    """Base of the doors to videos."""

    def videos(self) -> ScopedQuerySet[VideoJob]:
        """All videos, with what `VideoSerializer` shows."""
        return VideoJob.objects.filter(kind=JobKind.VIDEO).select_related("agent").prefetch_related("stages")

    def order(self, agent: Agent, asked: Mapping[str, Any]) -> Response:
        """A video that was ordered by this request, or by the one that it repeats."""
        self.require_allowed(agent.project_id)
        body = {**asked, "agent": str(agent.pk)}

        def make() -> uuid.UUID:
            scenes = asked.get("scenes")
            flat = {name: asked[name] for name in ("script", "avatar", "voice") if name in asked}
            planned = [self._scene(agent, scene, f"scenes.{place}.") for place, scene in enumerate(scenes or [])]
            spec = plan_video(
                scenes=planned or [self._scene(agent, flat, "")],
                **{name: asked[name] for name in ("resolution", "aspect", "fps")},
            )
            by = None if isinstance(self.actor, ApiKey) else self.actor.pk
            return services.order_video(
                agent=agent,
                spec=spec,
                title=asked["title"],
                metadata=asked["metadata"],
                callback_url=asked.get("callback_url", ""),
                user_id=by,
            ).pk

        video_id, made = self.run_once(project_id=agent.project_id, operation="videos", body=_as_json(body), make=make)
        headers = {"Location": reverse("api-video", args=[video_id])}
        if not made:
            headers["Idempotent-Replayed"] = "true"
        return Response(VideoSerializer(self.find(self.videos(), video_id)).data, status=202, headers=headers)

    def _scene(self, agent: Agent, asked: Mapping[str, Any], where: str) -> Scene:
        """One scene. Errors name the field with `where` in front."""
        try:
            if "agent" in asked:
                other = find_agent(actor=self.actor, reference=asked["agent"])
                if other.project_id != agent.project_id:
                    raise BadInput("This agent belongs to another project.", attr="agent")
                agent = other
            avatar = self._part(Avatar.objects, agent, asked, "avatar")
            voice = self._part(Voice.objects, agent, asked, "voice")
            return scene_of(agent=agent, script=asked["script"], avatar=avatar, voice=voice)
        except (BadInput, NotFound) as error:
            error.attr = f"{where}{error.attr}"
            raise

    def _part(self, objects: Any, agent: Agent, asked: Mapping[str, Any], name: str) -> Any:
        if name not in asked:
            return None
        found = objects.filter(pk=asked[name], project_id=agent.project_id).first()
        if found is None:
            raise NotFound(f"There is no such {name} in the agent's project.", attr=name)
        return found


def _as_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body as it can be compared: ids as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return str(value) if isinstance(value, uuid.UUID) else value

    return {name: plain(value) for name, value in body.items()}


class VideoList(VideoView):
    error_codes = ("409",)
    pagination_class = NumberedPages

    @extend_schema(
        operation_id="videos_list", tags=["videos"], parameters=[VideoQuery], responses=VideoSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """Your project's videos, the latest first."""
        query = self.read_query(VideoQuery)
        wanted = {"agent": query["agent"]} if "agent" in query else {}
        if "status" in query:
            wanted["state"] = STATES[query["status"]]
        videos = self.videos().for_actor(self.actor).filter(**wanted).order_by(query["ordering"], "pk")
        return self.paginate(videos, lambda page: VideoSerializer(page, many=True).data)

    @extend_schema(
        operation_id="videos_create",
        tags=["videos"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=OrderVideo,
        responses=ORDERED,
    )
    def post(self, request: Request) -> Response:
        """Order a video of an agent. A repeat with the same Idempotency-Key answers the same one."""
        asked = self.read_body(OrderVideo)
        return self.order(find_agent(actor=self.actor, reference=asked["agent"]), asked)


class AgentVideoList(VideoView):
    error_codes = ("409",)

    @extend_schema(
        operation_id="agents_videos_create",
        tags=["videos"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=OrderAgentVideo,
        responses=ORDERED,
    )
    def post(self, request: Request, agent_id: uuid.UUID) -> Response:
        """Order a video of this agent."""
        agent = self.find(Agent.objects.all(), agent_id)
        return self.order(agent, self.read_body(OrderAgentVideo))


class VideoDetail(VideoView):
    @extend_schema(operation_id="videos_get", tags=["videos"], responses=VideoSerializer)
    def get(self, request: Request, video_id: uuid.UUID) -> Response:
        """One video. Each answer has fresh links."""
        return Response(VideoSerializer(self.find(self.videos(), video_id)).data)

    @extend_schema(operation_id="videos_delete", tags=["videos"], request=None, responses={204: None})
    def delete(self, request: Request, video_id: uuid.UUID) -> Response:
        """Delete it with its files. One that is being made is dropped."""
        services.delete_video(job=self.find(self.videos(), video_id))
        return Response(status=204)


class VideoCancel(VideoView):
    @extend_schema(operation_id="videos_cancel", tags=["videos"], request=None, responses={200: VideoSerializer})
    def post(self, request: Request, video_id: uuid.UUID) -> Response:
        """Have it made no more. One that is over stays as it is."""
        services.cancel_video(job=self.find(self.videos(), video_id))
        return Response(VideoSerializer(self.find(self.videos(), video_id)).data)
