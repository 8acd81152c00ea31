from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags
from PIL import Image
from pytest_django import DjangoAssertNumQueries

from avatars.faces import save_avatar_version
from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from projects.models import Project, ProviderKey
from sessions.models import LiveSession, RoomLink
from tests.conftest import make_agent
from tests.forms import admin_url, form_data, form_errors
from tests.projects.world import SECRET, make_provider_key, make_session

SignIn = Callable[[User], Client]


def save_agent(client: Client, agent: Agent, **changes: Any) -> Any:
    """Post the agent's page with `changes`; `__` in a name stands for `-`."""
    data = form_data(client.get(admin_url(Agent, "change", agent.pk)))
    data |= {name.replace("__", "-"): value for name, value in changes.items()}
    return client.post(admin_url(Agent, "change", agent.pk), data)


def test_an_editor_makes_an_agent_with_answers_and_steps(project: Project, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    key = make_provider_key(project)
    data = form_data(client.get(admin_url(Agent, "add"))) | {
        "name": "Nora",
        "slug": "nora",
        "answers-TOTAL_FORMS": 2,
        "answers-0-position": 1,
        "answers-0-question": "Are you open?\nDo you open today?",
        "answers-0-answer": "Yes, we are.",
        "answers-1-position": 2,
        "answers-1-question": "Where are you?",
        "answers-1-answer": "Here.",
        "pipeline_steps-TOTAL_FORMS": 2,
        "pipeline_steps-0-kind": "llm",
        "pipeline_steps-0-position": 2,
        "pipeline_steps-0-provider": "scripted",
        "pipeline_steps-1-kind": "llm",
        "pipeline_steps-1-position": 1,
        "pipeline_steps-1-provider": "openai",
        "pipeline_steps-1-provider_key": str(key.pk),
        "pipeline_steps-1-option_temperature": "0.5",
    }

    response = client.post(admin_url(Agent, "add"), data)
    assert response.status_code == 302, form_errors(response)

    revision = Agent.objects.get(slug="nora").revisions.get()
    assert (revision.number, revision.created_by) == (1, bob)
    assert [answer for _, answer in revision.snapshot["answers"]] == ["Yes, we are.", "Here."]
    assert [step["provider"] for step in revision.snapshot["pipeline"]["llm"]] == ["openai", "scripted"]
    assert revision.snapshot["pipeline"]["llm"][0]["options"] == {"temperature": 0.5}


def test_every_saved_change_is_a_revision(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)

    assert save_agent(client, agent).status_code == 302
    assert agent.revisions.count() == 1, "nothing was changed"

    assert save_agent(client, agent, greeting="Good day.").status_code == 302
    assert save_agent(client, agent, answers__0__answer="Call me Ada.").status_code == 302

    last, before, _ = agent.revisions.all()
    assert last.snapshot["answers"][0][1] == "Call me Ada."
    assert before.snapshot["greeting"] == "Good day."
    assert last.created_by == bob
    page = client.get(admin_url(AgentRevision, "change", last.pk)).content.decode()
    assert "answers" in page
    assert "Call me Ada." in page
    assert 'name="_save"' not in page


def test_a_changed_voice_is_a_revision_of_its_agents(agent: Agent, bob: User, sign_in: SignIn) -> None:
    voice = Voice.objects.create(project=agent.project, name="Voice", provider="espeak")
    Agent.objects.filter(pk=agent.pk).update(voice=voice)
    client = sign_in(bob)
    data = form_data(client.get(admin_url(Voice, "change", voice.pk))) | {"name": "Deep voice"}

    assert client.post(admin_url(Voice, "change", voice.pk), data).status_code == 302

    newest = agent.revisions.first()
    assert newest is not None
    assert newest.snapshot["voice"]["name"] == "Deep voice"


def test_it_refuses_a_name_that_programs_use_already(agent: Agent, bob: User, sign_in: SignIn) -> None:
    other = make_agent(agent.project, "Zoe")

    response = save_agent(sign_in(bob), other, slug=agent.slug)

    assert "already exists" in str(form_errors(response))
    other.refresh_from_db()
    assert other.slug == "zoe"


@pytest.mark.parametrize(
    ("step", "field", "words"),
    [
        ({"provider": "espeak"}, "provider", "cannot be used for language model"),
        ({"provider": "scripted", "option_delay_ms": "3000"}, "option_delay_ms", "less than or equal to 2000"),
        ({"provider": "scripted", "option_delay_ms": "soon"}, "option_delay_ms", "whole number"),
        ({"provider": "scripted", "option_timezone": "Moon/Base"}, "option_timezone", "not a time zone"),
        ({"provider": "openai"}, "provider_key", "needs a key"),
        ({"provider": "made_up"}, "provider", "not one of the available choices"),
    ],
)
def test_it_says_which_field_of_a_step_is_wrong(
    agent: Agent, bob: User, sign_in: SignIn, step: dict[str, str], field: str, words: str
) -> None:
    changes = {f"pipeline_steps__0__{name}": value for name, value in ({"kind": "llm", "position": "1"} | step).items()}

    errors = form_errors(save_agent(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=1, **changes))

    assert words in str(errors[f"pipeline_steps-0-{field}"])
    assert not PipelineStep.objects.exists()
    assert agent.revisions.count() == 1


def test_it_refuses_a_posted_key_of_another_project(
    agent: Agent, other_project: Project, bob: User, sign_in: SignIn
) -> None:
    key = make_provider_key(other_project)
    row = {"kind": "llm", "position": "1", "provider": "openai", "provider_key": str(key.pk)}
    changes = {f"pipeline_steps__0__{name}": value for name, value in row.items()}

    errors = form_errors(save_agent(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=1, **changes))

    assert "not one of the available choices" in str(errors["pipeline_steps-0-provider_key"])


def test_it_refuses_a_row_of_another_agent(agent: Agent, other_agent: Agent, bob: User, sign_in: SignIn) -> None:
    theirs = other_agent.answers.get()

    save_agent(sign_in(bob), agent, answers__0__id=str(theirs.pk), answers__0__answer="Taken over.")

    theirs.refresh_from_db()
    assert theirs.answer == "My name is Bruno."


def test_it_refuses_a_wait_that_ends_before_it_begins(agent: Agent, bob: User, sign_in: SignIn) -> None:
    response = save_agent(sign_in(bob), agent, min_endpointing_ms="2000", max_endpointing_ms="500")

    assert "must not be shorter" in str(form_errors(response)["max_endpointing_ms"])


def test_it_leads_to_the_room(agent: Agent, link: RoomLink, bob: User, sign_in: SignIn) -> None:
    page = sign_in(bob).get(admin_url(Agent, "change", agent.pk)).content.decode()

    assert f'href="/r/{link.public_id}"' in page
    assert f"{admin_url(RoomLink, 'add')}?agent={agent.pk}" in page


def test_a_viewer_reads_an_agent(agent: Agent, vera: User, sign_in: SignIn) -> None:
    page = sign_in(vera).get(admin_url(Agent, "change", agent.pk)).content.decode()

    assert "My name is Ada." in page
    assert "English" in page, "the language's name, not its code"
    assert 'name="_save"' not in page
    assert 'name="answers-0-answer"' not in page


def test_an_agent_is_deleted_with_its_revisions(agent: Agent, bob: User, sign_in: SignIn) -> None:
    assert sign_in(bob).post(admin_url(Agent, "delete", agent.pk), {"post": "yes"}).status_code == 302

    assert not AgentRevision.objects.exists()
    assert not AgentAnswer.objects.exists()


def test_the_list_costs_the_same_for_many_agents(
    project: Project, bob: User, sign_in: SignIn, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = sign_in(bob)
    for number in range(12):
        agent = make_agent(project, f"Agent {number}")
        agent.voice = Voice.objects.create(project=project, name=f"Voice {number}", provider="espeak")
        agent.avatar = Avatar.objects.create(project=project, name=f"Face {number}", builtin="mira")
        agent.save()

    for model, most in ((Agent, 12), (AgentRevision, 12), (Voice, 12), (Avatar, 13)):  # and the vendors' keys
        with django_assert_max_num_queries(most):
            assert client.get(admin_url(model, "changelist")).status_code == 200


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("rate", "fast", "whole number"), ("pitch", "100", "less than or equal to 99"), ("voice", "a; rm", "voice")],
)
def test_a_voice_is_checked_against_its_provider(
    project: Project, bob: User, sign_in: SignIn, option: str, value: str, words: str
) -> None:
    data = {"project": str(project.pk), "name": "Voice", "provider": "espeak", f"option_{option}": value}

    errors = form_errors(sign_in(bob).post(admin_url(Voice, "add"), data))

    assert words in str(errors[f"option_{option}"])
    assert not Voice.objects.exists()


def test_no_page_of_an_agent_holds_a_secret(agent: Agent, alice: User, sign_in: SignIn) -> None:
    key = make_provider_key(agent.project)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key)
    client = sign_in(alice)
    save_agent(client, agent, greeting="Hi.")

    revision = agent.revisions.first()
    assert revision is not None
    for url in (admin_url(Agent, "change", agent.pk), admin_url(AgentRevision, "change", revision.pk)):
        html = client.get(url).content.decode()
        assert SECRET not in html
        assert key.secret_cipher not in html


# -- Faces ------------------------------------------------------------------------------------------------------------
def picture(width: int = 1600, height: int = 1200, format: str = "JPEG") -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(output, format)
    return output.getvalue()


def add_avatar(client: Client, project: Project, data: bytes, name: str = "face.jpg", engine: str = "still") -> Any:
    upload = SimpleUploadedFile(name, data, content_type="image/png")
    posted = {"project": str(project.pk), "name": "Face", "engine": engine, "portrait": upload}
    return client.post(admin_url(Avatar, "add"), posted)


def test_an_upload_becomes_a_small_png_under_a_name_of_ours(
    project: Project, bob: User, sign_in: SignIn, settings: Any
) -> None:
    client = sign_in(bob)

    assert add_avatar(client, project, picture(), name="../../evil.php").status_code == 302

    avatar = Avatar.objects.get()
    stored = Path(avatar.portrait.path)
    assert stored.parent == Path(settings.MEDIA_ROOT) / "portraits"
    with Image.open(stored) as image:
        assert (image.format, image.size) == ("PNG", (1024, 768))
    for url in (admin_url(Avatar, "changelist"), admin_url(Avatar, "change", avatar.pk)):
        assert f'<img src="{avatar.portrait.url}"' in client.get(url).content.decode()


