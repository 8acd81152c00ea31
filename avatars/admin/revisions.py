"""What an agent was: every saved change, what it changed, and the way back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import Media
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString, mark_safe

from avatars.admin.pages import ago, page_media
from avatars.explain import key_names
from avatars.models import Agent, AgentRevision
from avatars.revisions import Change, compare_snapshots, describe_snapshot, roll_back
from avatars.services import snapshot_agent
from molts.errors import BadInput
from projects.audit import record_action
from projects.choices import Action
from projects.scoped_admin import ScopedAdmin, ScopedRelatedFilter, may_do


def changes_of(revision: AgentRevision, before: AgentRevision | None) -> list[Change]:
    if before is None:
        return []
    names = key_names(project_id=revision.agent.project_id)
    return compare_snapshots(before=before.agent_snapshot, after=revision.agent_snapshot, names=names)


def difference(changes: list[Change]) -> SafeString:
    """The table of old and new."""
    return mark_safe(render_to_string("admin/avatars/difference.html", {"changes": changes}))  # noqa: S308  # a template


def previous(revision: AgentRevision) -> AgentRevision | None:
    return AgentRevision.objects.filter(agent_id=revision.agent_id, number__lt=revision.number).first()


def may_roll_back(request: HttpRequest, agent: Agent) -> bool:
    return may_do(request, Action.EDIT, agent.project_id)


@admin.register(AgentRevision)
class AgentRevisionAdmin(ScopedAdmin):
    """Nobody changes a revision: conversations point at it. Going back to one makes a new one."""

    list_display = ("__str__", "agent", "number", "created_by", "created_at")
    list_select_related = ("agent", "created_by")
    list_filter = (("agent", ScopedRelatedFilter), "created_at")
    search_fields = ("agent__name",)
    search_help_text = "Search in names of agents."
    fields = ("agent", "number", "created_by", "created_at", "changes", "content")
    readonly_fields = fields
    empty_text = "Every saved change of an agent is kept here, to compare and to go back to."
    empty_link = ("Make an agent", "admin:avatars_agent_add")
    add_action = change_action = delete_action = None
    change_form_template = "admin/avatars/agentrevision/change_form.html"

    @property
    def media(self) -> Media:
        return super().media + page_media()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("agent")

    def get_urls(self) -> list[Any]:
        page = self.admin_site.admin_view(self.roll_back_page)
        return [path("<path:object_id>/roll-back/", page, name="avatars_agentrevision_roll_back"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        revision = kwargs["obj"] if "obj" in kwargs else args[3]
        newest = revision.agent.revisions.values_list("number", flat=True).first()
        context |= {
            "agent_url": reverse("admin:avatars_agent_change", args=[revision.agent_id]),
            "is_newest": newest == revision.number,
            "roll_back_url": reverse("admin:avatars_agentrevision_roll_back", args=[revision.pk])
            if may_roll_back(request, revision.agent) and newest != revision.number
            else "",
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="changed since the one before")
    def changes(self, revision: AgentRevision) -> SafeString | str:
        before = previous(revision)
        return difference(changes_of(revision, before)) if before else "the first revision"

    @admin.display(description="content")
    def content(self, revision: AgentRevision) -> SafeString:
        names = key_names(project_id=revision.agent.project_id)
        described = describe_snapshot(snapshot=revision.agent_snapshot, names=names)
        return mark_safe(render_to_string("admin/avatars/snapshot.html", {"parts": described}))  # noqa: S308

    def roll_back_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET asks, with what would change; POST does it."""
        revision = self.get_object(request, object_id)
        agent = revision.agent
        if not may_roll_back(request, agent):
            raise PermissionDenied
        agent_url = reverse("admin:avatars_agent_change", args=[agent.pk])
        problem = ""
        if request.method == "POST":
            assert request.user.is_authenticated
            try:
                made = roll_back(revision=revision, user=request.user)
            except BadInput as error:
                problem = error.detail
            else:
                text = f"Rolled back to r{revision.number} as r{made.number}."
                record_action(request_user=request.user, obj=agent, text=text)
                messages.success(
                    request, f"{agent.name} is as in r{revision.number} again. It is saved as r{made.number}."
                )
                return HttpResponseRedirect(f"{agent_url}#revisions")
        names = key_names(project_id=agent.project_id)
        changes = compare_snapshots(before=snapshot_agent(agent), after=revision.agent_snapshot, names=names)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Roll {agent.name} back to r{revision.number}?",
            "opts": self.opts,
            "object": revision,
            "show_back_button": True,
            "media": self.media,
            "revision": revision,
            "agent": agent,
            "saved": ago(revision.created_at),
            "changes": changes,
            "problem": problem,
            "cancel_url": f"{agent_url}#revisions",
        }
        return TemplateResponse(
            request, "admin/avatars/agentrevision/roll_back.html", context, status=409 if problem else 200
        )
