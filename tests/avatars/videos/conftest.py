from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from avatars.engines import ENGINES, get_engine
from avatars.videos import previews, queue
from tests.avatars.stand_in import HERE
from tests.avatars.videos.stand_ins import Worker, tone


@pytest.fixture(autouse=True)
def _cache_of_its_own(settings: Settings, tmp_path: Path) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": str(tmp_path)}
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a stand-in in the place of the puppet."""

    def use(name: str) -> None:
        monkeypatch.setitem(ENGINES, "puppet", f"{HERE}.{name}")
        get_engine.cache_clear()

    use("Round")
    yield use
    get_engine.cache_clear()


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "speak_sample", lambda **_: tone())


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    worker = Worker()
    monkeypatch.setattr(queue, "send", worker.send)
    yield worker
    worker.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Jobs wait: nobody makes what is sent."""
    sent: list[object] = []
    monkeypatch.setattr(queue, "send", sent.append)
    return sent
