"""The admin's pages of videos: ordered by a form, followed, stopped, made again; each project sees its own."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from avatars.models import Agent, Avatar, Voice
from avatars.videos import services
from avatars.videos.choices import JobState
from avatars.videos.models import JobStage, VideoJob
from avatars.videos.spec import VideoSpec
from projects.models import AuditEntry
from tests.avatars.videos.test_videos import order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sent")]

LIST = "/admin/videos/videojob/"


@pytest.fixture
def faced(agent: Agent) -> Agent:
    """Ada, with a face."""
    avatar = Avatar.objects.create(project=agent.project, name="Mira", engine="puppet", options={"character": "mira"})
    Agent.objects.filter(pk=agent.pk).update(avatar=avatar)
    agent.refresh_from_db()
    return agent


@pytest.fixture
def as_alice(client: Client, agent: Agent) -> Client:
    client.force_login(agent.project.members.get(user__username="alice").user)
    return client


def asked(agent: Agent, **given: Any) -> dict[str, Any]:
    return {
        "agent": agent.pk,
        "title": "",
        "script": "Hello there.",
        "resolution": "512p",
        "aspect": "9:16",
        "avatar": "",
        "voice": "",
        **given,
    }


def page(client: Client, job: VideoJob) -> str:
    return client.get(f"{LIST}{job.pk}/change/").content.decode()


def test_the_empty_list_says_what_a_video_is(as_alice: Client) -> None:
    shown = as_alice.get(LIST).content.decode()
    assert "one of your agents saying a script" in shown


def test_a_form_orders_a_video(as_alice: Client, faced: Agent, sent: list[object]) -> None:
    form = as_alice.get(f"{LIST}add/").content.decode()
    assert "The agent&#x27;s own" in form

    answer = as_alice.post(f"{LIST}add/", asked(faced, title="Welcome"))

    (job,) = VideoJob.objects.all()
    assert answer.headers["Location"] == f"{LIST}{job.pk}/change/"
    spec = VideoSpec.model_validate(job.order)
    assert (spec.width, spec.height, spec.scenes[0].script) == (512, 910, "Hello there.")
    assert (job.title, job.agent, job.project_id, job.state) == ("Welcome", faced, faced.project_id, JobState.QUEUED)
    assert job.ordered_by is not None
    assert AuditEntry.objects.filter(object_id=str(job.pk)).exists()


def test_another_face_and_voice_can_be_chosen(as_alice: Client, faced: Agent) -> None:
    avatar = Avatar.objects.create(project=faced.project, name="Otto", engine="puppet", options={"character": "otto"})
    voice = Voice.objects.create(project=faced.project, name="Low", provider="espeak", options={"pitch": 20})
    as_alice.post(f"{LIST}add/", asked(faced, avatar=avatar.pk, voice=voice.pk))
    (scene,) = VideoSpec.model_validate(VideoJob.objects.get().order).scenes
    assert scene.avatar.name == "Otto"
    assert scene.voices[0].options == {"pitch": 20}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"script": '<break time="1s"/>'}, "Write what is to be said."),
        ({"script": ""}, "This field is required."),
        ({"script": "x" * 10_001}, "Shorten this to 10,000 characters"),
        ({"resolution": "8k"}, "Select a valid choice"),
        ({"agent": uuid.uuid4()}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_made_is_said_at_its_field(
    as_alice: Client, faced: Agent, given: dict[str, Any], text: str
) -> None:
    shown = as_alice.post(f"{LIST}add/", asked(faced) | given).content.decode()
    assert text in shown
    assert not VideoJob.objects.exists()


def test_an_agent_without_a_face_is_told_what_to_do(as_alice: Client, agent: Agent) -> None:
    Agent.objects.filter(pk=agent.pk).update(avatar=None)
    assert "give it one, or name an avatar" in as_alice.post(f"{LIST}add/", asked(agent)).content.decode()


def test_parts_of_another_project_cannot_be_chosen(as_alice: Client, faced: Agent, other_agent: Agent) -> None:
    foreign = Avatar.objects.create(project=other_agent.project, name="X", engine="puppet", options={})
    assert "Select a valid choice" in as_alice.post(f"{LIST}add/", asked(faced, avatar=foreign.pk)).content.decode()
    assert "Select a valid choice" in as_alice.post(f"{LIST}add/", asked(other_agent)).content.decode()
    assert not VideoJob.objects.exists()


def test_too_many_that_wait_are_refused_in_words(
    as_alice: Client, faced: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MOST_WAITING", 1)
    order(faced)
    shown = as_alice.post(f"{LIST}add/", asked(faced, script="Nothing of it is lost.")).content.decode()
    assert "Order again when some are done." in shown
    assert "Nothing of it is lost." in shown
    assert VideoJob.objects.count() == 1


def test_its_page_shows_how_far_it_is_and_cancels(as_alice: Client, faced: Agent) -> None:
    job = order(faced)
    VideoJob.objects.filter(pk=job.pk).update(state=JobState.RUNNING, progress=0.4, stage="Drawing", seconds_left=12.2)
    JobStage.objects.create(job=job, name="speech", attempt=1, note="3 pieces", started_at=timezone.now())
    shown = page(as_alice, job)
    assert "Drawing" in shown
    assert 'value="0.4"' in shown
    assert "about 12 s left" in shown
    assert "3 pieces" in shown

    told = as_alice.get(f"{LIST}progress/", {"video": [str(job.pk), "nonsense", str(uuid.uuid4())]}).json()
    assert told == {str(job.pk): {"state": "running", "text": "Drawing", "progress": 0.4, "left": "about 12 s left"}}

    as_alice.post(reverse("admin:videos_videojob_cancel", args=[job.pk]))
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert "Nobody makes it any more." in page(as_alice, job)


def test_one_that_failed_says_where_and_is_made_again(as_alice: Client, faced: Agent) -> None:
    job = order(faced, title="Welcome")
    VideoJob.objects.filter(pk=job.pk).update(
        state=JobState.FAILED, error="No voice speaks.", failed_stage="speech", attempts=3
    )
    shown = page(as_alice, job)
    assert "No voice speaks." in shown
    assert "It failed at: Speech, in attempt 3." in shown

    as_alice.post(reverse("admin:videos_videojob_again", args=[job.pk]))
    again = VideoJob.objects.exclude(pk=job.pk).get()
    assert (again.order, again.title, again.state) == (job.order, "Welcome", JobState.QUEUED)


def test_one_that_is_done_can_be_watched_downloaded_and_deleted_with_its_files(as_alice: Client, faced: Agent) -> None:
    job = order(faced)
    name = job.output.storage.save(f"agents/{faced.pk}/videos/{job.pk}.mp4", ContentFile(b"a video"))
    VideoJob.objects.filter(pk=job.pk).update(state=JobState.DONE, output=name, duration=67.4, ended_at=timezone.now())
    shown = page(as_alice, job)
    assert "<video" in shown
    assert 'download="hello-there-i-am-ada.mp4"' in shown
    assert "1:07" in shown
    assert "1:07" in as_alice.get(LIST).content.decode()

    as_alice.post(f"{LIST}{job.pk}/delete/", {"post": "yes"})
    assert not VideoJob.objects.exists()
    assert not job.output.storage.exists(name)


def test_whoever_only_views_changes_nothing(client: Client, faced: Agent, vera: Any) -> None:
    client.force_login(vera)
    job = order(faced)
    shown = page(client, job)
    assert "Hello there. I am Ada." in shown
    assert "Cancel</button>" not in shown
    for door in ("cancel", "again"):
        assert client.post(f"{LIST}{job.pk}/{door}/").status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{job.pk}/delete/", {"post": "yes"}).status_code == 403
    job.refresh_from_db()
    assert job.state == JobState.QUEUED


def test_another_projects_video_is_not_there(client: Client, faced: Agent, charlie: Any, other_agent: Agent) -> None:
    client.force_login(charlie)
    job = order(faced)
    assert client.get(f"{LIST}{job.pk}/change/").status_code == 404
    for door in ("cancel", "again"):
        assert client.post(f"{LIST}{job.pk}/{door}/").status_code == 404
    assert client.get(f"{LIST}progress/", {"video": str(job.pk)}).json() == {}
    assert "Hello there" not in client.get(LIST).content.decode()


def test_what_is_offered_to_one_is_offered_to_no_other(client: Client, faced: Agent, charlie: Any, rf: Any) -> None:
    """Forms of two requests at once share their class."""
    from avatars.videos.admin import NewVideoForm, VideoAdmin

    pages = VideoAdmin(VideoJob, admin.site)
    forms = []
    for user in (faced.project.members.get(user__username="alice").user, charlie):
        request = rf.get("/")
        request.user, request.session = user, {}
        forms.append(pages.get_form(request))
    offered = [list(form.base_fields["avatar"].queryset) for form in forms]
    assert [avatar.name for avatar in offered[0]] == ["Mira"]
    assert offered[1] == []
    shared: Any = NewVideoForm.base_fields["avatar"]
    assert not shared.queryset.exists()
