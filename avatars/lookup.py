"""Finding an agent by what a program calls it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from avatars.models import Agent
from molts.errors import BadInput, NotFound

if TYPE_CHECKING:
    from projects.models import Actor

MAX_REFERENCE = 60  # characters; a slug or an id


def find_agent(*, actor: Actor, reference: str, attr: str = "agent") -> Agent:
    """The agent with this id or slug among those `actor` may see.

    Raises NotFound, and BadInput for a slug that several of the actor's projects use. `attr` names the field to mend.
    """
    agents = Agent.objects.for_actor(actor)
    agent_id = _as_id(reference)
    found = agents.filter(pk=agent_id).first() if agent_id else None
    if found is not None:
        return found
    named = list(agents.filter(slug=reference)[:2])
    if not named:
        raise NotFound("There is no such agent. GET /api/v1/agents lists their slugs and ids.", attr=attr)
    if len(named) > 1:
        raise BadInput("Several of your projects have an agent of this name. Use its id.", code="ambiguous", attr=attr)
    return named[0]


def _as_id(reference: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(reference)
    except ValueError:
        return None
