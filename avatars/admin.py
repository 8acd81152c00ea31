"""Agents with their voices and faces."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from avatars.media import clean_portrait
from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.portraits import portrait_url
from avatars.services import changed_parts, save_agent_revision, validate_rung
from molts.errors import BadInput
from projects.providers import providers_for
from projects.providers.base import Kind
from projects.scoped_admin import (
    ScopedAdmin,
    ScopedForm,
    ScopedRelatedFilter,
    ScopedTabularInline,
    add_form_error,
    refuse_foreign_parts,
)

if TYPE_CHECKING:
    PartFormSetBase = forms.BaseInlineFormSet[Any, Agent, forms.ModelForm[Any]]
else:
    PartFormSetBase = forms.BaseInlineFormSet

SHOWN_REVISIONS = 10
OPTIONS_HELP = 'JSON, for example {"voice": "en-us"}. A wrong name or value is refused with the reason.'


def choices_for(*kinds: Kind) -> Callable[[], list[tuple[str, Any]]]:
    """Providers as choices, grouped by kind when there are several. Asked when a form is shown, not at the start."""

    def choices() -> list[tuple[str, Any]]:
        groups = [(kind.name, [(provider.key, provider.label) for provider in providers_for(kind)]) for kind in kinds]
        return [("", "---------"), *(groups if len(groups) > 1 else groups[0][1])]

    return choices


def check_rung(form: forms.BaseForm, *, project_id: Any, kind: Kind) -> None:
    """Check provider, options and key of a form together, and show what to mend at its field."""
    cleaned = form.cleaned_data
    try:
        validate_rung(
            project_id=project_id,
            kind=kind,
            provider=cleaned["provider"],
            options=cleaned.get("options") or {},
            provider_key=cleaned.get("provider_key"),
        )
    except BadInput as error:
        add_form_error(form, error)


class OptionsField(forms.JSONField):
    """An empty box is no options."""

    widget = forms.Textarea(attrs={"rows": 3, "cols": 40, "spellcheck": "false"})

    def clean(self, value: Any) -> Any:
        return super().clean(value) or {}


class VoiceForm(ScopedForm):
    provider = forms.ChoiceField(choices=choices_for(Kind.TTS))
    options = OptionsField(required=False, help_text=OPTIONS_HELP)

    class Meta:
        model = Voice
        fields = ("project", "name", "provider", "provider_key", "options")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        project = cleaned.get("project")
        project_id = project.pk if project else self.instance.project_id
        if not self.errors and project_id:
            check_rung(self, project_id=project_id, kind=Kind.TTS)
        return cleaned


@admin.register(Voice)
class VoiceAdmin(ScopedAdmin):
    form = VoiceForm
    list_display = ("name", "project", "provider", "provider_key")
    list_select_related = ("project", "provider_key")
    list_filter = (("project", ScopedRelatedFilter), "provider")
    search_fields = ("name", "provider")
    fields = ("project", "name", "provider", "provider_key", "options")

    def save_model(self, request: HttpRequest, obj: Voice, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _save_revisions(request, obj.agents.all())


class AvatarForm(ScopedForm):
    portrait = forms.FileField(
        required=False,
        widget=forms.ClearableFileInput(attrs={"accept": "image/png,image/jpeg,image/webp"}),
        help_text="PNG, JPEG or WebP of at most 10 MB. It is stored as a PNG of at most 1024 pixels a side.",
    )

    class Meta:
        model = Avatar
        fields = ("project", "name", "engine", "portrait")

    def clean_portrait(self) -> Any:
        upload = self.cleaned_data["portrait"]
        if not isinstance(upload, UploadedFile):
            return upload  # kept or cleared
        try:
            return clean_portrait(upload)
        except BadInput as error:
            raise forms.ValidationError(error.detail) from error


@admin.register(Avatar)
class AvatarAdmin(ScopedAdmin):
    form = AvatarForm
    list_display = ("thumbnail", "name", "project", "engine")
    list_display_links = ("thumbnail", "name")
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), "engine")
    search_fields = ("name",)
    fields = ("project", "name", "engine", "portrait", "preview")
    readonly_fields = ("preview",)

    @admin.display(description="portrait")
    def thumbnail(self, avatar: Avatar) -> SafeString | str:
        return _picture(avatar, 48)

    @admin.display(description="preview")
    def preview(self, avatar: Avatar) -> SafeString | str:
        return _picture(avatar, 256)

    def save_model(self, request: HttpRequest, obj: Avatar, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _save_revisions(request, obj.agents.all())


def _picture(avatar: Avatar, height: int) -> SafeString | str:
    url = portrait_url(avatar)
    if url is None:
        return "none"
    return format_html('<img src="{}" height="{}" alt="Portrait of {}">', url, height, avatar.name)


class PartFormSet(PartFormSetBase):
    """Rows of an agent; they may hold objects of its project only."""

    def clean(self) -> None:
        super().clean()
        for form in self.forms:
            if form.is_valid() and form.has_changed() and not form.cleaned_data.get("DELETE"):
                refuse_foreign_parts(form, self.instance.project_id)
                self.check_row(form)

    def check_row(self, form: forms.BaseForm) -> None:
        """Add errors to one changed row."""


class StepFormSet(PartFormSet):
    def check_row(self, form: forms.BaseForm) -> None:
        if not form.errors:
            check_rung(form, project_id=self.instance.project_id, kind=Kind(form.cleaned_data["kind"]))


class StepForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when Django runs
    provider = forms.ChoiceField(choices=choices_for(*Kind))
    options = OptionsField(required=False)

    class Meta:
        model = PipelineStep
        fields = ("kind", "position", "provider", "provider_key", "options")


class StepInline(ScopedTabularInline):
    model = PipelineStep
    form = StepForm
    formset = StepFormSet
    verbose_name = "pipeline step"
    verbose_name_plural = "pipeline: the lowest position serves, the next takes over; without steps it is local"


class AnswerForm(forms.ModelForm):  # type: ignore[type-arg]
    question = forms.CharField(
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 36}),
        help_text="Several wordings: one a line.",
    )
    answer = forms.CharField(widget=forms.Textarea(attrs={"rows": 2, "cols": 48}))

    class Meta:
        model = AgentAnswer
        fields = ("position", "question", "answer")


class AnswerInline(ScopedTabularInline):
    model = AgentAnswer
    form = AnswerForm
    formset = PartFormSet
    verbose_name_plural = "answers: used by the scripted model"


class AgentForm(ScopedForm):
    class Meta:
        model = Agent
        exclude = ()
        widgets = {
            "greeting": forms.Textarea(attrs={"rows": 2, "cols": 80}),
            "instructions": forms.Textarea(attrs={"rows": 8, "cols": 80}),
            "knowledge": forms.Textarea(attrs={"rows": 12, "cols": 80}),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        shortest, longest = cleaned.get("min_endpointing_ms"), cleaned.get("max_endpointing_ms")
        if shortest and longest and longest < shortest:
            self.add_error("max_endpointing_ms", "The longest wait must not be shorter than the shortest.")
        return cleaned


@admin.register(Agent)
class AgentAdmin(ScopedAdmin):
    form = AgentForm
    list_display = ("name", "project", "slug", "language", "voice", "avatar", "updated_at")
    list_select_related = ("project", "voice", "avatar")
    list_filter = (("project", ScopedRelatedFilter), "language")
    search_fields = ("name", "slug", "description")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("talk", "revisions_so_far")
    inlines = (AnswerInline, StepInline)
    fieldsets = (
        (None, {"fields": ("project", "name", "slug", "description", "language", "talk")}),
        ("Persona", {"fields": ("instructions", "greeting", "knowledge")}),
        ("Voice and face", {"fields": ("voice", "avatar")}),
        (
            "Taking turns",
            {
                "classes": ("collapse",),
                "fields": ("end_of_turn_model", "min_endpointing_ms", "max_endpointing_ms", "allow_interruptions"),
            },
        ),
        ("Limits", {"fields": ("max_minutes", "silence_seconds")}),
        ("Revisions", {"fields": ("revisions_so_far",)}),
    )

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Any]:
        # Programs call the agent by its slug: a new name must not change it.
        return {} if obj else dict(self.prepopulated_fields)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        _save_revisions(request, [form.instance])

    @admin.display(description="talk to it")
    def talk(self, agent: Agent) -> SafeString | str:
        if agent._state.adding:
            return "Save first, then add a room link."
        links = [link for link in agent.room_links.filter(revoked_at=None) if not link.is_expired]
        shown = format_html_join(
            ", ", '<a href="{}">Talk to it</a> ({})', ((link.get_absolute_url(), link) for link in links[:5])
        )
        add = f"{reverse('admin:live_sessions_roomlink_add')}?agent={agent.pk}"
        return format_html('{} <a href="{}">Add a room link</a>', shown, add)

    @admin.display(description="last revisions")
    def revisions_so_far(self, agent: Agent) -> SafeString | str:
        last = list(agent.revisions.select_related("created_by")[:SHOWN_REVISIONS])
        if not last:
            return "none yet"
        rows = format_html_join(
            "", '<li><a href="{}">r{}</a> {} {}</li>', ((*_revision_link(revision),) for revision in last)
        )
        every = f"{reverse('admin:avatars_agentrevision_changelist')}?agent__id__exact={agent.pk}"
        return format_html('<ul>{}</ul><a href="{}">All revisions</a>', rows, every)


def _revision_link(revision: AgentRevision) -> tuple[str, int, str, str]:
    url = reverse("admin:avatars_agentrevision_change", args=[revision.pk])
    by = f"by {revision.created_by}" if revision.created_by else ""
    return url, revision.number, f"{revision.created_at:%Y-%m-%d %H:%M} UTC", by


def _save_revisions(request: HttpRequest, agents: Any) -> None:
    assert request.user.is_authenticated
    for agent in agents:
        save_agent_revision(agent=agent, user=request.user)


@admin.register(AgentRevision)
class AgentRevisionAdmin(ScopedAdmin):
    """What an agent was. Nobody changes it: conversations point at it."""

    list_display = ("__str__", "agent", "number", "created_by", "created_at")
    list_select_related = ("agent", "created_by")
    list_filter = (("agent", ScopedRelatedFilter), "created_at")
    search_fields = ("agent__name",)
    fields = ("agent", "number", "created_by", "created_at", "changes", "content")
    readonly_fields = fields
    add_action = change_action = delete_action = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("agent")

    @admin.display(description="changed since the one before")
    def changes(self, revision: AgentRevision) -> str:
        before = AgentRevision.objects.filter(agent_id=revision.agent_id, number__lt=revision.number).first()
        if before is None:
            return "the first"
        return ", ".join(changed_parts(before=before.snapshot, after=revision.snapshot)) or "nothing"

    @admin.display(description="content")
    def content(self, revision: AgentRevision) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(revision.snapshot, indent=2, ensure_ascii=False))
