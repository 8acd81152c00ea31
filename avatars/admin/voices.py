"""Voices, and hearing them before an agent speaks with them."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from avatars.admin.pages import answers_json, as_id, note_revisions, page_media, used_by
from avatars.admin.rungs import RungMixin, option_templates, provider_choices, provider_facts
from avatars.explain import rung_details
from avatars.listening import MAX_TEXT, speak_sample
from avatars.models import Voice
from avatars.services import snapshot_voice
from avatars.throttling import check_listen_rate
from molts.errors import BadInput, NotFound
from projects.choices import Action
from projects.providers import provider_label
from projects.providers.base import Kind
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter, may_do

SAMPLE = "Hello! It is good to hear from you. How can I help you today?"


class VoiceForm(RungMixin, ScopedForm):
    provider = forms.ChoiceField(choices=lambda: provider_choices(Kind.TTS))
    kind = Kind.TTS

    class Meta:
        model = Voice
        fields = ("project", "name", "provider", "provider_key")
        help_texts = {"name": "How agents' editors find it, for example “Anna, warm”."}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        project = cleaned.get("project")
        project_id = project.pk if project else self.instance.project_id
        if project_id:
            self.check_rung(project_id=project_id)
        return cleaned


class ListenForm(VoiceForm):
    """The voice as it stands in the form, saved or not; it needs no name to be heard."""

    name = forms.CharField(required=False)
    text = forms.CharField(max_length=MAX_TEXT * 2, required=False)
    language = forms.CharField(max_length=12, required=False)

    def _post_clean(self) -> None:
        """Nothing of it is stored."""


@admin.register(Voice)
class VoiceAdmin(ScopedAdmin):
    form = VoiceForm
    list_display = ("name", "project", "vendor", "settings", "provider_key", "agents_with_it")
    list_select_related = ("project", "provider_key")
    list_filter = (("project", ScopedRelatedFilter), "provider")
    search_fields = ("name", "provider")
    search_help_text = "Search in names and providers."
    fields = ("project", "name", "provider", "provider_key")
    change_form_template = "admin/avatars/voice/change_form.html"
    empty_text = (
        "A voice is a provider with its settings, to be chosen in agents and heard before. "
        "Until then agents speak with the best voice that this server has."
    )
    warn_unsaved_form = True

    @property
    def media(self) -> forms.Media:
        return super().media + page_media("agents-rungs", "agents-voice")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("agents")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return ("project", "name", "vendor", "settings", "provider_key", "agents_with_it")
        return (*self.fields, "agents_with_it")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), "vendor", "settings", "agents_with_it")

    def get_urls(self) -> list[Any]:
        listen = self.admin_site.admin_view(self.listen)
        saved = path("<uuid:voice_id>/listen/", listen, name="avatars_voice_listen_saved")
        return [saved, path("listen/", listen, name="avatars_voice_listen"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        voice = kwargs.get("obj") or (args[3] if len(args) > 3 else None)
        may_edit = self.has_change_permission(request, voice) if voice else self.has_add_permission(request)
        listen = reverse("admin:avatars_voice_listen_saved", args=[voice.pk]) if voice else ""
        context |= {
            "rung_form": context["adminform"].form if may_edit else None,
            "option_templates": option_templates(Kind.TTS),
            "provider_facts": provider_facts(),
            "listen_url": reverse("admin:avatars_voice_listen") if may_edit else listen,
            "sample": SAMPLE,
            "max_text": MAX_TEXT,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Voice, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        note_revisions(request, obj.agents.all())

    @method_decorator(require_POST)
    @method_decorator(answers_json)
    def listen(self, request: HttpRequest, voice_id: uuid.UUID | None = None) -> HttpResponse:
        """A WAV file of the posted text: by a saved voice, or by the posted settings, for whoever may save them."""
        form = ListenForm(request.POST)
        if voice_id is not None:
            voice = Voice.objects.for_actor(request.user).filter(pk=voice_id).first()
            if voice is None:
                raise NotFound("There is no such voice.")
        else:
            voice = self._posted_voice(request, form)
        check_listen_rate(request)
        wav = speak_sample(
            provider=voice.provider,
            options=voice.options,
            provider_key=voice.provider_key,
            text=request.POST.get("text", ""),
            language=request.POST.get("language", "")[:12] or "en",
        )
        return HttpResponse(wav, content_type="audio/wav", headers={"Cache-Control": "no-store"})

    def _posted_voice(self, request: HttpRequest, form: ListenForm) -> Voice:
        """Raises BadInput with what to mend at the form's fields."""
        if not may_do(request, Action.EDIT):
            raise PermissionDenied
        asked = as_id(request.POST.get("voice"))
        mine = Voice.objects.for_actor(request.user, Action.EDIT)
        saved = mine.filter(pk=asked).first() if asked else None
        form.instance.project_id = saved.project_id if saved else None
        for name in ("project", "provider_key"):
            field = form.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = field.queryset.for_actor(request.user, Action.EDIT)  # type: ignore[union-attr]
        if saved:
            del form.fields["project"]
        if not form.is_valid():
            raise BadInput(" ".join(_in_words(form, name, errors[0]) for name, errors in form.errors.as_data().items()))
        return Voice(
            provider=form.cleaned_data["provider"],
            options=form.chosen_options(),
            provider_key=form.cleaned_data["provider_key"],
        )

    @admin.display(description="provider", ordering="provider")
    def vendor(self, voice: Voice) -> str:
        return provider_label(voice.provider)

    @admin.display(description="settings")
    def settings(self, voice: Voice) -> str:
        rung = snapshot_voice(voice).rung.model_copy(update={"provider_key": None})  # it has a column of its own
        return rung_details(Kind.TTS, rung, {}) or "the provider's usual ones"

    @admin.display(description="used by")
    def agents_with_it(self, voice: Voice) -> SafeString | str:
        return used_by(voice.agents.all())


def _in_words(form: forms.BaseForm, name: str, error: ValidationError) -> str:
    """Django's own errors ("This field is required.") need the field's name; those of the provider say what they are
    about, which may be elsewhere than at the field that they are shown at."""
    text = " ".join(error.messages)
    return f"{form[name].label}: {text}" if error.code and name in form.fields else text
