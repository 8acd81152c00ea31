"""Videos by REST: ordered, followed, cancelled, deleted, and played from their links."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import AsyncClient, Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from avatars.models import Agent, Avatar, Voice
from avatars.videos import services
from avatars.videos.choices import JobKind, JobState
from avatars.videos.links import OPEN_SECONDS, video_links
from avatars.videos.models import VideoJob
from avatars.videos.spec import VideoSpec
from avatars.videos.stages import StageName
from avatars.videos.views import ByteRange
from projects.models import ApiKey
from tests.api import Caller, by_key, by_login, error_of
from tests.conftest import make_agent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sent")]

VIDEO = bytes(range(256)) * 40


@pytest.fixture
def key(api_key: tuple[ApiKey, str], agent: Agent) -> Caller:
    """A program of project A, whose agent Ada has a face."""
    avatar = Avatar.objects.create(project=agent.project, name="Ada", engine="puppet", options={"character": "mira"})
    Agent.objects.filter(pk=agent.pk).update(avatar=avatar)
    return by_key(api_key[1])


@pytest.fixture
def other_key(other_api_key: tuple[ApiKey, str]) -> Caller:
    return by_key(other_api_key[1])


def order(key: Caller, **asked: Any) -> dict[str, Any]:
    answer = key.post("videos", {"agent": "ada", "script": "Hello.", **asked})
    assert answer.status_code == 202, answer.content
    body: dict[str, Any] = answer.json()
    return body


def finish(video_id: str) -> VideoJob:
    job = VideoJob.objects.get(pk=video_id)
    job.output.storage.save(f"agents/{job.agent_id}/videos/{job.pk}.mp4", ContentFile(VIDEO))
    VideoJob.objects.filter(pk=job.pk).update(
        state=JobState.DONE,
        progress=1.0,
        duration=2.4,
        output=f"agents/{job.agent_id}/videos/{job.pk}.mp4",
        thumbnail=f"agents/{job.agent_id}/videos/{job.pk}.jpg",
    )
    return VideoJob.objects.get(pk=job.pk)


# -- Ordering ---------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_video_is_ordered(key: Caller, agent: Agent, sent: list[object]) -> None:
    answer = key.post("videos", {"agent": "ada", "script": " Hello. ", "title": "Welcome", "metadata": {"order": "7"}})

    assert answer.status_code == 202
    body = answer.json()
    assert answer["Location"] == f"/api/v1/videos/{body['id']}"
    assert (body["status"], body["progress"], body["stages"], body["attempts"]) == ("pending", 0, [], 0)
    assert (body["agent"]["slug"], body["title"], body["metadata"]) == ("ada", "Welcome", {"order": "7"})
    assert (body["width"], body["height"]) == (512, 512)
    nothing = ("video_url", "thumbnail_url", "duration", "cost", "error", "seconds_left", "started_at", "ended_at")
    assert all(body[name] is None for name in nothing)
    assert sent == [uuid.UUID(body["id"])]
    spec = VideoSpec.model_validate(VideoJob.objects.get().order)
    assert spec.scenes[0].script == "Hello."
    assert [rung.provider for rung in spec.scenes[0].voices] == ["supertonic", "espeak"]
    assert key.get(f"videos/{body['id']}").json() == body


def test_it_is_the_agent_as_it_was_when_it_was_ordered(key: Caller, agent: Agent) -> None:
    video = order(key)
    Avatar.objects.update(options={"character": "otto"})
    assert VideoJob.objects.get(pk=video["id"]).order["scenes"][0]["avatar"]["options"] == {"character": "mira"}


def test_scenes_may_have_other_agents_faces_and_voices(key: Caller, agent: Agent) -> None:
    grace = make_agent(agent.project, "Grace")
    face = Avatar.objects.create(project=agent.project, name="Otto", engine="puppet", options={"character": "otto"})
    voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak", options={"pitch": 20})
    scenes = [
        {"script": "One."},
        {"script": "Two.", "agent": str(grace.pk), "avatar": str(face.pk), "voice": str(voice.pk)},
    ]

    answer = key.post(f"agents/{agent.pk}/videos", {"scenes": scenes, "resolution": "1080p", "aspect": "9:16"})

    assert answer.status_code == 202
    assert (answer.json()["width"], answer.json()["height"]) == (1080, 1920)
    spec = VideoSpec.model_validate(VideoJob.objects.get().order)
    assert [scene.avatar.name for scene in spec.scenes] == ["Ada", "Otto"]
    assert spec.scenes[1].voices[0].options == {"pitch": 20}


@pytest.mark.parametrize(
    ("asked", "attr", "status"),
    [
        ({}, "script", 400),
        ({"script": " "}, "script", 400),
        ({"script": "<break time='2s'/>"}, "script", 400),
        ({"script": "Hello.", "scenes": [{"script": "One."}]}, "script", 400),
        ({"scenes": []}, "scenes", 400),
        ({"scenes": [{"script": "One."}, {"script": "Two.", "agent": "nobody"}]}, "scenes.1.agent", 404),
        ({"scenes": [{"script": "One.", "avatar": str(uuid.uuid4())}]}, "scenes.0.avatar", 404),
        ({"script": "Hello.", "voice": str(uuid.uuid4())}, "voice", 404),
        ({"script": "Hello.", "resolution": "8k"}, "resolution", 400),
        ({"script": "Hello.", "aspect": "2:1"}, "aspect", 400),
        ({"script": "Hello.", "fps": 24}, "fps", 400),
        ({"script": "Hello.", "metadata": {"": "x"}}, "metadata", 400),
        ({"script": "Hello.", "metadata": {str(number): "" for number in range(21)}}, "metadata", 400),
        ({"script": "Hello.", "callback": "https://example.org"}, "callback", 400),
    ],
)
def test_what_cannot_be_made_is_refused(key: Caller, asked: dict[str, Any], attr: str, status: int) -> None:
    answer = key.post("videos", {"agent": "ada", **asked})
    assert (answer.status_code, error_of(answer)["attr"]) == (status, attr)
    assert not VideoJob.objects.exists()


def test_an_agent_without_a_face_is_refused(key: Caller, agent: Agent) -> None:
    Agent.objects.update(avatar=None)
    answer = key.post("videos", {"agent": "ada", "script": "Hello."})
    assert (answer.status_code, error_of(answer)["attr"]) == (400, "avatar")


@pytest.mark.django_db(transaction=True)
def test_a_repeat_is_the_same_video(key: Caller, sent: list[object]) -> None:
    body = {"agent": "ada", "script": "Hello."}
    first = key.post("videos", body, Idempotency_Key="order-7")
    again = key.post("videos", body, Idempotency_Key="order-7")
    other = key.post("videos", {**body, "script": "Bye."}, Idempotency_Key="order-7")

    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 409)
    assert first.json()["id"] == again.json()["id"]
    assert again["Idempotent-Replayed"] == "true"
    assert len(sent) == 1


def test_too_many_at_once_are_told_to_come_later(key: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_WAITING", 1)
    order(key)
    answer = key.post("videos", {"agent": "ada", "script": "Hello."})
    assert (answer.status_code, error_of(answer)["code"]) == (429, "too_many_videos")
    assert int(answer["Retry-After"]) > 0


# -- Following --------------------------------------------------------------------------------------------------------
def test_progress_stages_and_errors_are_shown(key: Caller) -> None:
    video = order(key)
    job = services.claim_turn(worker="one")
    assert job is not None
    services.hold_job(job=job, stage="Rendering", progress=0.429, seconds_left=3.5)
    job.stages.create(name=StageName.SPEECH, attempt=1, note="2 pieces", started_at=timezone.now())

    body = key.get(f"videos/{video['id']}").json()
    assert (body["status"], body["progress"], body["seconds_left"]) == ("processing", 42, 3.5)
    assert [(stage["name"], stage["note"], stage["ended_at"]) for stage in body["stages"]] == [
        ("speech", "2 pieces", None)
    ]

    VideoJob.objects.update(state="failed", error="No voice speaks.", error_code="unavailable", failed_stage="speech")
    body = key.get(f"videos/{video['id']}").json()
    assert body["status"] == "failed"
    assert body["error"] == {"code": "unavailable", "detail": "No voice speaks.", "stage": "speech"}


def test_videos_are_listed_and_chosen(
    key: Caller, agent: Agent, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first, second = order(key), order(key)
    finish(second["id"])
    services.create_job(kind=JobKind.PREVIEW, user_id=alice.pk, project_id=agent.project_id, order={})

    def ids(**query: Any) -> list[str]:
        return [video["id"] for video in key.get("videos", **query).json()["results"]]

    assert ids() == [second["id"], first["id"]], "previews are none"
    assert ids(status="completed") == [second["id"]]
    assert ids(ordering="created_at", page_size=1) == [first["id"]]
    assert ids(agent=str(uuid.uuid4())) == []
    with django_assert_num_queries(4):  # the key, how many, the videos, their stages
        ids()


def test_one_is_cancelled_and_deleted(key: Caller) -> None:
    waiting, done = order(key), order(key)
    file = Path(finish(done["id"]).output.path)

    assert key.post(f"videos/{waiting['id']}/cancel").json()["status"] == "cancelled"
    assert key.post(f"videos/{done['id']}/cancel").json()["status"] == "completed"
    answer = key.client.delete(f"/api/v1/videos/{done['id']}", headers=key.headers)

    assert answer.status_code == 204
    assert not file.exists()
    assert key.get(f"videos/{done['id']}").status_code == 404
    assert key.client.delete(f"/api/v1/videos/{done['id']}", headers=key.headers).status_code == 404


def test_another_projects_videos_do_not_exist(
    key: Caller, other_key: Caller, agent: Agent, other_agent: Agent, vera: User
) -> None:
    video = order(key)
    paths = (f"videos/{video['id']}", f"videos/{video['id']}/cancel", f"agents/{agent.pk}/videos")
    assert [other_key.get(paths[0]).status_code, other_key.post(paths[1]).status_code] == [404, 404]
    assert other_key.post(paths[2], {"script": "Hello."}).status_code == 404
    assert other_key.client.delete(f"/api/v1/{paths[0]}", headers=other_key.headers).status_code == 404
    assert other_key.get("videos").json()["count"] == 0
    theirs = Avatar.objects.create(project=other_agent.project, name="Otto", engine="puppet")
    answer = key.post("videos", {"agent": "ada", "script": "Hello.", "avatar": str(theirs.pk)})
    assert answer.status_code == 404
    viewer = by_login(vera)
    assert viewer.get(paths[0]).status_code == 200
    assert [viewer.post(path, {"script": "Hello."}).status_code for path in paths[1:]] == [403, 403]
    assert VideoJob.objects.get().state == "queued"


# -- Playing ----------------------------------------------------------------------------------------------------------
def fetch(url: str, method: str = "get", **headers: str) -> tuple[Any, bytes]:
    """The answer, and all of its body, as the server sends it."""

    async def go() -> tuple[Any, bytes]:
        answer = await getattr(AsyncClient(), method)(urlsplit(url).path, headers=headers)
        if not answer.streaming:
            return answer, answer.content
        return answer, b"".join([chunk async for chunk in answer.streaming_content])

    return async_to_sync(go)()


@pytest.fixture
def url(key: Caller) -> str:
    video = order(key, title="Good morning, Ms Müller")
    finish(video["id"])
    link: str = key.get(f"videos/{video['id']}").json()["video_url"]
    return link


def test_a_link_plays_without_a_key(url: str) -> None:
    answer, body = fetch(url)
    assert (answer.status_code, body) == (200, VIDEO)
    assert url.endswith("/good-morning-ms-muller.mp4")
    assert answer["Content-Type"] == "video/mp4"
    assert (answer["Accept-Ranges"], answer["Content-Length"]) == ("bytes", str(len(VIDEO)))
    assert answer["X-Content-Type-Options"] == "nosniff"
    head, nothing = fetch(url, "head")
    assert (head["Content-Length"], nothing) == (str(len(VIDEO)), b"")
    assert fetch(url, "post")[0].status_code == 405


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=10000-", 10_000, 10_240), ("bytes=-40", 10_200, 10_240)],
)
def test_a_player_seeks(url: str, asked: str, start: int, end: int) -> None:
    answer, body = fetch(url, Range=asked)
    assert (answer.status_code, body) == (206, VIDEO[start:end])
    assert answer["Content-Range"] == f"bytes {start}-{end - 1}/{len(VIDEO)}"
    assert fetch(url, Range=asked, **{"If-Range": answer["ETag"]})[0].status_code == 206
    assert fetch(url, Range=asked, **{"If-Range": '"another"'})[0].status_code == 200


@pytest.mark.parametrize("asked", ["bytes=1-2,5-6", "bytes=-", "bytes=x-9", "lines=1-2", "bytes=9-3"])
def test_what_is_no_range_gets_the_whole(url: str, asked: str) -> None:
    assert fetch(url, Range=asked)[1] == VIDEO


def test_behind_the_end_there_is_nothing(url: str) -> None:
    answer, _ = fetch(url, Range="bytes=10240-")
    assert (answer.status_code, answer["Content-Range"]) == (416, "bytes */10240")
    assert ByteRange.read("bytes=-99999", 10) == ByteRange(0, 10)


def test_a_link_is_over_after_a_day_and_cannot_be_made_up(url: str, key: Caller) -> None:
    *_, token, name = urlsplit(url).path.split("/")
    assert fetch(f"/media/signed/{token[:-1]}x/{name}")[0].status_code == 404
    assert fetch(f"/media/signed/x/{name}")[0].status_code == 404
    with time_machine.travel(OPEN_SECONDS + 60 + time.time()):
        assert fetch(url)[0].status_code == 404
    Path(VideoJob.objects.get().output.path).unlink()
    assert fetch(url)[0].status_code == 404


def test_a_name_of_metadata_that_is_no_text_is_refused(key: Caller) -> None:
    body = b'{"agent": "ada", "script": "Hello.", "metadata": {"\\ud800": "x"}}'
    answer = key.client.post("/api/v1/videos", body, content_type="application/json", headers=dict(key.headers))
    assert answer.status_code == 400


def test_a_link_opens_its_file_under_its_name_alone(key: Caller, client: Client) -> None:
    job = finish(order(key, title="Welcome")["id"])
    link = urlsplit(video_links(job)["video_url"] or "").path
    assert link.endswith("/welcome.mp4")
    start = link.rsplit("/", 1)[0]
    for name in ("other.mp4", 'a";%20filename="setup.exe', "a%0Ab.mp4"):
        assert client.get(f"{start}/{name}").status_code == 404
    assert client.get(link, headers={"Range": "bytes=0-" + "9" * 5_000}).status_code == 200
