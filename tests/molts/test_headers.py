"""What every answer carries, and what a failure shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory

from molts.middleware import ContentSecurityPolicy
from sessions.models import RoomLink


def directives(policy: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.strip().partition(" ") for part in policy.split(";"))}


@pytest.mark.parametrize("path", ["/", "/r/{link}", "/administration", "/healthz", "/nothing", "/api/v1/nothing"])
def test_every_page_takes_scripts_from_this_host_alone(client: Client, link: RoomLink, path: str) -> None:
    response = client.get(path.format(link=link.public_id))
    policy = directives(response["Content-Security-Policy"])
    for name in ("script-src", "style-src", "default-src"):
        assert policy[name] == "'self'"
    assert policy["base-uri"] == policy["object-src"] == "'none'"
    # The room alone may stand in a frame: in the admin's, and where its link allows (tests/sessions/test_embed.py).
    assert policy["frame-ancestors"] == ("'self'" if path.startswith("/r/") else "'none'")
    assert settings.LIVEKIT_PUBLIC_URL in policy["connect-src"].split()
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == ("SAMEORIGIN" if path.startswith("/r/") else "DENY")
    assert response["Referrer-Policy"] == "same-origin"
    assert "microphone=(self)" in response["Permissions-Policy"]


@pytest.mark.django_db
def test_only_the_interface_documentation_may_run_scripts_of_its_own(client: Client) -> None:
    policy = directives(client.get("/api/docs/")["Content-Security-Policy"])
    assert "'unsafe-inline'" in policy["script-src"]
    assert "http" not in policy["script-src"]


def test_the_admin_may_compile_its_own_expressions_and_no_more(client: Client, db: None) -> None:
    policy = directives(client.get("/admin/login/")["Content-Security-Policy"])
    assert policy["script-src"] == "'self' 'unsafe-eval'", "Alpine; no inline script, no other host"
    assert policy["style-src"] == "'self' 'unsafe-inline'"
    assert policy["frame-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"


def test_a_view_keeps_a_policy_of_its_own(rf: RequestFactory) -> None:
    own = HttpResponse(headers={"Content-Security-Policy": "frame-ancestors https://example.org"})
    answered = ContentSecurityPolicy(lambda request: own)(rf.get("/r/somewhere"))
    assert answered["Content-Security-Policy"] == "frame-ancestors https://example.org"


@pytest.mark.parametrize(
    ("path", "accept"), [("/", "text/html"), ("/r/{link}", "text/html"), ("/r/{link}", "application/json")]
)
def test_a_failure_shows_nothing_of_the_inside(
    link: RoomLink, monkeypatch: pytest.MonkeyPatch, path: str, accept: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("canary-secret in a traceback")

    monkeypatch.setattr("sessions.views.render", fail)
    client = Client(raise_request_exception=False)
    response = client.get(path.format(link=link.public_id), headers={"Accept": accept})
    assert response.status_code == 500
    assert b"canary" not in response.content
    assert b"Traceback" not in response.content
    if accept == "application/json":
        assert response.json()["type"] == "server_error"
    else:
        assert b"<html" in response.content


def test_personal_answers_are_kept_by_nobody(link: RoomLink, alice: User, sign_in: Callable[[User], Client]) -> None:
    client = sign_in(alice)
    for path in (f"/r/{link.public_id}", "/api/v1/agents", "/readyz"):
        assert "no-store" in client.get(path)["Cache-Control"]


def test_it_serves_no_file_outside_the_portraits(client: Client, db: None) -> None:
    for path in (
        "/media/portraits/../../molts.sqlite3",
        "/media/portraits/%2e%2e/secrets/secret_key",
        "/media/portraits/",
        f"/media/portraits/{'a' * 5_000}",
        f"/media/portraits/{'a' * 300}.png",
        f"/media/portraits/{'a/' * 5_000}x.png",
    ):
        assert client.get(path).status_code in (400, 404)
