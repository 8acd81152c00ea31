"""Faces in whole conversations: the real media server, `manage.py run_agent` and `manage.py run_avatar`."""

from __future__ import annotations

import asyncio

import pytest

from avatars.engines import get_engine
from avatars.engines.base import VideoFormat
from avatars.engines.cache import keep_in
from avatars.faces import make_face
from avatars.models import Agent, Avatar
from projects.models import Project
from tests.agent_runtime.stack import Stack
from tests.agent_runtime.talk import TABLE, Desk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def faces(stack: Stack) -> Stack:
    """An avatar worker, with the face of the tests prepared as on a machine that has been up for a while."""
    keep_in(stack.folder / "faces")
    get_engine("puppet").prepare(make_face(engine="puppet", options={}, portrait=None), VideoFormat())
    stack.start_avatars()
    return stack


async def agent_with_face(desk: Desk, **fields: object) -> Agent:
    agent = await desk.make_agent(**fields)

    def give() -> None:
        project = Project.objects.get(pk=agent.project_id)
        agent.avatar = Avatar.objects.create(project=project, name="Mira", engine="puppet", options={})
        agent.save()

    await desk.query(give)
    return agent


@pytest.mark.usefixtures("faces")
async def test_face_and_voice_arrive(desk: Desk) -> None:
    session = await desk.begin(await agent_with_face(desk))
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        identities = {p.identity.split("-")[0]: p for p in visitor.room.remote_participants.values()}
        end = await visitor.speak(desk.speech(TABLE))
        await visitor.wait_for_sound(end)
        said = await desk.until_said(session, 3)
        print(said, identities.keys(), len(visitor.seen.at), await desk.notices(session))
        await asyncio.sleep(1)
