"""The running copy that most end-to-end tests share, and visitors whose last picture is kept when a test fails.

Tests of the room page alone use the harness instead: `room`, `media`, `join`, `launch` and `page`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.e2e.browser import Visitor
from tests.e2e.page_harness import MICROPHONE, MediaServer, RoomServer, ToneAgent, find_media_server
from tests.e2e.rooms import Rooms, make_rooms
from tests.e2e.site import Site
from tests.e2e.speech import Spoken, microphone
from tests.e2e.stack import MICRO_WHISPER, ROOT, Molts

RESULTS = ROOT / "test-results"
LOG_TAIL = 6_000


@pytest.fixture(scope="session")
def molts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Molts]:
    """`make up` as a stranger types it, with a recogniser's folder as its only extra."""
    copy = Molts(tmp_path_factory.mktemp("up"), env={"MOLTS_WHISPER_MODEL": str(MICRO_WHISPER)})
    yield from running(copy)


@pytest.fixture(scope="session")
def secrets_given() -> dict[str, str]:
    """Secrets that the operator of `bare` sets in the environment."""
    return {
        "SECRET_KEY": token_urlsafe(50),
        "MOLTS_FIELD_KEYS": ",".join(Fernet.generate_key().decode() for _ in range(2)),
        "LIVEKIT_API_KEY": "APIbare",
        "LIVEKIT_API_SECRET": token_urlsafe(36),
        "MOLTS_HEALTH_TOKEN": token_urlsafe(24),
        "AWS_SECRET_ACCESS_KEY": token_urlsafe(30),
    }


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, secrets_given: dict[str, str]) -> Iterator[Molts]:
    """A copy on a machine without any speech model and with none in reach; providers on this machine are allowed."""
    no_models = str(tmp_path_factory.mktemp("no-models"))
    env = {"HF_HOME": no_models, "MOLTS_ALLOWED_NETWORKS": "127.0.0.0/8", **secrets_given}
    yield from running(Molts(tmp_path_factory.mktemp("bare"), env=env))


@pytest.fixture(scope="session")
def blank(bare: Molts) -> Molts:
    """`bare`, holding nothing any more but its first admin: its other tests come before (tests/conftest.py)."""
    bare.shell("from projects.models import Project; Project.objects.all().delete()")
    return bare


def running(copy: Molts, line: str = r"^molts is ready: ") -> Iterator[Molts]:
    """`copy` from ready to its end, which must be clean."""
    try:
        seconds = copy.wait_until_ready(line)
        print(f"up: {line!r} after {seconds:.1f} s")
        yield copy
        copy.stop()
    finally:
        copy.kill()


@pytest.fixture(scope="session")
def rooms(molts: Molts) -> Rooms:
    return make_rooms(molts)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Not for longer than a module: its event loop runs in the tests' thread."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


Enter = Callable[..., Visitor]


@pytest.fixture
def enter(playwright: Playwright, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Enter]:
    """A browser of its own for each call; `says` is what its microphone will say, as (second, sentence)."""
    visitors: list[Visitor] = []

    def enter(*says: tuple[float, str | Spoken], flags: tuple[str, ...] = ()) -> Visitor:
        name = f"visitor{len(visitors) + 1}"
        voice = microphone(tmp_path / f"{name}.wav", *says)
        visitor = Visitor(playwright, name, microphone=voice, flags=flags)
        visitors.append(visitor)
        return visitor

    yield enter
    if getattr(request.node, "failed", False):
        _keep(request.node.name, visitors, _copies(request))
    for visitor in visitors:
        with suppress(Exception):  # one that a test has crashed is closed already
            visitor.close()


# -- the room page by itself ------------------------------------------------------------------------------------------
PLAIN = ["--no-sandbox", "--disable-background-networking"]
Launch = Callable[[list[str]], Page]
Join = Callable[..., ToneAgent]


@pytest.fixture(scope="module")
def media() -> Iterator[MediaServer]:
    program = find_media_server()
    assert program, "livekit-server is missing: run `make setup`"
    server = MediaServer(program)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def room(media: MediaServer) -> Iterator[RoomServer]:
    built = ROOT / "static" / "dist" / "room.js"
    assert built.is_file(), "the page is not built: run `make setup` or `npm run build`"
    server = RoomServer(media_url=media.url, token=media.token)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browsers(playwright: Playwright) -> Iterator[dict[tuple[str, ...], Browser]]:
    """Started browsers by their flags."""
    browsers: dict[tuple[str, ...], Browser] = {}
    yield browsers
    for browser in browsers.values():
        browser.close()


@pytest.fixture
def launch(playwright: Playwright, browsers: dict[tuple[str, ...], Browser]) -> Iterator[Launch]:
    """A fresh page, without cookies, in a browser with these extra flags."""
    contexts: list[BrowserContext] = []

    def launch(flags: list[str]) -> Page:
        if tuple(flags) not in browsers:
            program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            browsers[tuple(flags)] = playwright.chromium.launch(executable_path=program, args=[*PLAIN, *flags])
        context = browsers[tuple(flags)].new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        return context.new_page()

    yield launch
    for context in contexts:
        context.close()


@pytest.fixture
def page(launch: Launch) -> Page:
    """A page with a microphone that may be used."""
    return launch(MICROPHONE)


@pytest.fixture
def join(room: RoomServer, media: MediaServer) -> Iterator[Join]:
    """Brings an agent into the room of the running session."""
    agents: list[ToneAgent] = []

    def join(*, face: bool = False) -> ToneAgent:
        agent = ToneAgent(media, room.room_name, face=face)
        agents.append(agent)
        agent.start()
        return agent

    yield join
    for agent in agents:
        agent.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report


def _copies(request: pytest.FixtureRequest) -> list[Molts]:
    given = getattr(request.node, "funcargs", {}).values()
    return [copy for copy in (getattr(value, "molts", value) for value in given) if isinstance(copy, Molts)]


def _keep(test: str, visitors: list[Visitor], copies: list[Molts]) -> None:
    """What somebody needs to see why a test failed: pictures, page states, the tails of all logs."""
    folder = RESULTS / test
    folder.mkdir(parents=True, exist_ok=True)
    for visitor in visitors:
        with suppress(Exception):
            visitor.describe(folder)
    for copy in copies:
        (folder / "up.txt").write_text(copy.up.output[-LOG_TAIL:])
        for log in (copy.folder / "logs").glob("*.log"):
            (folder / log.name).write_text(log.read_text(errors="replace")[-LOG_TAIL:])
