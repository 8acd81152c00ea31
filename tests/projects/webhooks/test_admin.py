"""Webhooks in the admin: a secret is shown once, a test shows its answer, a delivery is replayed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from projects.models import AuditEntry, Project
from projects.webhooks import services
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint
from tests.forms import admin_url as url
from tests.forms import form_data, form_errors, messages_of
from tests.projects.webhooks.conftest import Clock, make_endpoint
from tests.projects.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

SignIn = Callable[[User], Client]
SECRET = re.compile(r"whsec_[\w+/]+=*")


@pytest.fixture(autouse=True)
def _own_cache(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "hooks"}}
    cache.clear()


@pytest.fixture
def editor(bob: User, sign_in: SignIn) -> Client:
    return sign_in(bob)


def fill(client: Client, **values: Any) -> dict[str, Any]:
    """The form of a new endpoint as a browser would post it, with these values."""
    page = client.get(url(WebhookEndpoint, "add"))
    return {**form_data(page), "_once": page.context["once"], **values}


def test_an_editor_adds_one_and_sees_its_secret_once(project: Project, editor: Client, receiver: Receiver) -> None:
    form = fill(editor, url=receiver.url, description="CRM", event_types=["session.ended"])
    answer = editor.post(url(WebhookEndpoint, "add"), form)

    assert answer.status_code == 200
    (secret,) = set(SECRET.findall(answer.content.decode()))
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.project, endpoint.event_types, endpoint.enabled) == (project, ["session.ended"], True)
    assert [secret] == endpoint.secrets(endpoint.created_at)
    assert "no-store" in answer["Cache-Control"] or "no-cache" in answer["Cache-Control"]
    again = editor.post(url(WebhookEndpoint, "add"), form, follow=True)
    assert WebhookEndpoint.objects.count() == 1
    for page in (again, editor.get(url(WebhookEndpoint, "changelist"))):
        assert secret not in page.content.decode()


@pytest.mark.parametrize("wrong", ["nowhere", "http://10.0.0.1/hook", "https://user:word@example.com/"])
def test_a_wrong_address_is_refused_at_its_field(project: Project, editor: Client, wrong: str) -> None:
    answer = editor.post(url(WebhookEndpoint, "add"), fill(editor, url=wrong))
    assert set(form_errors(answer)) == {"url"}
    assert not WebhookEndpoint.objects.exists()


def test_a_change_keeps_the_secret_and_switching_off_ends_what_waits(project: Project, editor: Client) -> None:
    endpoint, _ = make_endpoint(project, "https://example.com/hook")
    services.publish(project, EventType.SESSION_ENDED, {})
    page = url(WebhookEndpoint, "change", endpoint.pk)
    form = form_data(editor.get(page))
    del form["enabled"]
    assert editor.post(page, {**form, "description": "Other"}).status_code == 302

    changed = WebhookEndpoint.objects.get()
    assert (changed.description, changed.enabled, changed.secret_cipher) == ("Other", False, endpoint.secret_cipher)
    assert WebhookDelivery.objects.get().state == "failed"


def test_a_rotation_shows_the_new_secret_once(project: Project, editor: Client) -> None:
    endpoint, old = make_endpoint(project, "https://example.com/hook")
    version = editor.get(url(WebhookEndpoint, "change", endpoint.pk)).context["secret_version"]
    rotate = url(WebhookEndpoint, "rotate", endpoint.pk)
    (new,) = set(SECRET.findall(editor.post(rotate, {"version": version}).content.decode()))
    assert new != old

    again = editor.post(rotate, {"version": version}, follow=True)
    assert "already" in messages_of(again)[0]
    assert WebhookEndpoint.objects.get().secrets(endpoint.created_at) == [new, old]
    assert AuditEntry.objects.filter(text="Made a new secret.").count() == 1


def test_a_test_shows_what_was_answered(project: Project, editor: Client, receiver: Receiver) -> None:
    endpoint, _ = make_endpoint(project, receiver.url)
    receiver.answers, receiver.body = [418], b"<script>alert(1)</script> teapot"
    answer = editor.post(url(WebhookEndpoint, "test", endpoint.pk), follow=True)

    assert messages_of(answer) == ["Test sent: It answered 418."]
    html = answer.content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; teapot" in html
    assert "<script>alert(1)" not in html
    assert str(WebhookDelivery.objects.get().event_id) in html
    receiver.answers = [204]
    answer = editor.post(url(WebhookEndpoint, "test", endpoint.pk), follow=True)
    assert messages_of(answer) == ["Test sent: it was taken."]


def test_a_delivery_is_replayed_from_its_page_and_from_the_list(
    project: Project, editor: Client, receiver: Receiver, clock: Clock
) -> None:
    make_endpoint(project, receiver.url)
    services.publish(project, EventType.SESSION_ENDED, {})
    delivery = WebhookDelivery.objects.get()
    answer = editor.post(url(WebhookDelivery, "replay", delivery.pk), follow=True)
    assert messages_of(answer) == ["This delivery is still under way."]
    clock.tick()
    editor.post(url(WebhookDelivery, "replay", delivery.pk))
    clock.tick()
    editor.post(url(WebhookDelivery, "changelist"), {"action": "replay", "_selected_action": [str(delivery.pk)]})
    clock.tick()

    assert len(receiver.received) == 3
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1


def test_a_viewer_looks_and_cannot_send_or_rotate(project: Project, vera: User, sign_in: SignIn) -> None:
    endpoint, _ = make_endpoint(project, "https://example.com/hook")
    services.publish(project, EventType.SESSION_ENDED, {})
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(state="failed", next_try_at=None)
    viewer = sign_in(vera)
    page = viewer.get(url(WebhookEndpoint, "change", endpoint.pk)).content.decode()
    assert "Rotate" not in page
    assert "Send a test" not in page
    assert "everything" in page
    assert "Replay" not in viewer.get(url(WebhookDelivery, "change", delivery.pk)).content.decode()
    for address in (
        url(WebhookEndpoint, "rotate", endpoint.pk),
        url(WebhookEndpoint, "test", endpoint.pk),
        url(WebhookDelivery, "replay", delivery.pk),
        "/admin/webhooks/webhookendpoint/callback-secret/",
    ):
        assert viewer.post(address, {"project": str(project.pk)}).status_code == 403


def test_another_projects_are_not_there(
    project: Project, charlie: User, other_project: Project, sign_in: SignIn
) -> None:
    endpoint, _ = make_endpoint(project, "https://example.com/hook")
    services.publish(project, EventType.SESSION_ENDED, {})
    stranger = sign_in(charlie)
    for address in (
        url(WebhookEndpoint, "rotate", endpoint.pk),
        url(WebhookEndpoint, "test", endpoint.pk),
        url(WebhookDelivery, "replay", WebhookDelivery.objects.get().pk),
    ):
        assert stranger.post(address).status_code == 404
    callbacks = "/admin/webhooks/webhookendpoint/callback-secret/"
    assert stranger.post(callbacks, {"project": str(project.pk)}).status_code == 403


def test_the_secret_of_callbacks_has_a_page_of_its_own(project: Project, editor: Client) -> None:
    callbacks = "/admin/webhooks/webhookendpoint/callback-secret/"
    shown = editor.post(callbacks, {"project": str(project.pk)}).content.decode()
    assert len(set(SECRET.findall(shown))) == 1
    endpoint = WebhookEndpoint.objects.get()
    again = editor.post(callbacks, {"project": str(project.pk)}, follow=True)
    assert again.redirect_chain[-1][0] == url(WebhookEndpoint, "change", endpoint.pk)
    html = again.content.decode()
    assert "Rotate the secret" in html
    assert "Send a test" not in html
    assert editor.get(url(WebhookEndpoint, "delete", endpoint.pk)).status_code == 403


def test_empty_lists_name_the_next_step(project: Project, editor: Client) -> None:
    assert "signed request" in editor.get(url(WebhookEndpoint, "changelist")).content.decode()
    assert "Add an endpoint" in editor.get(url(WebhookDelivery, "changelist")).content.decode()
    make_endpoint(project, "https://example.com/hook")
    assert "Send a test from an endpoint" in editor.get(url(WebhookDelivery, "changelist")).content.decode()


def test_one_too_many_is_refused_in_words(project: Project, editor: Client) -> None:
    for _ in range(services.MOST_ENDPOINTS):
        make_endpoint(project, "https://example.com/hook")
    answer = editor.post(url(WebhookEndpoint, "add"), fill(editor, url="https://example.com/hook"))
    assert "at most" in str(form_errors(answer)["__all__"])


def test_a_longer_list_asks_the_database_no_more_often(project: Project, editor: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert editor.get(url(WebhookEndpoint, "changelist")).status_code == 200
            assert editor.get(url(WebhookDelivery, "changelist")).status_code == 200
        return len(captured)

    make_endpoint(project, "https://example.com/hook")
    services.publish(project, EventType.SESSION_ENDED, {})
    queries()
    few = queries()
    for _ in range(5):
        make_endpoint(project, "https://example.com/hook")
        services.publish(project, EventType.SESSION_ENDED, {})
    assert queries() == few
