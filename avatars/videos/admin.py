"""The admin's pages of videos: order one, see how far it is, watch it, stop it, make it again."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from avatars.admin.pages import as_id, at_most, page_media
from avatars.models import Agent, Avatar, Voice
from avatars.videos import services
from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from avatars.videos.links import path_of, signed_link, video_links
from avatars.videos.models import VideoJob
from avatars.videos.ordering import MAX_SCRIPT, plan_video, scene_of
from avatars.videos.spec import ASPECTS, RESOLUTIONS, VideoSpec
from molts.errors import Busy, MoltsError
from projects.admin_cells import chip, moment
from projects.audit import record_action
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter, add_form_error

TONES = {
    JobState.QUEUED: "quiet",
    JobState.RUNNING: "busy",
    JobState.DONE: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "quiet",
}
ASPECT_NAMES = {"1:1": "Square", "16:9": "Wide", "9:16": "Upright, for phones", "4:5": "Portrait", "5:4": "Landscape"}
STYLES = ("src/admin/talks.css", "src/admin/videos.css")
LONGEST_NAME = 60
MOST_FOLLOWED = 100
"""Videos of a list whose progress is asked for at once."""


class NewVideoForm(ScopedForm):
    """Who says what, and how large the picture is."""

    script = forms.CharField(
        widget=UnfoldAdminTextareaWidget({"rows": 8}),
        validators=[at_most(MAX_SCRIPT)],
        help_text='What is said, word for word. <code>&lt;break time="1.5s"/&gt;</code> is a pause.',
    )
    avatar = forms.ModelChoiceField(
        Avatar.objects.none(), required=False, empty_label="The agent's own", help_text="Whose face is seen."
    )
    voice = forms.ModelChoiceField(
        Voice.objects.none(), required=False, empty_label="The agent's own", help_text="Who is heard."
    )
    resolution = forms.ChoiceField(
        choices=[(name, f"{name} ({pixels} pixels on the shorter side)") for name, pixels in RESOLUTIONS.items()],
        initial="720p",
    )
    aspect = forms.ChoiceField(
        choices=[(aspect, f"{aspect} ({ASPECT_NAMES[aspect]})") for aspect in ASPECTS], initial="16:9", label="Shape"
    )

    class Meta:
        model = VideoJob
        fields = ("agent", "title")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"].required = True
        self.fields["title"].help_text = "For you and the name of the file. None: the first words of the script."
        self.spec: VideoSpec | None = None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        agent, script = cleaned.get("agent"), cleaned.get("script")
        if agent is None or not script:
            return cleaned
        avatar, voice = self.cleaned_data.get("avatar"), self.cleaned_data.get("voice")
        for name, part in (("avatar", avatar), ("voice", voice)):
            if part is not None and part.project_id != agent.project_id:
                self.add_error(name, "This belongs to another project than the agent.")
        if not self.errors:
            self._plan(agent, script, avatar, voice)
        if not self.errors:
            self._find_room(agent)
        return cleaned

    def _find_room(self, agent: Agent) -> None:
        try:
            services.check_room(project_id=agent.project_id)
        except Busy as error:
            add_form_error(self, error)

    def _plan(self, agent: Agent, script: str, avatar: Avatar | None, voice: Voice | None) -> None:
        """What is to be made of it; errors stand at the fields that they are about."""
        try:
            scene = scene_of(agent=agent, script=script, avatar=avatar, voice=voice)
            size = {name: self.cleaned_data[name] for name in ("resolution", "aspect")}
            self.spec = plan_video(scenes=[scene], **size)
        except MoltsError as error:
            add_form_error(self, error)


@admin.register(VideoJob)
class VideoAdmin(ScopedAdmin):
    form = NewVideoForm
    owner_field = "agent"
    change_action = None  # what was ordered is what is made
    list_display = ("still", "__str__", "agent", "progress_shown", "length", "ordered")
    list_display_links = ("still", "__str__")
    list_select_related = ("agent",)
    list_filter = ("state", ("agent", ScopedRelatedFilter), ("project", ScopedRelatedFilter))
    search_fields = ("title", "agent__name")
    search_help_text = "Search in titles and agents."
    list_per_page = 50
    list_max_show_all = 0
    empty_text = (
        "A video is one of your agents saying a script. Write what it says, and a file to show is ready in about half "
        "the time it takes to watch."
    )
    change_form_outer_before_template = "admin/videos/videojob/video.html"
    warn_unsaved_form = True

    @property
    def media(self) -> forms.Media:
        return super().media + page_media("videos") + forms.Media(css={"all": STYLES})

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(kind=JobKind.VIDEO)

    # -- ordering ------------------------------------------------------------------------------------------------------
    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **{**kwargs, "form": ScopedForm, "fields": ()})
        # The form's other fields are none of the row.
        form: Any = super().get_form(request, obj, change, **{**kwargs, "fields": ("agent", "title")})
        for name, parts in (("avatar", Avatar.objects), ("voice", Voice.objects)):
            form.base_fields[name] = copy.copy(form.base_fields[name])  # the class's own is every request's
            form.base_fields[name].queryset = parts.for_actor(request.user).order_by("name")
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            return ()
        return (
            ("Who says what", {"fields": ("agent", "script", "title")}),
            ("How it looks and sounds", {"fields": (("resolution", "aspect"), ("avatar", "voice"))}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ()

    def save_model(self, request: HttpRequest, obj: VideoJob, form: Any, change: bool) -> None:
        assert obj.agent is not None
        job = services.order_video(agent=obj.agent, spec=form.spec, title=obj.title, user_id=request.user.pk)
        obj.__dict__.update(job.__dict__)

    def response_add(self, request: HttpRequest, obj: VideoJob, post_url_continue: str | None = None) -> HttpResponse:
        """To the page where one can watch it being made."""
        return redirect("admin:videos_videojob_change", obj.pk)

    def delete_model(self, request: HttpRequest, obj: VideoJob) -> None:
        services.delete_video(job=obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for job in queryset:
            services.delete_video(job=job)

    # -- one video -----------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        def door(name: str, view: Any) -> Any:
            page = self.admin_site.admin_view(view)
            return path(f"<uuid:video_id>/{name}/", page, name=f"videos_videojob_{name}")

        return [
            path("progress/", self.admin_site.admin_view(self.progress_view), name="videos_videojob_progress"),
            door("cancel", require_POST(self.cancel_view)),
            door("again", require_POST(self.again_view)),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        job = context.get("original")
        if job is not None:
            may_edit = self.has_delete_permission(request, job)
            context |= {"video": video_facts(job), "may_edit": may_edit, "title": str(job)}
        return super().render_change_form(request, context, *args, **kwargs)

    def cancel_view(self, request: HttpRequest, video_id: uuid.UUID) -> HttpResponse:
        job = self._mine(request, video_id)
        if services.cancel_video(job=job):
            record_action(request_user=request.user, obj=job, text="Cancelled.")
        return redirect("admin:videos_videojob_change", job.pk)

    def again_view(self, request: HttpRequest, video_id: uuid.UUID) -> HttpResponse:
        """Order the same once more, as the agent was then."""
        job = self._mine(request, video_id)
        if job.agent is None:
            messages.error(request, "Its agent was deleted. Order a new video of another one.")
            return redirect("admin:videos_videojob_change", job.pk)
        try:
            spec = VideoSpec.model_validate(job.order)
            new = services.order_video(
                agent=job.agent,
                spec=spec,
                title=job.title,
                metadata=job.metadata,
                callback_url=job.callback_url,
                user_id=request.user.pk,
            )
        except MoltsError as error:
            messages.error(request, error.detail)
            return redirect("admin:videos_videojob_change", job.pk)
        record_action(request_user=request.user, obj=new, text="Ordered again.")
        return redirect("admin:videos_videojob_change", new.pk)

    def progress_view(self, request: HttpRequest) -> JsonResponse:
        """How far videos are that were asked for by `?video=`, for pages that show it."""
        asked = [each for each in request.GET.getlist("video")[:MOST_FOLLOWED] if as_id(each)]
        jobs = self.get_queryset(request).filter(pk__in=asked).only("state", "stage", "progress", "seconds_left")
        return JsonResponse({str(job.pk): progress_of(job) for job in jobs}, headers={"Cache-Control": "no-store"})

    def _mine(self, request: HttpRequest, video_id: uuid.UUID) -> VideoJob:
        job: VideoJob = self.get_object(request, str(video_id))
        if not self.has_delete_permission(request, job):
            raise PermissionDenied
        return job

    # -- columns -------------------------------------------------------------------------------------------------------
    @admin.display(description="")
    def still(self, job: VideoJob) -> SafeString:
        if not job.thumbnail.name:
            return format_html('<span class="v-thumb v-none"><span aria-hidden="true">{}</span></span>', "▷")
        address = path_of(signed_link(job.thumbnail.name, shown_as="video.jpg"))
        return format_html('<img class="v-thumb" src="{}" alt="">', address)

    @admin.display(description="state", ordering="state")
    def progress_shown(self, job: VideoJob) -> SafeString:
        state = chip(job.get_state_display(), TONES[JobState(job.state)])
        if job.state not in LIVE_STATES:
            return state
        return format_html(
            '<span class="v-progress" data-video="{}">{} <progress class="m-bar" max="1" value="{}" '
            'aria-label="Progress"></progress> <span data-left>{}</span></span>',
            job.pk,
            state,
            job.progress,
            progress_of(job)["left"],
        )

    @admin.display(description="length", ordering="duration")
    def length(self, job: VideoJob) -> str:
        return clock(job.duration) if job.duration is not None else ""

    @admin.display(description="ordered", ordering="created_at")
    def ordered(self, job: VideoJob) -> SafeString:
        return moment(job.created_at)


def clock(seconds: float) -> str:
    """ "1:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def progress_of(job: VideoJob) -> dict[str, Any]:
    """What pages show of a video in the making."""
    left = f"about {max(1, round(job.seconds_left))} s left" if job.seconds_left else ""
    return {"state": job.state, "text": job.stage, "progress": job.progress, "left": left}


