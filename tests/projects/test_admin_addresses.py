"""Addresses of the admin that nobody was given: a list takes its own filters and its search, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Field, Model
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from avatars.models import Agent, AgentRevision
from projects.list_lookups import LONGEST_SEARCH, DeclaredList, DeclaredLookups
from projects.models import ApiKey, AuditEntry, Project, ProviderKey
from projects.webhooks.models import WebhookDelivery
from sessions.models import LiveSession, RoomLink
from tests.conftest import make_agent
from tests.forms import admin_url as url
from tests.forms import messages_of
from tests.projects.world import make, make_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SignIn = Callable[[User], Client]
ALL = sorted(admin.site._registry, key=lambda model: model._meta.label)
OFTEN = (Agent, LiveSession)


def some(models: Iterable[type[Model]]) -> pytest.MarkDecorator:
    """Two models whose lists have most to filter; `make soak` looks at every one."""
    cases = [model if model in OFTEN else pytest.param(model, marks=pytest.mark.soak) for model in models]
    return pytest.mark.parametrize("model", cases, ids=lambda model: model.__name__)


MODELS = some(ALL)
WITHOUT_FORM = (LiveSession, AuditEntry, AgentRevision, WebhookDelivery)
LONG = 60_000
DIGITS = "9" * 5_000
EXPLODES = "(a+)+$"
"""Doubles its time with each letter of a name that almost fits it."""
VALUES = {
    **{"regex": EXPLODES, "iregex": "(", "year": "0", "iso_year": "-1", "in": "," * 300, "range": "1", "isnull": "x"},
    **{"date": "0000-99-99", "time": "99:99", "month": "13", "week_day": DIGITS[:50], "second": "\0"},
}
PAIRS = [
    *({"o": order} for order in ("1", "-1", "99", "-99", "x", "1.2.-3.x..", DIGITS, ".".join("1" * 3_000))),
    *({"p": page} for page in ("0", "99", "x", DIGITS, "\0")),
    *({name: value} for name in ("all", "e", "_facets", "_popup") for value in ("", "\0")),
    *({"q": words} for words in (EXPLODES, "\0", "%" * 150, "_", '"', "'", "\\", "a'b\"c", "\ud7ff\U0010ffff")),
    *({"q": words} for words in ("x" * LONG, "x " * (LONG // 2), '"' * LONG, "a%" * (LONG // 2))),
    {"pk": "1"},
    {"pk__regex": EXPLODES},
    {"": ""},
    {"__": "x"},
    {"a" * 300: "x"},
    {"no_such_field__regex": EXPLODES},
]


def viewer_of(model: type[Model], vera: User, root: User) -> User:
    """A viewer where one may look at the list, else a superuser: nobody but those sees users."""
    return root if model is User else vera


FROZEN_SECONDS = 5.0  # of computing, on any machine: a regular expression that explodes takes hours, a page a tenth


@pytest.fixture
def world(project: Project, vera: User) -> LiveSession:
    """A row of everything, among them a visitor whose name makes the regular expression explode."""
    for model in ALL:
        if model is not User:
            make(model, project)
    session = make_session(make_agent(project, "Ada"))
    LiveSession.objects.update(visitor_name="a" * 60 + "!")
    return session


def names(model: type[Model]) -> Iterator[str]:
    """Every field with every lookup and transform that Django knows of it."""
    for field in model._meta.get_fields(include_hidden=False):
        if not isinstance(field, Field):
            yield f"{field.name}__pk__regex"
            continue
        yield field.name
        yield from (f"{field.name}__{lookup}" for lookup in type(field).get_lookups())  # type: ignore[call-arg]


def far_names(model: type[Model]) -> Iterator[str]:
    """Ways through other tables, to what is written there."""
    for field in model._meta.get_fields():
        if field.related_model and isinstance(field.related_model, type):
            for far in field.related_model._meta.get_fields():
                if far.concrete:
                    yield f"{field.name}__{far.name}__regex"
                elif far.related_model:
                    yield f"{field.name}__{far.name}__pk__startswith"


def value_of(name: str) -> str:
    return next((value for lookup, value in VALUES.items() if name.endswith(f"__{lookup}")), "0")


def declared(model: type[Model]) -> set[str]:
    """What the filters of this list may take from the address."""
    found: set[str] = set()
    for each in admin.site._registry[model].list_filter:
        if isinstance(each, type):
            found.add(str(each.parameter_name))  # type: ignore[attr-defined]
        else:
            path = each if isinstance(each, str) else each[0]  # type: ignore[index]
            ends = ("", "__exact", "__id__exact", "__isnull", "__isempty", "__gte", "__lt", "_from", "_to")
            found |= {f"{path}{end}" for end in ends}
    above = admin.site._registry[model].date_hierarchy
    return found | {f"{above}__{part}" for part in ("year", "month", "day")}


def seen(client: Client, address: str, query: dict[str, str]) -> Any:
    """The answer, which came without an error and froze nothing."""
    began = time.thread_time()
    response = client.get(address, query)
    spent = time.thread_time() - began
    assert response.status_code < 500, (address, query)
    assert spent < FROZEN_SECONDS, (address, query, spent)
    return response


def test_every_list_takes_its_declared_filters_alone() -> None:
    for model in ALL:
        page = admin.site._registry[model]
        assert isinstance(page, DeclaredLookups), model
        assert issubclass(page.get_changelist(None), DeclaredList), model  # type: ignore[arg-type]


def crafted_addresses() -> list[tuple[type[Model], tuple[str, ...]]]:
    """Lists with lookups in their address, a few at a time: all of Django's on all fields, and ways to other tables."""
    found = []
    for model in ALL:
        own = declared(model)
        for kind in (names(model), far_names(model)):
            lookups = [name for name in kind if name not in own]
            found += [(model, tuple(lookups[at : at + 12])) for at in range(0, len(lookups), 12)]
    return found


