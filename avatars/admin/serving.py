"""What this server can move avatars with right now, as the list of avatars tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.http import HttpRequest

from avatars.faces import FaceChoice
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from molts.errors import Unavailable
from projects.models import ProviderKey
from projects.scoped_admin import in_chosen_project

Workers = Sequence[WorkerInfo] | None
"""None: they cannot be seen."""


@dataclass(frozen=True)
class EngineRow:
    """An engine of ours: whether it serves, and how many avatars it can move at once."""

    choice: FaceChoice
    serves: bool
    state: str
    amount: str = ""


@dataclass(frozen=True)
class HostedRow:
    """A vendor's faces, and whether there is a key for them in the projects that are shown."""

    choice: FaceChoice
    has_key: bool


def avatar_workers() -> Workers:
    """The avatar workers that beat, by machine; None when Redis is out of reach."""
    try:
        found = beats.workers(WorkerKind.AVATAR)
    except Unavailable:
        return None
    return sorted(found, key=lambda worker: worker.host)


def engine_row(choice: FaceChoice, workers: Workers) -> EngineRow:
    """Conversations need the engine and a worker; videos the engine alone."""
    if not choice.health.ready:
        return EngineRow(choice, False, "not set up")
    if not choice.live:
        return EngineRow(choice, True, "ready", _count(choice.health.slots, "video") if choice.health.slots else "")
    if workers is None:
        return EngineRow(choice, False, "workers cannot be seen")
    if not workers:
        return EngineRow(choice, False, "no avatar worker is running")
    return EngineRow(choice, True, "ready", _at_once(choice, sum(worker.slots for worker in workers)))


def _at_once(choice: FaceChoice, places: int) -> str:
    """An avatar takes a place of a worker, and one of the engine host where the engine has one."""
    if not choice.has_host:
        return _count(places, "avatar")
    slots = choice.health.slots
    if slots is None:
        return f"at most {_count(places, 'avatar')}; its engine host has not measured itself yet"
    return _count(min(slots, places), "avatar")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'} at once"


def hosted_rows(request: HttpRequest, choices: Iterable[FaceChoice]) -> list[HostedRow]:
    hosted = [choice for choice in choices if choice.hosted]
    keys = in_chosen_project(request, ProviderKey.objects.for_actor(request.user))
    mine = set(keys.filter(provider__in=[choice.key for choice in hosted]).values_list("provider", flat=True))
    return [HostedRow(choice, choice.key in mine) for choice in hosted]
