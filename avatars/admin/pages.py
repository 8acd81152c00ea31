"""What the pages of agents, voices and faces share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from django.contrib import messages
from django.core.validators import MaxLengthValidator
from django.forms import Media, Script
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from avatars.models import Agent, Avatar
from avatars.portraits import moving_character_url, portrait_url
from avatars.services import save_agent_revision
from molts.api import error_body
from molts.errors import MoltsError


def page_media(*scripts: str) -> Media:
    """Our style and the named scripts of static/src/admin."""
    files: list[Any] = [Script(f"src/admin/{name}.js", type="module") for name in scripts]
    return Media(css={"all": ("src/admin/agents.css",)}, js=files)


def picture(avatar: Avatar | None, *, name: str, size: str = "small") -> SafeString:
    """The portrait, or the first letter of `name` in its place."""
    url = portrait_url(avatar)
    if url is None:
        return format_html(
            '<span class="m-face m-face-{} m-initial" aria-hidden="true">{}</span>', size, name[:1].upper()
        )
    return format_html('<img src="{}" class="m-face m-face-{}" alt="Portrait of {}">', url, size, avatar or name)


def clip_url(avatar: Avatar) -> str:
    """Where the kept preview is played from; "" without one. Another clip has another address: browsers keep them."""
    if not avatar.preview:
        return ""
    return f"{reverse('admin:avatars_avatar_clip', args=[avatar.pk])}?{Path(avatar.preview.name or '').stem}"


def moving_url(avatar: Avatar) -> str:
    """The kept preview, else the silent clip of a character; "" where there is neither."""
    return clip_url(avatar) or moving_character_url(avatar) or ""


def agent_url(agent: Agent) -> str:
    return reverse("admin:avatars_agent_change", args=[agent.pk])


def used_by(agents: Iterable[Agent]) -> SafeString | str:
    """Links to the agents that have a voice or face."""
    links = format_html_join(
        ", ", '<a class="m-link" href="{}">{}</a>', ((agent_url(agent), agent.name) for agent in agents)
    )
    return format_html("<span>{}</span>", links) if links else "No agent yet. Choose it in an agent under “Who it is”."


def at_most(limit: int) -> MaxLengthValidator:
    """For long texts. The page does not cut what is pasted: an error says that it is too long."""
    return MaxLengthValidator(limit, f"Shorten this to {limit:,} characters; it has %(show_value)d.")


def ago(moment: Any) -> str:
    """ "2 minutes ago"."""
    return "just now" if (timezone.now() - moment).total_seconds() < 60 else f"{timesince(moment, depth=1)} ago"


def as_id(value: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(value or "")
    except ValueError:
        return None


def save_revisions(request: HttpRequest, agents: Iterable[Agent]) -> None:
    """Keep what a change made of these agents."""
    assert request.user.is_authenticated
    for agent in agents:
        save_agent_revision(agent=agent, user=request.user)


def note_revisions(request: HttpRequest, agents: Iterable[Agent]) -> None:
    """As `save_revisions`, and say which agents a change of a part reached."""
    reached = list(agents)
    save_revisions(request, reached)
    if reached:
        messages.info(request, f"Used from the next conversation on by: {', '.join(agent.name for agent in reached)}.")


def answers_json(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Errors of ours become the one JSON shape."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(*args, **kwargs)
        except MoltsError as error:
            return JsonResponse(error_body(error), status=error.http_status)

    return wrapped