@pytest.mark.parametrize("each", [12, pytest.param(1, marks=pytest.mark.soak)])
def test_every_other_lookup_is_left_out_and_named(
    each: int, world: LiveSession, vera: User, root: User, sign_in: SignIn
) -> None:
    addresses = crafted_addresses()[::each]
    assert len(addresses) > 250 / each
    clients = {model: sign_in(viewer_of(model, vera, root)) for model in ALL}
    rows = {model: list(clients[model].get(url(model, "changelist")).context["cl"].result_list) for model in ALL}
    assert all(rows.values())

    for model, lookups in addresses:
        query = {name: value_of(name) for name in lookups}
        response = seen(clients[model], url(model, "changelist"), query)
        changes = response.context["cl"]
        assert response.status_code == 200, query
        assert list(changes.result_list) == rows[model], query
        (text,) = messages_of(response)
        assert f"Not taken from the address: {sorted(lookups)[0]}" in text
        assert changes.ignored | {name for name in query if "\0" in query[name]} == set(lookups)
        assert changes.get_query_string() == "?", "the page's links carry it on"


@MODELS
def test_pages_orders_and_searches_of_any_form_are_answered(
    model: type[Model], world: LiveSession, vera: User, root: User, sign_in: SignIn
) -> None:
    client = sign_in(viewer_of(model, vera, root))
    for query in PAIRS:
        assert seen(client, url(model, "changelist"), query).status_code == 200, query
    assert seen(client, url(model, "changelist"), {"_to_field": "password"}).status_code == 400


@MODELS
def test_declared_filters_survive_values_that_they_cannot_read(
    model: type[Model], world: LiveSession, vera: User, root: User, sign_in: SignIn
) -> None:
    client = sign_in(viewer_of(model, vera, root))
    bad = ("x", "\0", "-1", DIGITS[:300], "0001-01-01T00:00:00+14:00", "9999-12-31")
    names = sorted(declared(model))
    # Every name with every value, in as many pages as there are values: a page costs a tenth of a second.
    for shift in range(len(bad)):
        query = {name: bad[(number + shift) % len(bad)] for number, name in enumerate(names)}
        assert seen(client, url(model, "changelist"), query).status_code == 200, query
    many = urlencode([(name, "1") for name in names for _ in range(9_000 // len(names))])
    assert client.get(f"{url(model, 'changelist')}?{many}").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        *({"created_at__year": year} for year in ("0", "10000", DIGITS, "2026\0")),
        {"created_at__year": "2026", "created_at__month": "2", "created_at__day": "30"},
        {"created_at__year": "9999", "created_at__month": "12", "created_at__day": "31"},
        *(pytest.param({"created_at__year": year}, marks=pytest.mark.soak) for year in ("-1", "1", "9999", "x")),
        pytest.param({"created_at__year": "2026", "created_at__month": "13"}, marks=pytest.mark.soak),
        pytest.param({"created_at__month": "5"}, marks=pytest.mark.soak),
        pytest.param({"created_at__day": "x"}, marks=pytest.mark.soak),
    ],
)
def test_a_date_above_the_list_may_be_nonsense(
    query: dict[str, str], world: LiveSession, vera: User, sign_in: SignIn
) -> None:
    for model in (AuditEntry, LiveSession, AgentRevision, RoomLink, ApiKey):
        assert seen(sign_in(vera), url(model, "changelist"), query).status_code == 200


def test_a_date_above_the_list_still_narrows_it(world: LiveSession, vera: User, sign_in: SignIn) -> None:
    client, address = sign_in(vera), url(AuditEntry, "changelist")
    entry = AuditEntry.objects.get()
    year, month, day = (str(getattr(entry.created_at, part)) for part in ("year", "month", "day"))
    query = {"created_at__year": year, "created_at__month": month, "created_at__day": day}

    found = client.get(address, query)
    assert (found.context["cl"].result_count, messages_of(found)) == (1, [])
    assert client.get(address, {"created_at__year": str(entry.created_at.year - 1)}).context["cl"].result_count == 0


def test_a_page_that_there_is_not_costs_no_filter(
    world: LiveSession, vera: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin.site._registry[AuditEntry], "list_per_page", 1)
    AuditEntry.objects.bulk_create(
        AuditEntry(project=world.project, user_name="vera", action=action, object_name="x", text="x")
        for action in ("add", "add", "add", "act")
    )
    response = sign_in(vera).get(url(AuditEntry, "changelist"), {"action__exact": "add", "p": "77"})

    assert response.context["cl"].result_count == 3
    assert "Not taken from the address: p." in messages_of(response)[0]


def test_a_long_search_is_cut_and_says_so(world: LiveSession, vera: User, sign_in: SignIn) -> None:
    agent = make_agent(world.project, "z" * 90)
    response = sign_in(vera).get(url(Agent, "changelist"), {"q": ("z" * 80 + " ") * 30})

    assert list(response.context["cl"].result_list) == [agent]
    assert messages_of(response) == [f"Only the first {LONGEST_SEARCH} characters were searched for."]


def test_completing_and_searching_everything_survive_any_words(
    world: LiveSession, vera: User, sign_in: SignIn, settings: Settings
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "words"}}
    client = sign_in(vera)
    field = {"app_label": "live_sessions", "model_name": "roomlink", "field_name": "agent"}
    for words in (query["q"] for query in PAIRS if "q" in query):
        assert seen(client, reverse("admin:autocomplete"), {**field, "term": words}).status_code == 200
        assert seen(client, reverse("admin:search"), {"s": words, "extended": "1"}).status_code == 200
    for page in ("0", "-1", "x", DIGITS, "٣", "\0"):
        assert seen(client, reverse("admin:autocomplete"), {**field, "page": page}).status_code in (200, 404)
        assert seen(client, reverse("admin:search"), {"s": "a", "extended": "1", "page": page}).status_code in (
            200,
            404,
        )
    for name in field:
        for value in ("", "x", "\0", "__class__"):
            assert seen(client, reverse("admin:autocomplete"), {**field, name: value}).status_code in (400, 403)


