"""A browser at the editors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from avatars.engines import ENGINES


@pytest.fixture
def shipped_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engines that tests register, wherever else in this process they are."""
    for key, place in list(ENGINES.items()):
        if not place.startswith("avatars."):
            monkeypatch.delitem(ENGINES, key)


@pytest.fixture
def _queries_beside_playwright() -> Iterator[None]:
    """Playwright runs an event loop on this thread, which Django takes for a place where it must not wait."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@contextmanager
def open_browser(user: User, address: str) -> Iterator[Page]:
    """A browser tab in which `user` is signed in. Errors of scripts fail the test."""
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    errors: list[str] = []
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=address)
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": address}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors


@pytest.fixture
def page(bob: User, live_server: LiveServer, _queries_beside_playwright: None) -> Iterator[Page]:
    """A browser tab in which bob, an editor, is signed in."""
    with open_browser(bob, live_server.url) as page:
        yield page
