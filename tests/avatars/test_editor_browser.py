"""What the editor's scripts do, in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Dialog, Locator, Page, expect

from avatars.models import Agent, PipelineStep, Voice
from projects.models import Project, ProviderKey
from tests.axe import AXE, violations
from tests.forms import admin_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def open_tab(page: Page, agent: Agent, tab: str) -> None:
    page.goto(f"{admin_url(Agent, 'change', agent.pk)}#{tab}")
    expect(page.locator(f"#panel-{tab}")).to_be_visible()


def rows(page: Page, kind: str) -> Locator:
    return page.locator(f"[data-chain={kind}] [data-rows] > [data-row]").filter(visible=True)


def add_row(page: Page, kind: str, provider: str) -> Locator:
    page.locator(f"[data-chain={kind}] [data-add-row]").click()
    row = rows(page, kind).last
    row.locator("[data-provider-select]").select_option(provider)
    return row


def save(page: Page) -> None:
    with page.expect_navigation():
        page.locator("button[name=_continue]").click()


def providers(agent: Agent, kind: str) -> list[str]:
    return list(agent.pipeline_steps.filter(kind=kind).values_list("provider", flat=True))


def test_rows_are_added_ordered_and_removed(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "pipeline")
    add_row(page, "stt", "faster_whisper")
    add_row(page, "stt", "pocketsphinx").locator("[data-up]").click()
    add_row(page, "llm", "scripted")
    save(page)

    assert page.url.endswith("#pipeline"), "saving comes back to the same tab"
    assert providers(agent, "stt") == ["pocketsphinx", "faster_whisper"]
    rows(page, "stt").nth(1).locator("[data-drag]").drag_to(rows(page, "stt").nth(0), target_position={"x": 60, "y": 4})
    rows(page, "llm").first.locator("[data-remove]").click()
    save(page)

    assert providers(agent, "stt") == ["faster_whisper", "pocketsphinx"]
    assert providers(agent, "llm") == []


def test_the_keyboard_puts_rows_in_order(page: Page, agent: Agent) -> None:
    for place, provider in enumerate(("faster_whisper", "pocketsphinx"), 1):
        PipelineStep.objects.create(agent=agent, kind="stt", position=place, provider=provider)
    open_tab(page, agent, "pipeline")

    rows(page, "stt").nth(0).locator("[data-down]").focus()
    page.keyboard.press("Enter")

    expect(rows(page, "stt").nth(1).locator("[data-up]")).to_be_focused()
    save(page)
    assert providers(agent, "stt") == ["pocketsphinx", "faster_whisper"]


def test_another_provider_brings_its_own_fields_and_keeps_what_was_typed(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "pipeline")
    row = add_row(page, "stt", "faster_whisper")
    row.locator("summary").click()
    row.get_by_label("Beam size").fill("3")
    row.get_by_label("Language").fill("de")

    row.locator("[data-provider-select]").select_option("groq")

    expect(row.get_by_label("Model")).to_have_attribute("placeholder", "whisper-large-v3-turbo")
    expect(row.locator("[name$=option_beam_size]")).to_have_count(0)
    expect(row.locator("[name$=option_language]")).to_have_value("de")
    expect(row.get_by_label("Key")).to_be_visible()
    row.locator("[data-provider-select]").select_option("faster_whisper")
    expect(row.locator("[name$=option_beam_size]")).to_have_value("3")
    expect(row.get_by_label("Key")).to_be_hidden()
    save(page)
    assert agent.pipeline_steps.get(provider="faster_whisper").options == {"beam_size": 3, "language": "de"}


def test_fields_suggest_what_is_offered_and_take_anything_else(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "pipeline")
    row = add_row(page, "tts", "espeak")
    field = row.get_by_label("Voice", exact=True)

    field.focus()

    expect(row.locator("datalist option[value=en-us]")).to_be_attached()
    assert field.evaluate("field => field.list.options.length") > 50
    row.locator("[data-provider-select]").select_option("supertonic")
    row.get_by_label("Voice", exact=True).focus()
    expect(row.locator("datalist option[value=M5]")).to_be_attached()
    row.locator("[data-provider-select]").select_option("espeak")
    row.get_by_label("Voice", exact=True).fill("en-gb+f3")
    save(page)
    assert agent.pipeline_steps.get(options__voice="en-gb+f3").provider == "espeak"


def test_a_preset_fills_in_its_values(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "turns")
    page.get_by_label("Snappy").check()
    expect(page.get_by_label("Shortest wait (ms)")).to_have_value("250")
    page.get_by_label("Shortest wait (ms)").fill("260")
    expect(page.get_by_label("Custom")).to_be_checked()
    save(page)

    agent.refresh_from_db()
    assert (agent.min_endpointing_ms, agent.max_endpointing_ms) == (260, 1200)


def test_tabs_go_by_the_arrow_keys(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "who")
    page.get_by_role("tab", name="Who it is").focus()
    for key, tab in (("ArrowRight", "Pipeline"), ("End", "Revisions"), ("ArrowRight", "Who it is")):
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name=tab)).to_be_focused()
        expect(page.get_by_role("tabpanel", name=tab)).to_be_visible()
        expect(page.get_by_role("tabpanel")).to_have_count(1)


def test_it_warns_of_unsaved_changes(page: Page, agent: Agent) -> None:
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", stay)
    open_tab(page, agent, "knowledge")
    page.get_by_label("A visitor's question").fill("Does the box to ask in count?")
    page.goto(admin_url(Agent, "changelist"))
    assert asked == [], "it does not"

    open_tab(page, agent, "who")
    page.get_by_label("Description").fill("New.")
    expect(page.get_by_text("Unsaved changes are not in it.")).to_be_visible()
    page.goto(admin_url(Agent, "changelist"))
    assert asked == ["beforeunload"]


def test_a_question_is_tried_on_what_is_not_saved(page: Page, agent: Agent) -> None:
    open_tab(page, agent, "knowledge")
    page.locator("[data-chain=answers] [data-add-row]").click()
    page.get_by_label("When asked").last.fill("When are you open?")
    page.get_by_label("It says").last.fill("From nine to five.")
    page.get_by_label("A visitor's question").fill("when do you open")
    page.keyboard.press("Enter")

    expect(page.locator("[data-ask-answer]")).to_contain_text("From nine to five.")
    expect(page.locator("[data-ask-answer]")).to_contain_text("% sure")


def test_a_voice_is_heard_before_it_is_saved(page: Page, project: Project) -> None:
    page.goto(admin_url(Voice, "add"))
    page.locator("[data-provider-select]").select_option("espeak")
    page.locator("[data-listen-go]").click()
    expect(page.locator("[data-listen-audio]")).to_be_visible()
    expect(page.locator("[data-listen-status]")).not_to_contain_text("Speaking")

    page.locator("[data-provider-select]").select_option("openai")
    page.locator("[data-listen-go]").click()

    expect(page.locator("[data-listen-status]")).to_contain_text("needs a key")
    assert not Voice.objects.exists()


@pytest.mark.skipif(not AXE.exists(), reason="needs the page's own packages: make setup")
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_axe_finds_nothing_in_any_tab(page: Page, agent: Agent, scheme: str) -> None:
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai")
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    open_tab(page, agent, "who")

    for tab in page.get_by_role("tab").all():
        tab.click()
        assert violations(page) == [], tab.inner_text()


CUT = """(select) => {
  const style = getComputedStyle(select);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const arrow = 20;
  const room = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - arrow;
  return pen.measureText(select.selectedOptions[0].textContent.trim()).width > room;
}"""


@pytest.mark.soak
@pytest.mark.parametrize("width", [768, 1440])
def test_what_is_chosen_in_a_row_can_be_read(page: Page, agent: Agent, width: int) -> None:
    key = ProviderKey(project=agent.project, name="Kitchen language model", provider="openai_compatible")
    key.set_secret("sk-0123456789")
    key.save()
    step = {"provider": "openai_compatible", "provider_key": key, "options": {"model": "m"}}
    PipelineStep.objects.create(agent=agent, kind="llm", position=1, **step)
    PipelineStep.objects.create(agent=agent, kind="stt", position=1, provider="faster_whisper")
    page.set_viewport_size({"width": width, "height": 900})
    open_tab(page, agent, "pipeline")

    selects = page.locator("[data-rows] select").filter(visible=True)
    assert selects.count() == 3
    assert [select.get_attribute("name") for select in selects.all() if select.evaluate(CUT)] == []


def test_on_a_phone_pointing_tells_the_whole_name(page: Page, agent: Agent) -> None:
    PipelineStep.objects.create(agent=agent, kind="stt", position=1, provider="faster_whisper")
    page.set_viewport_size({"width": 390, "height": 844})
    open_tab(page, agent, "pipeline")

    select = page.locator("[data-chain=stt] [data-provider-select]").filter(visible=True)
    select.hover()
    expect(select).to_have_attribute("title", "Whisper on this machine (faster-whisper)")
    expect(select).to_have_css("text-overflow", "ellipsis")


@pytest.mark.soak
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_the_menu_of_the_chosen_avatar_stands_beside_the_pictures(page: Page, agent: Agent, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_tab(page, agent, "who")

    pictures = page.locator(".m-picker").bounding_box()
    menu = page.locator("[data-id=related-widget-wrapper-avatar] .material-symbols-outlined").filter(
        visible=True, has_text="more_vert"
    )
    box = menu.bounding_box()
    assert pictures is not None
    assert box is not None
    assert pictures["y"] <= box["y"] < pictures["y"] + pictures["height"]
    assert box["x"] >= pictures["x"] + pictures["width"]
