"""Agents whose questions and answers the small recogniser knows: both ends of a conversation can be understood."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

from tests.e2e.stack import Molts

GREETING = "Hello. How can I help you?"
# Question, answer, and words of the answer that no other answer and no greeting holds.
MEETING = ("when is the meeting", "The meeting is today at nine.", ("meeting", "today", "nine"))
TABLE = (
    "i want to book a table for two tomorrow",
    "Okay, a table for two tomorrow evening.",
    ("table", "two", "tomorrow"),
)
PRICE = ("what is the price of a video", "The price of a video is seven.", ("price", "video", "seven"))

LONG = (
    "tell me about the weather",
    "The weather is good today. It is good in the morning, it is good in the evening, and it is good tomorrow. "
    "You can call me about the weather at any hour of the day, on any day of the week, and I can tell you more.",
)


@dataclass(frozen=True)
class Rooms:
    """Addresses of room links."""

    talk: str
    quiet: str
    expired: str
    revoked: str
    full: str
    face: str


def make_rooms(molts: Molts) -> Rooms:
    """Three agents and their links, made as an operator would. Those of `quiet` and `face` greet nobody; the latter has
    a drawn face."""
    code = f"""
        from datetime import timedelta
        from django.utils import timezone
        from avatars.models import Avatar
        from avatars.services import save_agent_revision
        from projects.services import create_project
        from django.contrib.auth import get_user_model
        owner = get_user_model().objects.get(username="admin")
        project = create_project(name="Tests", owner=owner)
        answers = {[pair[:2] for pair in (MEETING, TABLE, PRICE, LONG)]!r}
        mira = Avatar.objects.create(project=project, name="Mira", engine="puppet", options={{"character": "mira"}})
        def make(name, greeting, **fields):
            agent = Agent.objects.create(project=project, name=name, slug=name.lower(), greeting=greeting, **fields)
            for position, (question, answer) in enumerate(answers):
                AgentAnswer.objects.create(agent=agent, position=position, question=question, answer=answer)
            save_agent_revision(agent=agent)
            return agent
        def link(agent, **fields):
            return RoomLink.objects.create(project=project, agent=agent, **fields).url
        nora, theo = make("Nora", {GREETING!r}), make("Theo", "")
        past = timezone.now() - timedelta(days=1)
        result = dict(
            talk=link(nora), quiet=link(theo),
            expired=link(nora, expires_at=past), revoked=link(nora, revoked_at=past), full=link(nora, max_concurrent=1),
            face=link(make("Mira", "", avatar=mira)),
        )
    """
    return Rooms(**molts.shell(dedent(code)))
