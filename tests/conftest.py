"""The shared cast: alice owns project A, bob edits and vera views it; charlie owns B and is refused in A."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from pytest_django import Settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import molts.urls  # noqa: F401 - the admin's pages, which tests look through
from avatars.models import Agent, AgentAnswer
from avatars.services import save_agent_revision
from projects.choices import MemberRole
from projects.models import ApiKey, Project
from projects.services import add_member, create_api_key, create_project
from sessions.models import RoomLink
from tests.servers import live_servers, media_server, redis_url

__all__ = ["live_servers", "media_server", "redis_url"]  # fixtures


# A shell starts what runs in its background with Ctrl-C ignored, and `nohup` does so with SIGHUP. Programs that tests
# start would inherit that, and never end when they are asked to.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# What is imported and collected stays to the end: looking through it for garbage takes a second each time.
gc.disable()

LIVE = ("tests/e2e/", "tests/molts/test_up.py")
"""Tests in which somebody talks in real time, with a whole copy of molts: these, and those that use a `stack`."""
COPIES = ("stack", "molts", "bare")
"""Fixtures of a whole session that are running copies of molts."""
WITH_COPIES = (
    "agent_runtime/",
    "e2e/test_admin_first_talk.py",
    "e2e/test_admin_looks.py",
    "e2e/test_after_the_talk.py",
    "e2e/test_check_page.py",
    "e2e/test_conversation.py",
    "e2e/test_docs_examples.py",
    "e2e/test_embed.py",
    "e2e/test_interruptions.py",
    "e2e/test_live_view.py",
    "e2e/test_security.py",
    "e2e/test_web_frozen.py",
)
"""Files whose talks use them."""


class CopiesInOneProcess(LoadScopeScheduling):  # type: ignore[misc]
    """One process tests all that talks with a copy, so that no two copies are in each other's way; others the rest."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "copies" if file.startswith(WITH_COPIES) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return CopiesInOneProcess(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks talks as `live`: they run apart from those that compute (scripts/test.py), which would make them late.

    Those that share a copy come one after the other, and in one process: the copy is started once.
    """
    items.sort(key=_when)
    for item in items:
        copy = _copy_of(item)
        if copy == "stack" or any(part in item.path.as_posix() for part in LIVE):
            item.add_marker(pytest.mark.live)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Ends a copy after the last test that needs it; left running, it would take processor time from all others."""
    yield
    copy = _copy_of(item)
    if copy and nextitem is not None and copy != _copy_of(nextitem):
        for fixture in item._fixtureinfo.name2fixturedefs[copy]:  # type: ignore[attr-defined]
            fixture.finish(item._request)  # type: ignore[attr-defined]


def _when(item: pytest.Item) -> tuple[int, bool]:
    """Its place: by the copy that it uses, and once that is emptied (`blank`) last."""
    copy = _copy_of(item)
    return (COPIES.index(copy) if copy else -1, "blank" in getattr(item, "fixturenames", ()))


def _copy_of(item: pytest.Item) -> str | None:
    names = getattr(item, "fixturenames", ())
    return next((copy for copy in COPIES if copy in names), None)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite on disk as in production: in memory, threads would share one cache and lock each other out at once."""
    default = connections["default"].settings_dict
    if default["ENGINE"].endswith("sqlite3"):
        default["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(autouse=True)
def _own_media_folder(settings: Settings, tmp_path: Path) -> None:
    """Uploads of a test never land in the data folder of the copy it runs in."""
    settings.MEDIA_ROOT = tmp_path / "media"


def make_user(name: str) -> User:
    return User.objects.create_user(username=name, email=f"{name}@example.org")


@pytest.fixture
def alice(db: None) -> User:
    """Owner of project A."""
    return make_user("alice")


@pytest.fixture
def charlie(db: None) -> User:
    """Owner of project B, a stranger to project A."""
    return make_user("charlie")


@pytest.fixture
def root(db: None) -> User:
    """A superuser without any membership."""
    return User.objects.create_superuser(username="root")


@pytest.fixture
def project(alice: User) -> Project:
    """Project A."""
    project = create_project(name="Project A", owner=alice)
    alice.refresh_from_db()
    return project


@pytest.fixture
def other_project(charlie: User) -> Project:
    """Project B."""
    project = create_project(name="Project B", owner=charlie)
    charlie.refresh_from_db()
    return project


@pytest.fixture
def bob(project: Project) -> User:
    """Editor of project A."""
    bob = make_user("bob")
    add_member(project=project, user=bob, role=MemberRole.EDITOR)
    bob.refresh_from_db()
    return bob


@pytest.fixture
def vera(project: Project) -> User:
    """Viewer of project A."""
    vera = make_user("vera")
    add_member(project=project, user=vera, role=MemberRole.VIEWER)
    vera.refresh_from_db()
    return vera


def make_agent(project: Project, name: str) -> Agent:
    """An agent with one answer and a revision."""
    agent = Agent.objects.create(
        project=project, name=name, slug=name.lower().replace(" ", "-"), greeting=f"Hello, this is {name}."
    )
    AgentAnswer.objects.create(agent=agent, position=1, question="What is your name?", answer=f"My name is {name}.")
    save_agent_revision(agent=agent)
    return agent


@pytest.fixture
def agent(project: Project) -> Agent:
    return make_agent(project, "Ada")


@pytest.fixture
def other_agent(other_project: Project) -> Agent:
    return make_agent(other_project, "Bruno")


@pytest.fixture
def link(agent: Agent) -> RoomLink:
    return RoomLink.objects.create(project=agent.project, agent=agent, name="Link to Ada")


@pytest.fixture
def other_link(other_agent: Agent) -> RoomLink:
    return RoomLink.objects.create(project=other_agent.project, agent=other_agent, name="Link to Bruno")


@pytest.fixture
def api_key(project: Project) -> tuple[ApiKey, str]:
    """Row and plain key of project A."""
    return create_api_key(project=project, name="Key of A")


@pytest.fixture
def other_api_key(other_project: Project) -> tuple[ApiKey, str]:
    """Row and plain key of project B."""
    return create_api_key(project=other_project, name="Key of B")


@pytest.fixture
def sign_in(db: None) -> Callable[[User], Client]:
    """A browser signed in as that user."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in