def test_a_builtin_face_is_shown(project: Project, bob: User, sign_in: SignIn) -> None:
    Avatar.objects.create(project=project, name="Mira", builtin="mira")

    page = sign_in(bob).get(admin_url(Avatar, "changelist")).content.decode()

    assert 'portraits/mira.webp"' in page


def test_it_says_why_an_upload_cannot_be_used(project: Project, bob: User, sign_in: SignIn) -> None:
    errors = form_errors(add_avatar(sign_in(bob), project, b"<svg onload='alert(1)'></svg>", name="face.png"))

    assert "PNG, JPEG or WebP" in str(errors["portrait"])
    assert not Avatar.objects.exists()


def test_a_renamed_avatar_keeps_its_portrait(project: Project, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    add_avatar(client, project, picture())
    avatar = Avatar.objects.get()

    data = {"name": "Renamed", "engine": "still"}
    assert client.post(admin_url(Avatar, "change", avatar.pk), data).status_code == 302

    before = avatar.portrait.name
    avatar.refresh_from_db()
    assert (avatar.name, avatar.portrait.name) == ("Renamed", before)


def test_a_portrait_without_a_face_is_refused_at_its_field(project: Project, bob: User, sign_in: SignIn) -> None:
    errors = form_errors(add_avatar(sign_in(bob), project, picture(), engine="portrait"))

    assert "No face was found" in str(errors["portrait"])
    assert not Avatar.objects.exists()


def test_an_engine_that_moves_a_picture_asks_for_one(project: Project, bob: User, sign_in: SignIn) -> None:
    posted = {"project": str(project.pk), "name": "Face", "engine": "portrait"}

    errors = form_errors(sign_in(bob).post(admin_url(Avatar, "add"), posted))

    assert "upload a portrait" in str(errors["portrait"])


def test_a_character_is_stored_with_its_settings_and_a_version(project: Project, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    posted = {"project": str(project.pk), "name": "Otto", "engine": "puppet", "option_character": "otto"}

    assert client.post(admin_url(Avatar, "add"), posted | {"option_motion": "0.5"}).status_code == 302

    avatar = Avatar.objects.get()
    assert avatar.options == {"character": "otto", "motion": 0.5}
    assert avatar.builtin == "otto"
    assert [(version.number, version.created_by) for version in avatar.versions.all()] == [(1, bob)]
    change = {"name": "Otto", "engine": "puppet", "option_character": "finn"}
    assert client.post(admin_url(Avatar, "change", avatar.pk), change).status_code == 302
    page = client.get(admin_url(Avatar, "change", avatar.pk)).content.decode()
    assert "Restore v1" in page
    restored = client.post(admin_url(Avatar, "restore", avatar.pk, 1), follow=True)
    assert "It is saved as v3." in restored.content.decode()
    avatar.refresh_from_db()
    assert avatar.options["character"] == "otto"


@pytest.mark.parametrize("options", [{"option_character": "nobody"}, {"option_motion": "lively"}])
def test_options_are_checked_at_their_fields(
    project: Project, bob: User, sign_in: SignIn, options: dict[str, str]
) -> None:
    posted = {"project": str(project.pk), "name": "Face", "engine": "puppet"} | options

    errors = form_errors(sign_in(bob).post(admin_url(Avatar, "add"), posted))

    assert list(errors) == list(options)


def test_a_hosted_face_is_stored_with_its_key_and_says_what_it_lacks(
    project: Project, bob: User, sign_in: SignIn, settings: Any
) -> None:
    settings.LIVEKIT_PUBLIC_URL = "ws://127.0.0.1:7880"
    client = sign_in(bob)
    key = ProviderKey.objects.create(project=project, name="Faces", provider="heygen")
    other = make_provider_key(project)
    posted = {"project": str(project.pk), "name": "Anna", "engine": "heygen"}
    url = admin_url(Avatar, "add")

    assert list(form_errors(client.post(url, posted | {"provider_key": key.pk}))) == ["option_avatar_id"]
    posted |= {"option_avatar_id": "anna"}
    assert "needs a key" in str(form_errors(client.post(url, posted))["provider_key"])
    assert "not for heygen" in str(form_errors(client.post(url, posted | {"provider_key": other.pk}))["provider_key"])
    assert client.post(url, posted | {"provider_key": key.pk, "option_sandbox": "on"}).status_code == 302

    avatar = Avatar.objects.get()
    assert (avatar.options, avatar.provider_key) == ({"avatar_id": "anna", "sandbox": True}, key)
    page = client.get(admin_url(Avatar, "change", avatar.pk)).content.decode()
    assert "HeyGen LiveAvatar cannot reach the media server at ws://127.0.0.1:7880" in page


def test_viewers_and_strangers_change_no_face(
    project: Project, vera: User, charlie: User, other_project: Project, sign_in: SignIn
) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})
    save_avatar_version(avatar=avatar)
    restore, clip = admin_url(Avatar, "restore", avatar.pk, 1), admin_url(Avatar, "clip", avatar.pk)

    assert sign_in(vera).post(restore).status_code == 403
    assert sign_in(vera).post(admin_url(Avatar, "preview"), {"engine": "puppet"}).status_code == 403
    assert sign_in(vera).post(admin_url(Avatar, "marks")).status_code == 403
    assert sign_in(vera).get(admin_url(Avatar, "change", avatar.pk)).status_code == 200
    assert sign_in(charlie).post(restore).status_code == 404
    assert sign_in(charlie).get(clip).status_code == 404


