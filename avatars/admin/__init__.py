"""Revisions of agents, voices and faces. The agents' own pages tell of conversations: `sessions/admin/agents.py`."""

from avatars.admin.faces import AvatarAdmin
from avatars.admin.revisions import AgentRevisionAdmin
from avatars.admin.voices import VoiceAdmin

__all__ = ["AgentRevisionAdmin", "AvatarAdmin", "VoiceAdmin"]
