"""`manage.py seed_demo`: the demo project with its two agents, and an admin for a machine that has none."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from avatars.faces import save_avatar_version
from avatars.models import Agent, AgentAnswer, Avatar
from avatars.services import save_agent_revision
from molts.demo import DEMO_AGENTS, DemoAgent
from projects.models import Project
from projects.services import create_project
from sessions.models import RoomLink

DEMO_PROJECT = "Demo"
ADMIN_NAME = "admin"
# Without letters that look alike: this password is read from a terminal. 16 of them are 93 bits.
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class Login:
    username: str
    password: str


class Command(BaseCommand):
    help = (
        "Create the demo project with two agents and their room links, and, where there is no superuser, an admin "
        "whose password is printed this once. Safe to repeat: what is there stays as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            login = create_first_admin()
            links = seed_demo_project()
        shown = [{"agent": link.agent.name, "url": link.url} for link in links]
        if options["json"]:
            admin = {"username": login.username, "password": login.password} if login else None
            self.stdout.write(json.dumps({"links": shown, "admin": admin}))
            return
        for link in shown:
            self.stdout.write(f"{link['agent']}: {link['url']}")
        if login:
            self.stdout.write(f"admin login: {login.username} / {login.password}")


def create_first_admin() -> Login | None:
    """A superuser with a random password; None when there is a superuser, or somebody of that name, already."""
    users = get_user_model()
    if (
        users._default_manager.filter(is_superuser=True).exists()
        or users._default_manager.filter(username=ADMIN_NAME).exists()
    ):
        return None
    password = "".join(secrets.choice(LETTERS) for _ in range(16))
    users._default_manager.create_superuser(username=ADMIN_NAME, password=password)
    return Login(ADMIN_NAME, password)


def seed_demo_project() -> list[RoomLink]:
    """The start page's links of the demo project, in the order of the demo agents; made when it does not exist.

    A project that exists is left as it is: a demo agent that was edited, deleted or shut off stays so.
    """
    project = Project.objects.filter(name=DEMO_PROJECT).order_by("created_at").first()
    if project is None:
        project = create_project(name=DEMO_PROJECT, owner=_first_admin())
        for demo in DEMO_AGENTS:
            _create_agent(project, demo)
    links = RoomLink.objects.filter(project=project, on_start_page=True, revoked_at=None).select_related("agent")
    return [link for link in links.order_by("created_at", "pk") if not link.is_expired]


def _create_agent(project: Project, demo: DemoAgent) -> None:
    avatar = Avatar.objects.create(
        project=project, name=demo.name, engine="puppet", options={"character": demo.slug}, builtin=demo.slug
    )
    save_avatar_version(avatar=avatar)
    agent = Agent.objects.create(
        project=project,
        name=demo.name,
        slug=demo.slug,
        description=demo.description,
        instructions=demo.instructions,
        greeting=demo.greeting,
        knowledge=demo.knowledge,
        avatar=avatar,
    )
    AgentAnswer.objects.bulk_create(
        AgentAnswer(agent=agent, position=position, question=question, answer=answer)
        for position, (question, answer) in enumerate(demo.answers, start=1)
    )
    save_agent_revision(agent=agent)
    RoomLink.objects.create(project=project, agent=agent, name=f"Talk to {demo.name}", on_start_page=True)


def _first_admin() -> AbstractBaseUser | None:
    return get_user_model()._default_manager.filter(is_superuser=True).order_by("pk").first()
