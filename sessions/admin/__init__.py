"""The admin's pages for agents with their editor, avatars, room links and conversations."""

from sessions.admin.agents import AgentAdmin
from sessions.admin.avatars import LiveAvatarAdmin
from sessions.admin.conversations import LiveSessionAdmin
from sessions.admin.links import RoomLinkAdmin

__all__ = ["AgentAdmin", "LiveAvatarAdmin", "LiveSessionAdmin", "RoomLinkAdmin"]