def video_facts(job: VideoJob) -> dict[str, Any]:
    """What the page of one video tells."""
    spec = VideoSpec.model_validate(job.order)
    name = slugify(str(job))[:LONGEST_NAME] or "video"
    links = video_links(job, name=name)
    return {
        "scenes": [(scene.avatar.name, scene.script) for scene in spec.scenes],
        "size": f"{spec.width} × {spec.height}, {spec.fps} pictures a second",
        "length": clock(job.duration) if job.duration is not None else "",
        "chip": TONES[JobState(job.state)],
        "live": job.state in LIVE_STATES,
        "progress": progress_of(job),
        "stages": stage_bars(job),
        "file": path_of(links["video_url"] or ""),
        "file_name": f"{name}.mp4",
        "poster": path_of(links["thumbnail_url"] or ""),
        "follow": reverse("admin:videos_videojob_progress"),
    }


@dataclass(frozen=True)
class StageBar:
    """One stage as it is drawn; `share` is its time beside that of the longest."""

    label: str
    note: str
    seconds: float
    share: float
    attempt: int
    is_running: bool


def stage_bars(job: VideoJob) -> list[StageBar]:
    now = timezone.now()
    stages = list(job.stages.order_by("started_at"))
    took = [((stage.ended_at or now) - stage.started_at).total_seconds() for stage in stages]
    longest = max(took, default=0.0) or 1.0
    return [
        StageBar(
            label=stage.get_name_display(),
            note="kept from an attempt before" if stage.reused else stage.note,
            seconds=seconds,
            share=max(0.02, seconds / longest),
            attempt=stage.attempt,
            is_running=stage.ended_at is None and job.state in LIVE_STATES,
        )
        for stage, seconds in zip(stages, took, strict=True)
    ]
