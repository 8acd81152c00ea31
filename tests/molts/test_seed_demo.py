from __future__ import annotations

import json
import re
from datetime import datetime
from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import call_command

from avatars.models import Agent, AgentRevision
from molts.demo import DEMO_AGENTS, MIRA, OTTO, DemoAgent
from projects.choices import MemberRole
from projects.models import Member, Project
from projects.providers.base import Persona
from projects.providers.scripted.responder import Responder, Said
from sessions.models import RoomLink
from tests.conftest import make_user

pytestmark = pytest.mark.django_db


def seed(*arguments: str) -> str:
    out = StringIO()
    call_command("seed_demo", *arguments, stdout=out)
    return out.getvalue()


def test_it_creates_two_agents_with_links_and_an_admin() -> None:
    output = seed()

    project = Project.objects.get(name="Demo")
    assert [agent.name for agent in project.agents.order_by("name")] == ["Mira", "Otto"]
    links = RoomLink.objects.filter(project=project, on_start_page=True)
    assert {link.agent.name for link in links} == {"Mira", "Otto"}
    assert all(link.url in output for link in links)
    assert AgentRevision.objects.filter(agent__project=project, number=1).count() == 2
    assert [agent.avatar.builtin for agent in project.agents.all() if agent.avatar] == ["mira", "otto"]


def test_it_prints_a_password_that_signs_in_and_only_once() -> None:
    first, second = seed(), seed()

    found = re.search(r"^admin login: admin / (\S+)$", first, re.MULTILINE)
    assert found
    user = authenticate(username="admin", password=found[1])
    assert isinstance(user, User)
    assert user.is_superuser
    assert Member.objects.get(user=user).role == MemberRole.OWNER
    assert "admin login" not in second
    assert found[1] not in second


def test_it_speaks_json_for_the_supervisor() -> None:
    first, second = json.loads(seed("--json")), json.loads(seed("--json"))

    assert [link["agent"] for link in first["links"]] == ["Mira", "Otto"]
    assert all("/r/" in link["url"] for link in first["links"])
    assert first["admin"]["username"] == "admin"
    assert len(first["admin"]["password"]) == 16
    assert second == {"links": first["links"], "admin": None}


def test_it_leaves_what_is_there_as_it_is() -> None:
    seed()
    Agent.objects.filter(slug="mira").update(greeting="Ahoy.")
    Agent.objects.filter(slug="otto").delete()

    output = seed()

    assert Agent.objects.get(slug="mira").greeting == "Ahoy."
    assert not Agent.objects.filter(slug="otto").exists()
    assert "Otto" not in output
    assert "Mira" in output
    assert RoomLink.objects.count() == 1


def test_it_names_no_link_that_opens_nothing() -> None:
    seed()
    RoomLink.objects.filter(agent__slug="mira").update(revoked_at="2026-01-01T00:00:00Z")
    RoomLink.objects.filter(agent__slug="otto").update(expires_at="2026-01-01T00:00:00Z")

    assert json.loads(seed("--json"))["links"] == []


def test_it_takes_no_name_that_somebody_has() -> None:
    make_user("admin")

    output = seed()

    assert "admin login" not in output
    assert not User.objects.get(username="admin").is_superuser


def test_it_makes_no_second_superuser() -> None:
    User.objects.create_superuser("boss")

    seed()

    assert list(User.objects.values_list("username", flat=True)) == ["boss"]
    assert Member.objects.get().user.username == "boss"


# The words that the recogniser of the tests knows (fixtures/micro-whisper).
VOCABULARY = """\
hello hi hey yes no okay please thank thanks you stop wait what is the time a and book table for to at in on of
tomorrow today tonight tell me about your price video avatar how much many can could would i we do want need like my
name are where when who why it this that good morning evening goodbye help call meeting email phone number day week
hour minute open close start order cancel show weather speak english again more now next zero one two three four
five six seven eight nine ten"""
WORDS = set(VOCABULARY.split())


@pytest.mark.parametrize("demo", DEMO_AGENTS, ids=lambda demo: demo.slug)
def test_its_answers_are_distinct(demo: DemoAgent) -> None:
    questions = [question for question, _ in demo.answers]
    answers = [answer for _, answer in demo.answers]
    assert len(demo.answers) >= 12
    assert len(set(questions)) == len(questions)
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize("demo", DEMO_AGENTS, ids=lambda demo: demo.slug)
def test_its_answers_hold_words_that_a_recogniser_can_check(demo: DemoAgent) -> None:
    for text in (demo.greeting, *(answer for _, answer in demo.answers)):
        words = re.findall(r"[a-z']+", text.lower())
        assert len(WORDS.intersection(words)) >= 4, text


def test_its_greetings_are_short() -> None:
    for demo in DEMO_AGENTS:
        assert len(demo.greeting.split()) <= 10  # about three seconds of speech


@pytest.mark.parametrize(
    ("demo", "sentence", "answer"),
    [
        (MIRA, "book a table for two tomorrow", "I can book a table"),
        (MIRA, "i would like to book a table for four tonight", "I can book a table"),
        (MIRA, "what is your name", "My name is Mira"),
        (MIRA, "what is the price", "price of a room"),
        (MIRA, "where are you", "number ten"),
        (MIRA, "what hour do you close", "open at eight"),
        (MIRA, "i want to cancel", "cancel that for you"),
        (MIRA, "can i speak to you about a meeting", "a meeting of eight"),
        (MIRA, "what is your phone number", "phone number is five"),
        (MIRA, "what is your email", "email is hello"),
        (MIRA, "i want to order now", "order with me now"),
        (MIRA, "what is the weather tomorrow", "weather of tomorrow"),
        (MIRA, "do you speak english", "speak English"),
        (OTTO, "what is the price of the video avatar", "minute of the video avatar"),
        (OTTO, "how much is it", "price is zero"),
        (OTTO, "what is your name", "My name is Otto"),
        (OTTO, "what is this", "This is molts"),
        (OTTO, "how can i start", "To start"),
        (OTTO, "tell me about the avatar", "The avatar is who"),
        (OTTO, "can i speak to you about a meeting", "do not book a meeting"),
        (OTTO, "what do i need", "You need one"),
        (OTTO, "can you call my phone", "cannot call a phone"),
        (OTTO, "how many can speak to you", "Many can call"),
        (OTTO, "why is it open", "because it is yours"),
        (OTTO, "show me more please", "an agent like Mira"),
        (OTTO, "do you speak english", "speak English"),
    ],
)
def test_it_answers_what_the_recogniser_of_the_tests_can_hear(demo: DemoAgent, sentence: str, answer: str) -> None:
    assert WORDS.issuperset(sentence.split())
    persona = Persona(name=demo.name, greeting=demo.greeting, knowledge=demo.knowledge, answers=demo.answers)

    heard = [Said("assistant", demo.greeting), Said("user", sentence)]

    assert answer in Responder(persona).reply(heard, datetime(2026, 1, 5, 10, 30))
