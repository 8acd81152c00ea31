"""A browser at the editors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page
from pytest_django.live_server_helper import LiveServer

from avatars.engines import ENGINES
from tests.chromium import browser, open_tab

__all__ = ["browser"]  # a fixture


@pytest.fixture
def shipped_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engines that tests register, wherever else in this process they are."""
    for key, place in list(ENGINES.items()):
        if not place.startswith("avatars."):
            monkeypatch.delitem(ENGINES, key)


@pytest.fixture
def page(bob: User, live_server: LiveServer, browser: Browser) -> Iterator[Page]:
    """A browser tab in which bob, an editor, is signed in. Errors of scripts fail the test."""
    errors: list[str] = []
    with open_tab(browser, bob, live_server.url) as page:
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors
