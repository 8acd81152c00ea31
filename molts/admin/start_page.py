"""What the admin's first page shows: the next steps to a first conversation, then how conversations go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from avatars.models import Agent, Avatar, Voice
from molts.admin.figures import chosen_range, conversations, figures, in_scope
from molts.admin.frame import CHECK_URL, DOCS_URL
from molts.admin.speech_figures import speech_context
from projects.choices import Action
from projects.models import ProviderKey
from projects.scoped_admin import may_do, my_projects
from sessions.models import RoomLink


@dataclass(frozen=True)
class FirstStep:
    """One thing to do before the first conversation."""

    title: str
    text: str
    done: bool
    url: str = ""  # none for whoever may not do it
    action: str = ""
    optional: bool = False


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Django's context of the first page, with what it shows; the frame names this function."""
    return {**context, **start_page_context(request)}


def start_page_context(request: HttpRequest) -> dict[str, Any]:
    shown: dict[str, Any] = {"docs_url": DOCS_URL, "check_url": CHECK_URL}
    if not may_do(request, Action.VIEW):
        return shown | {"view": "stranger"}
    if not conversations(request).exists():
        steps = next_steps(request)
        waiting = next((step for step in steps if not step.done and not step.optional), None)
        return shown | {"view": "steps", "steps": steps, "next_step": waiting}
    if getattr(request.user, "is_superuser", False):  # it hears the conversations of all projects
        shown |= speech_context()
    return shown | {"view": "figures", **figures(request, chosen_range(request))}


def next_steps(request: HttpRequest) -> list[FirstStep]:
    """From nothing to the first conversation."""
    edit, manage = may_do(request, Action.EDIT), may_do(request, Action.MANAGE)
    link = in_scope(request, RoomLink.objects.filter(revoked_at=None)).order_by("-created_at").first()

    def add(model: str, allowed: bool) -> str:
        return reverse(f"admin:{model}_add") if allowed else ""

    return [
        FirstStep(
            "Make a project",
            "It holds agents, keys, links and conversations, and the people who may see them.",
            bool(my_projects(request)),
            add("projects_project", bool(getattr(request.user, "is_superuser", False))),
            "Make a project",
        ),
        FirstStep(
            "Add a provider key",
            "For a vendor or a server of your own. Without one, agents talk with what runs on this machine.",
            in_scope(request, ProviderKey.objects.all()).exists(),
            add("projects_providerkey", manage),
            "Add a provider key",
            optional=True,
        ),
        FirstStep(
            "Choose a voice",
            "How your agent sounds. Listen to it with a sentence of your own.",
            in_scope(request, Voice.objects.all()).exists(),
            add("avatars_voice", edit),
            "Add a voice",
        ),
        FirstStep(
            "Choose a face",
            "Whom visitors see: a drawn character, or a photo that comes alive. Without one, they see a letter.",
            in_scope(request, Avatar.objects.all()).exists(),
            add("avatars_avatar", edit),
            "Add an avatar",
            optional=True,
        ),
        FirstStep(
            "Make an agent",
            "Who it is, how it speaks and what it knows.",
            in_scope(request, Agent.objects.all()).exists(),
            add("avatars_agent", edit),
            "Make an agent",
        ),
        FirstStep(
            "Make a link",
            "Whoever has it can talk with your agent: no account, nothing to install.",
            link is not None,
            add("live_sessions_roomlink", edit),
            "Make a link",
        ),
        FirstStep(
            "Talk to it",
            "Open the link, allow the microphone and say hello.",
            False,
            link.get_absolute_url() if link else "",
            "Open the link",
        ),
    ]
