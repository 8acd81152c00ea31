"""The avatar worker: shows faces on this machine, one process each, as many as it has slots."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from django.conf import settings
from django.db import DatabaseError
from livekit.agents import JobRequest
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF

from agent_runtime.avatar import job, prepare
from agent_runtime.avatar.capacity import measure_slots
from agent_runtime.db import DatabaseThread
from agent_runtime.face.call import AvatarCall
from agent_runtime.worker import Worker, WorkerOptions
from molts.beats import WorkerKind
from molts.errors import Unavailable
from sessions import presence

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5  # an avatar has nothing to write; one that hangs must not keep its slot
LOOK_SECONDS = 3.0


class AvatarWorker(Worker):
    """Takes calls of agents for a face."""

    def __init__(self) -> None:
        super().__init__(
            WorkerOptions(
                kind=WorkerKind.AVATAR,
                part="avatar",
                name=settings.MOLTS_AVATAR_NAME,
                slots=settings.MOLTS_AVATAR_SLOTS or measure_slots(prepare.video_format()),
                health_port=settings.MOLTS_AVATAR_HEALTH_PORT,
                drain_seconds=settings.MOLTS_AVATAR_DRAIN_SECONDS,
                run_job=job.run_job,
                prewarm=job.prewarm,
                preload="agent_runtime.avatar.preload",
                shutdown_seconds=SHUTDOWN_SECONDS,
            )
        )

    async def run(self) -> None:
        preparing = asyncio.create_task(_keep_faces_prepared(), name="prepare-faces")
        try:
            await super().run()
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    async def _take(self, request: JobRequest) -> None:
        """The avatar publishes for the agent: to clients both are one."""
        try:
            call = AvatarCall.decode(request.job.metadata)
        except ValueError:
            logger.warning("refused a job that is no call for an avatar")
            await request.reject()
            return
        if self.is_full:
            await request.reject(terminate=False)  # another worker may have a slot
            return
        await request.accept(identity=call.avatar, name="avatar", attributes={ATTRIBUTE_PUBLISH_ON_BEHALF: call.agent})

    def _on_job_gone(self, metadata: str, identity: str) -> None:
        """Its agent learns it at once instead of after four seconds of silence."""
        with contextlib.suppress(Unavailable):
            presence.forget_avatar(identity)


async def _keep_faces_prepared() -> None:
    """At the start and whenever an avatar was saved, beside the conversations: then few of them have to wait for it."""
    database, prepared = DatabaseThread("faces"), None
    try:
        while True:
            with contextlib.suppress(DatabaseError):
                newest = await database.run(prepare.newest_change)
                if newest != prepared:
                    await prepare.prepare_apart()
                    prepared = newest
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        database.close()
