"""Avatars: the faces of agents, with what moves them."""

from __future__ import annotations

import io
import re
import uuid
from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST
from PIL import Image

from avatars.admin.face_forms import AvatarForm, PreviewForm, engine_options
from avatars.admin.pages import (
    ago,
    answers_json,
    as_id,
    clip_url,
    moving_url,
    note_revisions,
    page_media,
    picture,
    used_by,
)
from avatars.admin.serving import EngineRow, avatar_workers, engine_row, hosted_rows
from avatars.explain import key_names
from avatars.faces import (
    FaceChoice,
    describe_face,
    engine_label,
    face_choices,
    face_details,
    make_face,
    resolve_face,
    restore_version,
    save_avatar_version,
)
from avatars.listening import MAX_TEXT
from avatars.media import clean_portrait
from avatars.models import Agent, Avatar, AvatarVersion
from avatars.portraits import picture_url
from avatars.revisions import Change
from avatars.services import resolve_pipeline, snapshot_agent, snapshot_avatar
from avatars.snapshots import Rung
from avatars.throttling import check_preview_rate
from avatars.videos.previews import preview_clip, preview_is_current, preview_state, start_preview
from molts.errors import BadInput, MoltsError, NotFound
from projects.audit import record_action
from projects.choices import Action
from projects.models import ProviderKey
from projects.providers.base import Kind
from projects.scoped_admin import ScopedAdmin, ScopedRelatedFilter, may_do

SAMPLE = "Hello! It is good to see you. How can I help you today?"
SHOWN_VERSIONS = 20


class EngineFilter(admin.SimpleListFilter):
    title = "engine"
    parameter_name = "engine"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        used = model_admin.get_queryset(request).order_by("engine").values_list("engine", flat=True).distinct()
        return [(key, engine_label(key)) for key in used]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(engine=self.value()) if self.value() else queryset