@pytest.mark.parametrize("selected", [False, True])
def test_deleting_a_face_names_the_agents_that_lose_it(
    agent: Agent, bob: User, sign_in: SignIn, selected: bool
) -> None:
    agent.avatar = Avatar.objects.create(project=agent.project, name="Mira", options={"character": "mira"})
    agent.save()
    make_agent(agent.project, "Grace")
    client, url, data = sign_in(bob), admin_url(Avatar, "delete", agent.avatar.pk), {}
    if selected:
        url = admin_url(Avatar, "changelist")
        data = {"action": "delete_selected", "_selected_action": str(agent.avatar.pk)}

    def question() -> str:
        asked = client.post(url, data) if selected else client.get(url)
        return " ".join(unescape(strip_tags(asked.content.decode())).split())

    assert "Ada loses the face Mira" in question()
    assert "Grace" not in question()
    assert "running" not in question()
    ended = make_session(agent)
    LiveSession.objects.filter(pk=ended.pk).update(state="ended", reason="silence", ended_at=timezone.now())
    running = make_session(agent)
    assert "Conversations that are running keep it: 1." in question()

    assert client.post(url, {**data, "post": "yes"}).status_code == 302
    agent.refresh_from_db()
    running.refresh_from_db()
    assert agent.avatar_id is None
    assert running.is_live