@MODELS
def test_an_id_may_be_anything(model: type[Model], world: LiveSession, vera: User, root: User, sign_in: SignIn) -> None:
    client = sign_in(viewer_of(model, vera, root))
    for name in ("change", "history"):
        for key in ("-1", DIGITS[:300], "_00", "9" * 19):
            assert seen(client, url(model, name, key), {}).status_code in (302, 403, 404), (name, key)


def test_the_pages_of_one_row_take_any_query(world: LiveSession, root: User, sign_in: SignIn) -> None:
    """Numbers of pages, times to look back, what a history is narrowed to, what a change page came from."""
    client = sign_in(root)
    nasty = ("x", "\0", DIGITS, "٣")
    for name in ("page", "_changelist_filters", "_popup"):
        for value in nasty:
            for page in (url(LiveSession, "change", world.pk), url(Agent, "change", world.agent_id)):
                assert seen(client, page, {name: value}).status_code == 200, (name, value)
    for value in nasty:
        assert seen(client, url(Agent, "history", world.agent_id), {"p": value}).status_code == 200
        assert seen(client, "/admin/", {"range": value}).status_code == 200
        transcript = reverse("admin:live_sessions_livesession_transcript", args=[world.pk])
        assert seen(client, transcript, {"format": value}).status_code in (200, 400)


@some(model for model in ALL if model not in WITHOUT_FORM)
def test_an_empty_form_is_filled_in_with_what_fits_alone(
    model: type[Model], world: LiveSession, root: User, sign_in: SignIn
) -> None:
    client = sign_in(root)
    fields = [each.name for each in model._meta.get_fields() if isinstance(each, Field)]
    for value in ("x", "\0", "0", DIGITS, "[", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"):
        assert seen(client, url(model, "add"), dict.fromkeys(fields, value)).status_code == 200, value
    page = client.get(url(RoomLink, "add"), {"agent": str(world.agent_id), "max_minutes": "7"})
    assert page.context["adminform"].form.initial["agent"] == str(world.agent_id)
    assert page.context["adminform"].form.initial["max_minutes"] == "7"


def test_a_selection_may_be_nonsense(world: LiveSession, root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    for model, action in ((ApiKey, "revoke"), (RoomLink, "revoke"), (Agent, "duplicate"), (ProviderKey, "no_such")):
        before = list(model._default_manager.values())
        for chosen in ("x", "\0", "-1", DIGITS):
            data = {"action": action, "_selected_action": chosen, "index": "0"}
            assert client.post(url(model, "changelist"), data).status_code in (200, 302), (model, chosen)
        assert list(model._default_manager.values()) == before
