"""The list of avatars tells the truth about what serves: engines, workers, vendors, and how much of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from avatars.admin.serving import engine_row
from avatars.engines.base import EngineHealth
from avatars.faces import FaceChoice
from avatars.models import Avatar
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from projects.models import Project, ProviderKey
from tests.agent_runtime.stack import free_port
from tests.forms import admin_url

pytestmark = pytest.mark.usefixtures("shipped_engines")
SignIn = Callable[[User], Client]


def worker(host: str, *, used: int, slots: int) -> WorkerInfo:
    return WorkerInfo(id=f"worker-{host}", host=host, pid=1, slots=slots, used=used)


TWO = [worker("a", used=0, slots=5), worker("b", used=1, slots=2)]


def choice(*, slots: int | None = None, ready: bool = True, live: bool = True, has_host: bool = False) -> FaceChoice:
    health = EngineHealth(ready, "as it says", slots=slots)
    return FaceChoice(key="e", label="E", description="", health=health, live=live, has_host=has_host)


@contextmanager
def serving(found: list[WorkerInfo]) -> Iterator[None]:
    """As if these avatar workers, and no others, were beating."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats, "workers", lambda kind: found if kind is WorkerKind.AVATAR else [])
        yield


def words_of(client: Client) -> str:
    page = client.get(admin_url(Avatar, "changelist")).content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize(
    ("engine", "amount"),
    [
        (choice(), "7 avatars at once"),
        (choice(has_host=True, slots=3), "3 avatars at once"),
        (choice(has_host=True, slots=12), "7 avatars at once"),
        (choice(has_host=True), "at most 7 avatars at once; its engine host has not measured itself yet"),
        (choice(live=False, has_host=True, slots=1), "1 video at once"),
        (choice(live=False, has_host=True), ""),
    ],
)
def test_an_engine_moves_as_many_as_both_its_host_and_the_workers_can(engine: FaceChoice, amount: str) -> None:
    row = engine_row(engine, TWO)

    assert (row.serves, row.state, row.amount) == (True, "ready", amount)


@pytest.mark.parametrize(
    ("engine", "workers", "state"),
    [
        (choice(), [], "no avatar worker is running"),
        (choice(has_host=True, slots=3), [], "no avatar worker is running"),
        (choice(), None, "workers cannot be seen"),
        (choice(ready=False, slots=0, has_host=True), TWO, "not set up"),
    ],
)
def test_what_holds_no_conversation_is_not_called_ready(
    engine: FaceChoice, workers: list[WorkerInfo] | None, state: str
) -> None:
    row = engine_row(engine, workers)

    assert (row.serves, row.state, row.amount) == (False, state, "")


def test_videos_alone_need_no_worker() -> None:
    assert engine_row(choice(live=False), []).serves


def test_the_list_shows_places_and_who_lacks_a_worker(project: Project, bob: User, sign_in: SignIn) -> None:
    Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})
    client = sign_in(bob)

    with serving(TWO):
        served = words_of(client)
    with serving([]):
        alone = words_of(client)

    assert served.count("Drawn character ready") == 2, "in the list and below it"
    assert "Drawn character ready conversations and videos; 7 avatars at once" in served
    assert "Host a : 0 of 5 places taken" in served
    assert alone.count("Drawn character no avatar worker is running") == 2
    assert "avatars at once" not in alone


def test_the_list_reads_the_beats_of_avatar_workers(
    project: Project, bob: User, sign_in: SignIn, redis_url: str, settings: Settings
) -> None:
    settings.REDIS_URL, settings.MOLTS_INSTANCE = redis_url, "serving"
    beats.beat_worker(worker("box", used=1, slots=3), WorkerKind.AVATAR)
    beats.beat_worker(worker("other", used=1, slots=9), WorkerKind.AGENT)
    client = sign_in(bob)
    seen = words_of(client)
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"

    assert "Host box : 1 of 3 places taken" in seen
    assert "Host other" not in seen
    assert "Drawn character workers cannot be seen" in words_of(client)


def test_a_workers_meter_is_as_full_as_the_worker(project: Project, bob: User, sign_in: SignIn) -> None:
    with serving([worker("vm", used=0, slots=5), worker("box", used=3, slots=4)]):
        page = sign_in(bob).get(admin_url(Avatar, "changelist")).content.decode()

    meters = re.findall(r'aria-valuemax="(\d)" aria-valuenow="(\d)" aria-label="([^"]+)"><rect width="(\d+)%"', page)
    assert meters == [("4", "3", "Places taken on box", "75"), ("5", "0", "Places taken on vm", "0")]


def test_the_list_says_which_vendors_have_a_key_of_the_shown_projects(
    project: Project, other_project: Project, bob: User, sign_in: SignIn
) -> None:
    ProviderKey.objects.create(project=project, name="Faces", provider="tavus")
    ProviderKey.objects.create(project=other_project, name="Theirs", provider="simli")

    words = words_of(sign_in(bob))

    assert re.search(r"Tavus[^.]{0,20} key present", words)
    assert re.search(r"Simli[^.]{0,20} needs a key", words)


def test_more_avatars_and_keys_cost_no_more_queries(project: Project, bob: User, sign_in: SignIn) -> None:
    client, url = sign_in(bob), admin_url(Avatar, "changelist")

    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(url).status_code == 200
        return len(asked)

    Avatar.objects.create(project=project, name="One")
    few = cost()
    for number in range(4):
        Avatar.objects.create(project=project, name=f"More {number}")
        ProviderKey.objects.create(project=project, name=f"Key {number}", provider="tavus")

    assert cost() == few
