"""Every page of the admin in Chromium, for every role: no script fails, and nothing it asks for is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.urls import reverse
from playwright.sync_api import Browser, ConsoleMessage, Page
from pytest_django.live_server_helper import LiveServer

from avatars.models import Agent, AgentRevision, Avatar, PipelineStep, Voice
from avatars.services import save_agent_revision
from projects.models import ApiKey, Member, Project, ProviderKey
from sessions.models import LiveSession, RoomLink
from tests.chromium import browser, open_tab
from tests.forms import admin_url as url
from tests.projects.world import make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.django_db(transaction=True)]

__all__ = ["browser"]  # a fixture

LOOKED_AT = ("change", "delete", "history")
ROLES = ("owner", *(pytest.param(role, marks=pytest.mark.soak) for role in ("editor", "viewer", "superuser")))


@dataclass
class Seat:
    """A signed-in browser tab that notes what goes wrong in it."""

    page: Page
    wrong: dict[str, list[str]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    now: str = ""

    def note(self, text: str) -> None:
        self.wrong.setdefault(self.now, []).append(text)

    def open(self, address: str) -> bool:
        """Whether the page is there for this role; what a refusal prints counts for nothing."""
        self.now = address
        response = self.page.goto(address, wait_until="load")
        assert response is not None
        assert response.status in (200, 403, 404), (address, response.status)
        if response.status == 200:
            self.opened.append(address)
        else:
            self.wrong.pop(address, None)
        return response.status == 200


Take = Callable[[User], Seat]
"""Signs somebody in, in a tab of their own."""


@pytest.fixture
def take(browser: Browser, live_server: LiveServer) -> Iterator[Take]:
    with ExitStack() as open_tabs:
        yield lambda user: _seat(open_tabs.enter_context(open_tab(browser, user, live_server.url)))


def _seat(page: Page) -> Seat:
    page.set_default_timeout(60_000)
    seat = Seat(page)
    page.on("pageerror", lambda error: seat.note(f"script: {error}"))

    def hear(message: ConsoleMessage) -> None:
        # Moving previews are tested where they are made; of many opened one after the other some are refused.
        if message.type == "error" and "/avatars/avatar/preview/" not in message.location["url"]:
            seat.note(f"console: {message.text} ({message.location['url']})")

    page.on("console", hear)
    return seat


def things(project: Project) -> dict[type[Model], Model]:
    """One of everything, and an agent whose newest revision has two models."""
    made = {model: make(model, project) for model in admin.site._registry if model is not User}
    made[User] = User.objects.create_user("lee")
    LiveSession.objects.update(state="ended")  # this test's server speaks no WebSocket to follow one that runs
    agent = made[Agent]
    assert isinstance(agent, Agent)
    made[AgentRevision] = agent.revisions.get()
    for place, name in enumerate(("scripted", "scripted"), 1):
        PipelineStep.objects.create(agent=agent, kind="llm", position=place, provider=name)
    save_agent_revision(agent=agent)
    return made


def addresses(made: dict[type[Model], Model]) -> Iterator[str]:
    yield from ("/admin/", "/admin/?range=24h", "/admin/password_change/", "/admin/nowhere/")
    for model, thing in made.items():
        yield url(model, "changelist")
        for name in LOOKED_AT:
            yield url(model, name, thing.pk)
        yield url(model, "add")
        if model in (Voice, Avatar, ProviderKey):
            yield f"{url(model, 'add')}?_popup=1&_to_field=id"
            yield f"{url(model, 'change', thing.pk)}?_popup=1&_to_field=id"
    yield reverse("admin:avatars_agentrevision_roll_back", args=[made[AgentRevision].pk])
    yield reverse("admin:auth_user_password_change", args=[made[User].pk])


@pytest.mark.parametrize("role", ROLES)
def test_no_script_of_any_page_fails(
    role: str, project: Project, alice: User, bob: User, vera: User, root: User, take: Take
) -> None:  # fmt: skip
    made = things(project)
    seat = take({"owner": alice, "editor": bob, "viewer": vera, "superuser": root}[role])

    for address in addresses(made):
        seat.open(address)

    assert not seat.wrong, json.dumps(seat.wrong, indent=1)
    lists = [model for model in made if model is not User or role == "superuser"]
    assert {url(model, "changelist") for model in lists} <= set(seat.opened)
    assert {url(model, "change", made[model].pk) for model in lists} <= set(seat.opened)
    deleted = url(LiveSession, "delete", made[LiveSession].pk)
    assert (deleted in seat.opened) is (role in ("owner", "superuser"))
    if role == "owner":
        _press_what_leads_on(seat, made)
        assert not seat.wrong, json.dumps(seat.wrong, indent=1)


def _press_what_leads_on(seat: Seat, made: dict[type[Model], Model]) -> None:
    """Pages that no address leads to: of chosen rows to delete, of a new key."""
    page = seat.page
    seat.open(url(RoomLink, "changelist"))
    seat.now = "delete selected"
    page.evaluate(
        """() => {
            const form = document.getElementById("changelist-form");
            form.querySelector("input.action-select").checked = true;
            const action = document.createElement("input");
            Object.assign(action, {type: "hidden", name: "action", value: "delete_selected"});
            form.querySelector("[name=action]")?.remove();
            form.append(action);
        }"""
    )
    with page.expect_navigation():
        page.evaluate("document.getElementById('changelist-form').submit()")
    assert page.locator("input[name=post]").count() == 1

    seat.open(url(ApiKey, "add"))
    seat.now = "a new key"
    page.locator("[name=name]").fill("Robot")
    with page.expect_navigation():
        page.locator("[name=_save]").first.click()
    assert page.locator("section.once").count() == 1
    page.reload()
    assert ApiKey.objects.filter(name="Robot").count() == 1
    assert page.url.endswith(url(ApiKey, "change", ApiKey.objects.get(name="Robot").pk))


def test_a_roll_back_shows_its_rows_as_wide_as_the_page(project: Project, alice: User, take: Take) -> None:
    made = things(project)
    seat = take(alice)
    for size in ({"width": 1440, "height": 900}, {"width": 390, "height": 844}):
        seat.page.set_viewport_size(size)  # type: ignore[arg-type]
        for address in (
            reverse("admin:avatars_agentrevision_roll_back", args=[made[AgentRevision].pk]),
            url(AgentRevision, "change", AgentRevision.objects.filter(number=2).get().pk),
        ):
            assert seat.open(address)
            lines = seat.page.locator(".m-lines li > span:last-child").filter(visible=True)
            assert lines.count() >= 2
            for at in range(lines.count()):
                box = lines.nth(at).bounding_box()
                assert box
                assert box["width"] > 120, "its text, not a letter a line"
                assert box["height"] < 60


def test_a_new_agent_is_offered_the_parts_of_its_project_alone(
    project: Project, other_project: Project, charlie: User, take: Take
) -> None:
    Member.objects.create(project=project, user=charlie, role="owner")
    parts = {one: {kind: make(kind, one) for kind in (Voice, Avatar, ProviderKey)} for one in (project, other_project)}
    seat = take(charlie)

    def offered(name: str) -> set[str]:
        found: list[str] = seat.page.locator(f"select[name={name}] option").evaluate_all(
            "(options) => options.filter((each) => !each.disabled && each.value).map((each) => each.value)"
        )
        return set(found)

    seat.open(url(Agent, "add"))
    for one in (project, other_project, project):
        seat.page.locator("select#id_project").select_option(str(one.pk))
        assert offered("voice") == {str(parts[one][Voice].pk)}
        assert offered("avatar") == {str(parts[one][Avatar].pk)}
        gallery = seat.page.locator(".m-picker [data-value]:not([data-value=''])").filter(visible=True)
        assert [each.get_attribute("data-value") for each in gallery.all()] == [str(parts[one][Avatar].pk)]
        seat.page.locator("select[name=voice]").select_option(str(parts[one][Voice].pk))
    for address in (url(Voice, "add"), url(Avatar, "add")):
        seat.open(address)
        for one in (project, other_project):
            seat.page.locator("select#id_project").select_option(str(one.pk))
            if address == url(Voice, "add"):
                seat.page.locator("[data-provider-select]").select_option("openai")
                assert offered("provider_key") == {str(parts[one][ProviderKey].pk)}
            else:
                assert offered("provider_key") <= {str(parts[one][ProviderKey].pk)}
    assert not seat.wrong, json.dumps(seat.wrong, indent=1)