class AvatarAdmin(ScopedAdmin):
    """Registered by `sessions/admin/avatars.py`, where conversations are known."""

    form = AvatarForm
    list_display = ("face", "project", "engine_name", "agents_with_it", "changed")
    list_display_links = None
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), EngineFilter)
    search_fields = ("name",)
    search_help_text = "Search in names."
    fieldsets = (
        ("who", {"classes": ("tab",), "fields": ("project", "name")}),
        ("face", {"classes": ("tab",), "fields": ("engine", "provider_key", "portrait")}),
    )
    change_form_template = "admin/avatars/avatar/change_form.html"
    list_after_template = "admin/avatars/avatar/engines.html"
    empty_text = "An avatar is whom visitors see while they talk: a drawn character, or a portrait that comes alive."

    @property
    def media(self) -> forms.Media:
        return super().media + page_media("avatars-clips", "avatars")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("agents")

    # -- The list -----------------------------------------------------------------------------------------------------
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        choices, workers = choices_of(request), avatar_workers()
        rows = request.__dict__["_molts_engines"] = {choice.key: engine_row(choice, workers) for choice in choices}
        engines = [row for row in rows.values() if row.choice.renders]
        context = {
            "engines": engines,
            "engines_off": sum(not row.choice.health.ready for row in engines),
            "hosted": hosted_rows(request, choices),
            "workers": workers,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        known = request.__dict__.get("_molts_engines", {})
        for avatar in changes.result_list:
            avatar.engine_row = known.get(avatar.engine)  # for the column of engines
        return changes

    @admin.display(description="avatar", ordering="name")
    def face(self, avatar: Avatar) -> SafeString:
        return format_html(
            '<a class="m-agent m-avatar" href="{}"{}>{}<span><b>{}</b></span></a>',
            reverse("admin:avatars_avatar_change", args=[avatar.pk]),
            clip_attribute(avatar),
            picture(avatar, name=avatar.name, size="medium"),
            avatar.name,
        )

    @admin.display(description="engine", ordering="engine")
    def engine_name(self, avatar: Any) -> SafeString | str:
        row: EngineRow | None = avatar.engine_row
        if row is None:
            return format_html(
                '<span>{} <span class="m-tag m-skipped">not on this server</span></span>', engine_label(avatar.engine)
            )
        return format_html("<span>{} {}</span>", row.choice.label, state_chip(row))

    @admin.display(description="used by")
    def agents_with_it(self, avatar: Avatar) -> SafeString | str:
        return used_by(avatar.agents.all())

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, avatar: Avatar) -> str:
        return ago(avatar.updated_at)

    # -- The editor ---------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        def door(view: Any) -> Any:
            return self.admin_site.admin_view(view)

        return [
            path("preview/", door(self.preview), name="avatars_avatar_preview"),
            path("preview/<str:ticket>/", door(self.preview_news), name="avatars_avatar_preview_news"),
            path("preview/<str:ticket>/clip/", door(self.preview_clip), name="avatars_avatar_preview_clip"),
            path("check/", door(self.check_picture), name="avatars_avatar_check"),
            path("marks/", door(self.marks), name="avatars_avatar_marks"),
            path("<uuid:avatar_id>/clip/", door(self.stored_clip), name="avatars_avatar_clip"),
            path("<uuid:avatar_id>/versions/<int:number>/restore/", door(self.restore), name="avatars_avatar_restore"),
            *super().get_urls(),
        ]

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        if request.method == "POST":
            self._check_before(request, object_id)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _check_before(self, request: HttpRequest, object_id: str | None) -> None:
        """Do what takes seconds before the page's transaction, in which nobody else can write: decode the picture, look
        for its face, ask engines how they are. What came of it is remembered, so the page finds it done."""
        avatar = self.get_object(request, unquote(object_id)) if object_id else None
        allowed = self.has_change_permission(request, avatar) if avatar else self.has_add_permission(request)
        if not allowed:
            return  # the page says so
        fields = flatten_fieldsets(self.get_fieldsets(request, avatar))
        made = self.get_form(request, avatar, change=avatar is not None, fields=fields)
        if not made(request.POST, request.FILES, instance=avatar).is_valid():
            choices_of(request)  # the form is shown again

    def save_model(self, request: HttpRequest, obj: Avatar, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        assert request.user.is_authenticated
        save_avatar_version(avatar=obj, user=request.user)
        note_revisions(request, obj.agents.all())

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        form = context["adminform"].form
        may_edit = self.has_change_permission(request, obj) if obj else True
        choices = choices_of(request)
        now = str(form["engine"].value()) if may_edit else obj.engine
        context |= {
            "who": next(iter(context["adminform"])),
            "face_form": form if may_edit else None,
            "may_edit": may_edit,
            "choices": [choice for choice in choices if _in_sight(choice, now)],
            "more_choices": [choice for choice in choices if not _in_sight(choice, now)],
            "chosen": now,
            "face_facts": {choice.key: _facts(choice) for choice in choices},
            "option_templates": [(choice.key, engine_options(choice.key)) for choice in choices] if may_edit else [],
            "picture": picture(obj, name=obj.name if obj else "?", size="large"),
            "picture_url": obj.portrait.url if obj and obj.portrait else "",
            "preview_url": reverse("admin:avatars_avatar_preview"),
            "check_url": reverse("admin:avatars_avatar_check"),
            "marks_url": reverse("admin:avatars_avatar_marks"),
            "sample": SAMPLE,
            "max_text": MAX_TEXT,
            **(self._saved_context(obj) if obj else {}),
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _saved_context(self, avatar: Avatar) -> dict[str, Any]:
        names = key_names(project_id=avatar.project_id)
        versions = list(avatar.versions.select_related("created_by")[: SHOWN_VERSIONS + 1])
        before: list[AvatarVersion | None] = [*versions[1:], None]
        return {
            "agents": self.agents_with_it(avatar),
            "speakers": avatar.agents.all(),
            "description": describe_face(snapshot_avatar(avatar), names),
            "clip_url": clip_url(avatar),
            "clip_is_current": _clip_is_current(avatar),
            "versions": [
                {
                    "version": version,
                    "ago": ago(version.created_at),
                    "picture": picture_url(version.avatar_snapshot),
                    "changes": version_changes(earlier, version, names) if earlier else (),
                    "is_first": earlier is None,
                    "is_newest": version is versions[0],
                }
                for version, earlier in list(zip(versions, before, strict=False))[:SHOWN_VERSIONS]
            ],
        }

    @method_decorator(require_POST)
    def restore(self, request: HttpRequest, avatar_id: uuid.UUID, number: int) -> HttpResponse:
        avatar = self.get_object(request, str(avatar_id))
        if not self.has_change_permission(request, avatar):
            raise PermissionDenied
        assert request.user.is_authenticated
        version = avatar.versions.filter(number=number).first()
        url = f"{reverse('admin:avatars_avatar_change', args=[avatar.pk])}#versions"
        if version is None:
            raise PermissionDenied
        try:
            made = restore_version(version=version, user=request.user)
        except MoltsError as error:
            messages.error(request, f"v{number} cannot be restored. {error.detail}")
            return HttpResponseRedirect(url)
        record_action(request_user=request.user, obj=avatar, text=f"Restored v{number} as v{made.number}.")
        messages.success(request, f"{avatar.name} is as in v{number} again. It is saved as v{made.number}.")
        note_revisions(request, avatar.agents.all())
        return HttpResponseRedirect(url)

    # -- Clips --------------------------------------------------------------------------------------------------------
    @method_decorator(require_POST)
    @method_decorator(answers_json)
    def preview(self, request: HttpRequest) -> HttpResponse:
        """Begin a clip of the posted face, saved or not; answers with where to ask for news of it.

        `keep`: the clip becomes the preview of the avatar, which must be saved as it is posted.
        """
        form = self._posted(request, needs_project=False)
        if not form.choice_renders:
            raise BadInput("This avatar is not rendered here, so there is nothing to preview.", attr="engine")
        check_preview_rate(request)
        voice, language = _voice_of(request)
        text = " ".join(request.POST.get("text", "").split()) or SAMPLE
        if len(text) > MAX_TEXT:
            raise BadInput(f"The text is too long: at most {MAX_TEXT} characters.", attr="text")
        keep = bool(request.POST.get("keep"))
        with form.portrait_file() as portrait:
            face = make_face(engine=form.cleaned_data["engine"], options=form.chosen_options(), portrait=portrait)
            if keep and not _is_saved_as(form.instance, face.key):
                raise BadInput("Save your changes first: the preview shows the avatar as it is saved.")
            ticket = start_preview(
                user_id=_user_id(request),
                engine=form.cleaned_data["engine"],
                face=face,
                text=text,
                language=language,
                voice=voice,
                keep_for=form.instance.pk if keep else None,
                project_id=form.instance.project_id,
            )
        return JsonResponse({"news": reverse("admin:avatars_avatar_preview_news", args=[ticket])}, status=202)

    def _posted(self, request: HttpRequest, *, needs_project: bool = True) -> PreviewForm:
        """The posted face, checked. Raises BadInput with what to mend, `attr` being the form's field."""
        if not may_do(request, Action.EDIT):
            raise PermissionDenied
        asked = as_id(request.POST.get("avatar"))
        mine = Avatar.objects.for_actor(request.user, Action.EDIT)
        saved = mine.filter(pk=asked).first() if asked else None
        form = PreviewForm(request.POST, request.FILES, instance=saved)
        for name in ("project", "provider_key"):
            field = form.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = field.queryset.for_actor(request.user, Action.EDIT)  # type: ignore[union-attr]
        if saved:
            del form.fields["project"]
        elif not needs_project:
            form.fields["project"].required = False  # a face can be looked at before it is said whose it will be
        if not form.is_valid():
            name, texts = next(iter(form.errors.items()))
            raise BadInput(str(texts[0]), attr=name)
        return form

    @method_decorator(require_POST)
    @method_decorator(answers_json)
    def check_picture(self, request: HttpRequest) -> HttpResponse:
        """Whether the posted face could be saved; asked before a picture is sent to be saved, since a browser does not
        keep the picture of a form that is refused."""
        check_preview_rate(request)
        self._posted(request)
        return JsonResponse({})

    @method_decorator(require_GET)
    @method_decorator(answers_json)
    def preview_news(self, request: HttpRequest, ticket: str) -> HttpResponse:
        state = preview_state(user_id=_user_id(request), ticket=ticket[:40])
        clip = reverse("admin:avatars_avatar_preview_clip", args=[ticket]) if state.state == "done" else ""
        return JsonResponse(asdict(state) | {"clip": clip}, headers={"Cache-Control": "no-store"})

    @method_decorator(require_GET)
    @method_decorator(answers_json)
    def preview_clip(self, request: HttpRequest, ticket: str) -> HttpResponse:
        clip, media_type = preview_clip(user_id=_user_id(request), ticket=ticket[:40])
        return clip_response(request, clip, media_type)

    @method_decorator(require_GET)
    @method_decorator(answers_json)
    def stored_clip(self, request: HttpRequest, avatar_id: uuid.UUID) -> HttpResponseBase:
        """The avatar's preview, for whoever may see the avatar."""
        avatar = self.get_object(request, str(avatar_id))
        if not self.has_view_permission(request, avatar):
            raise PermissionDenied
        if not avatar.preview or not avatar.preview.storage.exists(avatar.preview.name):
            raise NotFound("No preview was rendered yet.")
        kind = "video/webm" if avatar.preview.name.endswith(".webm") else "video/mp4"
        with avatar.preview.open() as file:
            return clip_response(request, file.read(), kind)

    @method_decorator(require_POST)
    @method_decorator(answers_json)
    def marks(self, request: HttpRequest) -> HttpResponse:
        """Where the face is in the posted picture, else in the saved one: points in fractions of it."""
        if not may_do(request, Action.EDIT):
            raise PermissionDenied
        check_preview_rate(request)
        upload = request.FILES.get("portrait")
        if upload is not None:
            data = clean_portrait(upload).read()
        else:
            asked = as_id(request.POST.get("avatar"))
            saved = Avatar.objects.for_actor(request.user).filter(pk=asked).first() if asked else None
            face = resolve_face(snapshot_avatar(saved)) if saved else None
            if face is None or face.portrait is None:
                raise BadInput("Choose a picture first.", attr="portrait")
            data = face.portrait.read_bytes()
        return JsonResponse(find_marks(data))


# -- Parts ------------------------------------------------------------------------------------------------------------
def clip_response(request: HttpRequest, clip: bytes, media_type: str) -> HttpResponse:
    """The clip, or the part of it that is asked for: Safari plays nothing from a server that knows no ranges."""
    headers = {"Cache-Control": "private, max-age=600", "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", request.headers.get("Range", ""))
    if asked is None:
        return HttpResponse(clip, content_type=media_type, headers=headers)
    first, last = int(asked[1]), min(int(asked[2] or len(clip)), len(clip) - 1)
    if first > last:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{len(clip)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(clip)}"
    return HttpResponse(clip[first : last + 1], status=206, content_type=media_type, headers=headers)


def find_marks(data: bytes) -> dict[str, Any]:
    """The marks of the one face in a picture, each point [x, y] in fractions. Raises BadInput as `find_face` does."""
    from avatars.engines.faces.marks import find_face  # OpenCV is loaded when it is needed

    with Image.open(io.BytesIO(data)) as image:
        import numpy as np  # heavy, as what finds faces is

        found = find_face(np.asarray(image.convert("RGB")))
    return asdict(found)


def choices_of(request: HttpRequest) -> list[FaceChoice]:
    """What faces can be, asked for once in a request."""
    if "_molts_faces" not in request.__dict__:
        request.__dict__["_molts_faces"] = face_choices()
    found: list[FaceChoice] = request.__dict__["_molts_faces"]
    return found


def state_chip(row: EngineRow) -> SafeString:
    if row.choice.hosted or not row.choice.renders:
        return SafeString("")
    return format_html('<span class="m-tag {}">{}</span>', "m-serves" if row.serves else "m-skipped", row.state)


def clip_attribute(avatar: Avatar) -> SafeString:
    """Names the clip that the picture inside plays when it is pointed at."""
    url = moving_url(avatar)
    return format_html(' data-clip="{}"', url) if url else SafeString("")


def version_changes(before: AvatarVersion, after: AvatarVersion, names: dict[str, str]) -> list[Change]:
    then, now = before.avatar_snapshot, after.avatar_snapshot
    old, new = face_details(then, names), face_details(now, names)
    labels = {**old, **new}
    changes = [
        Change(label, old.get(label, ""), new.get(label, ""))
        for label in labels
        if old.get(label, "") != new.get(label, "")
    ]
    if not changes and then.portrait != now.portrait:
        changes = [Change("Picture", "the one before", "another one")]
    return changes


def _in_sight(choice: FaceChoice, chosen: str) -> bool:
    """What can be used at once stands first; the rest is a click away."""
    return choice.key == chosen or (choice.health.ready and not choice.hosted)


def _facts(choice: FaceChoice) -> dict[str, Any]:
    """What the page's script must know of an engine."""
    return {
        "label": choice.label,
        "hosted": choice.hosted,
        "needsPortrait": choice.needs_portrait,
        "takesPortrait": choice.takes_portrait,
        "renders": choice.renders,
        "ready": choice.health.ready,
    }


def _clip_is_current(avatar: Avatar) -> bool:
    try:
        return preview_is_current(avatar, resolve_face(snapshot_avatar(avatar)))
    except BadInput:  # its picture is gone; the field says so
        return False


def _is_saved_as(avatar: Avatar, key: str) -> bool:
    if avatar._state.adding:
        return False
    return resolve_face(snapshot_avatar(Avatar.objects.get(pk=avatar.pk))).key == key


def _voice_of(request: HttpRequest) -> tuple[tuple[Rung, ProviderKey | None] | None, str]:
    """The voice and language of the agent that shall be heard; (None, "en") is this server's usual voice."""
    asked = as_id(request.POST.get("agent"))
    agent = Agent.objects.for_actor(request.user, Action.EDIT).filter(pk=asked).first() if asked else None
    if agent is None or agent.voice is None:
        return None, agent.language if agent else "en"
    rung = resolve_pipeline(snapshot=snapshot_agent(agent))[Kind.TTS][0]
    if rung.provider_key is None:
        return (rung, None), agent.language
    key = ProviderKey.objects.filter(pk=rung.provider_key, project_id=agent.project_id).first()
    return (rung, key), agent.language


def _user_id(request: HttpRequest) -> int:
    assert request.user.is_authenticated
    return int(request.user.pk)
