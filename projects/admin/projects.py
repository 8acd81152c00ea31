"""Projects with their members."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from projects import services
from projects.admin.members import MemberInline
from projects.choices import Action, MemberRole
from projects.models import Project
from projects.scoped_admin import CHOSEN_PROJECT, ScopedAdmin, ScopedForm, runs_server


class ProjectForm(ScopedForm):
    class Meta:
        model = Project
        fields = ("name", "max_concurrent_sessions")
        labels = {"max_concurrent_sessions": "Conversations at once"}


@admin.register(Project)
class ProjectAdmin(ScopedAdmin):
    form = ProjectForm
    list_display = ("name", "at_once", "created_at")
    search_fields = ("name", "members__user__username")
    search_help_text = "Search in names of projects and members."
    fields = ("name", "max_concurrent_sessions", "created_at")
    readonly_fields = ("created_at",)
    inlines = (MemberInline,)
    change_form_after_template = "admin/projects/project/roles.html"
    empty_text = "A project holds agents, keys, links and conversations, and the people who may see them."
    add_action = None
    change_action = delete_action = Action.MANAGE

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return runs_server(request)

    @admin.display(description="conversations at once", ordering="max_concurrent_sessions")
    def at_once(self, project: Project) -> int:
        return project.max_concurrent_sessions

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if not change and not form.instance.members.exists():
            assert request.user.is_authenticated
            services.add_member(project=form.instance, user=request.user, role=MemberRole.OWNER)

    def response_add(self, request: HttpRequest, obj: Project, post_url_continue: str | None = None) -> HttpResponse:
        """Go where the next steps are: into the new project, and to its checklist."""
        if IS_POPUP_VAR in request.POST:
            return super().response_add(request, obj, post_url_continue)
        request.session[CHOSEN_PROJECT] = str(obj.pk)
        answer = super().response_add(request, obj, post_url_continue)
        stays = {"_continue", "_addanother"} & set(request.POST)
        return answer if stays else redirect("admin:index")