def test_a_slider_begins_at_its_default_and_stores_only_what_differs(
    project: Project, bob: User, sign_in: SignIn
) -> None:
    client = sign_in(bob)
    avatar = Avatar.objects.create(project=project, name="Mira", options={"character": "mira", "motion": 0.25})
    url = admin_url(Avatar, "change", avatar.pk)

    def stored(motion: str) -> dict[str, Any]:
        posted = {"name": "Mira", "engine": "puppet", "option_character": "mira", "option_motion": motion}
        assert client.post(url, posted).status_code == 302
        avatar.refresh_from_db()
        return dict(avatar.options)

    page = client.get(url).content.decode()
    (slider,) = re.findall(r'<input type="range" name="option_motion" value="0.25"[^>]*>', page)
    assert 'min="0.0"' in slider
    assert 'max="1.0"' in slider
    assert "<output for=" in page
    assert "(0 to 1)" not in page
    assert re.search(r'<input type="range" name="option_motion" value="1.0"', page), "unfilled ones for other engines"
    assert stored("0") == {"character": "mira", "motion": 0.0}
    assert stored("1") == {"character": "mira"}
    assert stored("") == {"character": "mira"}


def test_the_list_shows_what_serves(
    project: Project, bob: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})

    def workers(kind: WorkerKind) -> list[WorkerInfo]:
        assert kind is WorkerKind.AVATAR
        return [WorkerInfo(id="worker-1", host="box-1", pid=1, slots=5, used=2)]

    monkeypatch.setattr(beats, "workers", workers)
    page = sign_in(bob).get(admin_url(Avatar, "changelist")).content.decode()

    assert "Engines on this server" in page
    assert "Drawn character" in page
    assert "2 of 5 places taken" in page


def test_a_clip_is_served_whole_and_in_parts(project: Project, vera: User, sign_in: SignIn) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira")
    avatar.preview.save("clip.mp4", ContentFile(b"0123456789"))
    client, url = sign_in(vera), admin_url(Avatar, "clip", avatar.pk)

    def part(asked: str) -> tuple[int, bytes, str]:
        answer = client.get(url, headers={"Range": asked})
        return answer.status_code, answer.content, answer.headers.get("Content-Range", "")

    whole = client.get(url)
    assert (whole.status_code, whole.content, whole["Content-Type"]) == (200, b"0123456789", "video/mp4")
    assert part("bytes=0-1") == (206, b"01", "bytes 0-1/10")
    assert part("bytes=4-") == (206, b"456789", "bytes 4-9/10")
    assert part("bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert part("bytes=10-") == (416, b"", "bytes */10")
    assert part("bytes=a-b")[0] == 200
    for endless in (f"bytes={'9' * 5_000}-", f"bytes=0-{'9' * 5_000}"):
        assert part(endless)[0] == 200
