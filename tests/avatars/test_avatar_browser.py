"""The avatar's editor in Chromium: choosing, marking, looking at the face while it is edited."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from django.core.files.base import ContentFile
from PIL import Image
from playwright.sync_api import Page, expect
from pytest_django import Settings

from avatars.admin.faces import SAMPLE
from avatars.engines import ENGINES, get_engine
from avatars.faces import save_avatar_version
from avatars.listening import MAX_TEXT
from avatars.models import Agent, Avatar
from avatars.videos import previews, queue
from tests.avatars.stand_in import HERE
from tests.avatars.videos.stand_ins import Worker, tone
from tests.axe import violations
from tests.forms import admin_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": str(tmp_path)}
    }
    monkeypatch.setitem(ENGINES, "puppet", f"{HERE}.Round")
    monkeypatch.setattr(previews, "speak_sample", lambda **_: tone())
    worker = Worker()
    monkeypatch.setattr(queue, "send", worker.send)
    get_engine.cache_clear()
    yield
    worker.close()  # also a clip in the making when the page is closed
    get_engine.cache_clear()


@pytest.fixture
def avatar(agent: Agent) -> Avatar:
    avatar = Avatar.objects.create(
        project=agent.project, name="Mira", engine="puppet", options={"character": "mira"}, builtin="mira"
    )
    save_avatar_version(avatar=avatar)
    agent.avatar = avatar
    agent.save()
    return avatar


def picture() -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (300, 300), "teal").save(output, "PNG")
    return output.getvalue()


def test_the_face_moves_while_it_is_edited_and_its_preview_is_kept(page: Page, avatar: Avatar) -> None:
    page.goto(admin_url(Avatar, "change", avatar.pk))
    video = page.locator("[data-video]")
    expect(video).to_be_visible(timeout=60_000)  # by itself: nothing is kept yet
    first = video.get_attribute("src")
    assert page.evaluate("document.querySelector('[data-video]').muted")

    page.locator(".m-character", has_text="Otto").click()
    expect(video).not_to_have_attribute("src", first or "", timeout=60_000)
    page.locator("[data-render]").click()
    expect(page.locator("[data-stage-status]")).to_contain_text("Save your changes first")
    with page.expect_navigation():
        page.locator("button[name=_continue]").click()
    expect(video).to_be_visible(timeout=60_000)
    page.locator("[data-render]").click()
    expect(page.locator("[data-stage-status]")).to_have_text("Rendered and kept.", timeout=60_000)

    page.wait_for_function("document.querySelector('[data-video]').videoWidth === 512")
    avatar.refresh_from_db()
    assert avatar.options["character"] == "otto"
    assert avatar.preview
    assert violations(page, within="#content-main") == []
    page.goto(admin_url(Agent, "change", avatar.agents.get().pk))
    face = page.locator(".m-picker [aria-checked=true]")
    expect(face).to_contain_text("Mira")
    face.hover()
    expect(face.locator("video.m-shown")).to_be_visible()


def test_the_slider_says_its_value_and_goes_by_the_keyboard(page: Page, avatar: Avatar) -> None:
    page.goto(admin_url(Avatar, "change", avatar.pk))
    slider = page.get_by_role("slider", name="Motion")
    value = page.locator(".m-slider output")
    expect(value).to_have_text("1.00")

    slider.press("Home")
    expect(value).to_have_text("0.00")
    slider.press("ArrowRight")
    expect(value).to_have_text("0.01")
    with page.expect_navigation():
        page.locator("button[name=_continue]").click()

    expect(value).to_have_text("0.01")
    avatar.refresh_from_db()
    assert avatar.options == {"character": "mira", "motion": 0.01}


def test_a_text_for_the_preview_is_counted_and_never_cut(page: Page, avatar: Avatar) -> None:
    page.goto(admin_url(Avatar, "change", avatar.pk))
    text, count = page.locator("[data-text]"), page.locator("[data-text-count]")
    expect(count).to_have_text(f"{len(SAMPLE)} of {MAX_TEXT} characters")

    text.fill("  two   words ")
    expect(count).to_have_text(f"9 of {MAX_TEXT} characters")  # as the server counts
    text.fill("a" * (MAX_TEXT + 7))

    expect(text).to_have_value("a" * (MAX_TEXT + 7))
    expect(count).to_contain_text("shorten it by 7")
    page.locator("[data-render]").click()
    expect(page.locator("[data-stage-status]")).to_contain_text(f"at most {MAX_TEXT} characters")
    assert violations(page, within="#content-main") == []


def test_versions_come_back(page: Page, avatar: Avatar) -> None:
    avatar.options = {"character": "finn"}
    avatar.save()
    save_avatar_version(avatar=avatar)
    page.goto(f"{admin_url(Avatar, 'change', avatar.pk)}#versions")

    with page.expect_navigation():
        page.get_by_role("button", name="Restore v1").click()

    expect(page.get_by_text("It is saved as v3.")).to_be_visible()
    avatar.refresh_from_db()
    assert avatar.options == {"character": "mira"}
    assert violations(page, within="#content-main") == []


def test_a_picture_without_a_face_is_marked_by_hand(page: Page, avatar: Avatar) -> None:
    page.goto(admin_url(Avatar, "change", avatar.pk))
    page.locator("[name=engine][value=portrait]").check()
    expect(page.locator("[data-stage-status]")).to_contain_text("Choose a picture")
    expect(page.locator("[data-screen] .m-initial")).to_be_visible()
    page.locator("input[type=file][name=portrait]").set_input_files(
        {"name": "face.png", "mimeType": "image/png", "buffer": picture()}
    )
    status = page.locator("[data-marks-status]")
    expect(status).to_contain_text("No face was found", timeout=20_000)
    page.locator("button[name=_continue]").click()
    refusal = page.locator("[data-portrait-field] [role=alert]")
    expect(refusal).to_contain_text("No face was found", timeout=20_000)
    expect(page.locator("[data-picture]")).to_be_visible()
    assert page.evaluate("document.querySelector('input[name=portrait]').files.length") == 1

    page.get_by_role("button", name="Mark by hand").click()
    eye = page.get_by_role("button", name="Eye on the left")
    eye.focus()
    page.keyboard.press("ArrowRight")

    assert page.locator("[name=option_eyes]").input_value() == "[[0.394,0.42],[0.61,0.42]]"
    box = eye.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 30, box["y"] + 20)
    page.mouse.up()
    assert page.locator("[name=option_eyes]").input_value() != "[[0.394,0.42],[0.61,0.42]]"
    assert violations(page, within="#content-main") == []
    with page.expect_navigation():
        page.locator("button[name=_continue]").click()
    avatar.refresh_from_db()
    assert avatar.engine == "portrait"
    expect(page.locator("[data-screen] img.m-face")).to_have_attribute("src", avatar.portrait.url)


@pytest.mark.soak
def test_a_clip_of_an_earlier_face_is_not_played(page: Page, avatar: Avatar) -> None:
    avatar.preview.save("earlier.mp4", ContentFile(b"a clip of Otto"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(admin_url(Avatar, "change", avatar.pk))

    expect(page.locator("[data-screen] img.m-face")).to_be_visible()
    expect(page.locator("[data-video]")).to_be_visible(timeout=60_000)
    assert not [url for url in asked if admin_url(Avatar, "clip", avatar.pk) in url]


def test_the_list_passes_and_characters_move_in_it(page: Page, avatar: Avatar) -> None:
    page.goto(admin_url(Avatar, "changelist"))
    page.locator(".m-avatar").hover()
    expect(page.locator(".m-avatar video.m-shown")).to_be_visible()  # nobody has rendered a preview
    expect(page.get_by_role("heading", name="Engines on this server")).to_be_visible()
    for fold in page.locator(".m-engine-table summary").all():
        fold.click()
    assert violations(page, within="#content-main") == []


def test_labels_on_a_phone_are_plain_words(page: Page, avatar: Avatar) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(admin_url(Avatar, "changelist"))

    labels = page.locator("#result_list tbody :is(td, th)").evaluate_all(
        """(cells) => cells.map((cell) => {
            const style = getComputedStyle(cell, "::before");
            const label = style.content === "attr(data-label)" ? cell.dataset.label : style.content.slice(1, -1);
            return `${label}, ${style.textTransform}`;
        })"""
    )

    words = ["Select", "Avatar", "Project", "Engine", "Used by", "Changed"]
    assert labels == [f"{word}, none" for word in words]


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.soak)])
def test_progress_is_drawn_in_the_colours_of_the_page(
    page: Page, avatar: Avatar, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(admin_url(Avatar, "change", avatar.pk))

    looks = page.locator("[data-progress] progress").evaluate(
        """(bar) => {
            const card = document.createElement("i");
            card.style.color = "var(--card)";
            bar.after(card);
            bar.value = 0.5;
            const { appearance, backgroundColor } = getComputedStyle(bar);
            return [appearance, backgroundColor === getComputedStyle(card).color];
        }"""
    )

    assert looks == ["none", True]
