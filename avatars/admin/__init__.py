"""Agents with their voices and faces."""

from avatars.admin.agents import AgentAdmin
from avatars.admin.faces import AvatarAdmin
from avatars.admin.revisions import AgentRevisionAdmin
from avatars.admin.voices import VoiceAdmin

__all__ = ["AgentAdmin", "AgentRevisionAdmin", "AvatarAdmin", "VoiceAdmin"]
