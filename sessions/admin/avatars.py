"""The pages of avatars, with what becomes of agents and conversations when one is deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from avatars.admin.faces import AvatarAdmin
from avatars.admin.pages import agent_url
from avatars.models import Agent, Avatar


@admin.register(Avatar)
class LiveAvatarAdmin(AvatarAdmin):
    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """Agents stay without the face, so they are named first."""
        avatars = list(objs)
        to_delete, counts, refused, protected = super().get_deleted_objects(avatars, request)
        running = Count("live_sessions", filter=Q(live_sessions__ended_at=None))
        agents = Agent.objects.filter(avatar__in=avatars).select_related("avatar").annotate(running=running)
        return [*map(_loses_face, agents), *to_delete], counts, refused, protected


def _loses_face(agent: Any) -> SafeString:
    """What becomes of an agent, with its number of `running` conversations, when its avatar is deleted."""
    return format_html(
        '<a class="m-link" href="{}">{}</a> loses the face {}; from the next conversation on its first letter is '
        "shown.{}",
        agent_url(agent),
        agent.name,
        agent.avatar,
        f" Conversations that are running keep it: {agent.running}." if agent.running else "",
    )
