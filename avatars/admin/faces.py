"""Avatars: the faces of agents."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminImageFieldWidget

from avatars.admin.pages import note_revisions, page_media, picture, used_by
from avatars.media import clean_portrait
from avatars.models import Agent, Avatar
from molts.errors import BadInput
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter


class AvatarForm(ScopedForm):
    portrait = forms.FileField(
        required=False,
        widget=UnfoldAdminImageFieldWidget(attrs={"accept": "image/png,image/jpeg,image/webp"}),
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
    list_display = ("thumbnail", "name", "project", "engine", "agents_with_it")
    list_display_links = ("thumbnail", "name")
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), "engine")
    search_fields = ("name",)
    fields = ("project", "name", "engine", "portrait", "preview", "agents_with_it")
    readonly_fields = ("preview", "agents_with_it")
    empty_text = (
        "An avatar is the face that visitors see while they talk: upload a portrait, then choose it in an agent."
    )
    warn_unsaved_form = True

    @property
    def media(self) -> forms.Media:
        return super().media + page_media("agents-face")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("agents")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else [name for name in self.fields if name != "agents_with_it"]

    @admin.display(description="portrait")
    def thumbnail(self, avatar: Avatar) -> SafeString:
        return picture(avatar, name=avatar.name)

    @admin.display(description="preview")
    def preview(self, avatar: Avatar) -> SafeString:
        return picture(avatar, name=avatar.name or "?", size="large")

    @admin.display(description="used by")
    def agents_with_it(self, avatar: Avatar) -> SafeString | str:
        return used_by(avatar.agents.all(), _agent_url)

    def save_model(self, request: HttpRequest, obj: Avatar, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        note_revisions(request, obj.agents.all())


def _agent_url(agent: Agent) -> str:
    return reverse("admin:avatars_agent_change", args=[agent.pk])
