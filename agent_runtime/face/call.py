"""What an agent's job tells the avatar worker, in the metadata of the dispatch, and what both know beforehand."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

MAX_LENGTH = 1_000
SPEECH_RATE = 24_000
"""Hz of the speech that agents send and rooms hear, the same as without a face."""


@dataclass(frozen=True)
class AvatarCall:
    """Whose face is wanted, who speaks, and under which name the avatar is to join. Nothing about anyone."""

    session_id: uuid.UUID
    agent: str
    avatar: str

    @classmethod
    def new(cls, session_id: uuid.UUID, agent: str) -> AvatarCall:
        return cls(session_id, agent, f"avatar-{uuid.uuid4().hex[:12]}")

    def encode(self) -> str:
        return json.dumps({"session": str(self.session_id), "agent": self.agent, "avatar": self.avatar})

    @classmethod
    def decode(cls, metadata: str) -> AvatarCall:
        """Raises ValueError for anything but what `encode` gives."""
        if len(metadata) > MAX_LENGTH:
            raise ValueError("too long")
        try:
            given = json.loads(metadata)
            call = cls(uuid.UUID(given["session"]), given["agent"], given["avatar"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a call for an avatar") from error
        if not (isinstance(call.agent, str) and isinstance(call.avatar, str) and call.agent and call.avatar):
            raise ValueError("not a call for an avatar")
        return call
