from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig

from avatars.signals import WorkerState, agents_leave, workers_asked
from molts.errors import Unavailable


class SessionsConfig(AppConfig):
    """The label avoids Django's own `sessions` app."""

    name = "sessions"
    label = "live_sessions"
    verbose_name = "Talk"

    def ready(self) -> None:
        agents_leave.connect(end_their_sessions)
        workers_asked.connect(tell_avatar_workers)


def end_their_sessions(*, agent_ids: Sequence[Any], **_: Any) -> None:
    """What runs with agents that are about to be deleted is ended, so that nobody is left in a room with no record."""
    from sessions.services import end_sessions_of_agents  # models are there only once the apps are

    end_sessions_of_agents(agent_ids=agent_ids)


def tell_avatar_workers(**_: Any) -> list[WorkerState] | None:
    """None when Redis is out of reach."""
    from sessions.presence import WorkerKind, workers

    try:
        found = workers(WorkerKind.AVATAR)
    except Unavailable:
        return None
    return [WorkerState(host=each.host, used=each.used, slots=each.slots) for each in found]
